"""Define the node Rank Exo Cameras, which finds the camera that shows most of the wearer's view."""

from pathlib import Path

from comfy_api.latest import io

from ..egox_core.errors import EgoXInputError
from ..egox_core.file_names import META
from ..egox_core.prior import ExoCandidate, rank_exo_cameras, rank_text
from ..egox_core.safe_files import require_file
from .host.paths import resolve
from .host.progress import host_progress
from .search_words import node_schema
from .show import result_views


class EgoXRankExoCameras(io.ComfyNode):
    """Rank the takes in folders by how much of the ego view they show."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXRankExoCameras",
            display_name="Rank Exo Cameras",
            category="EgoX/input",
            description=(
                "Predicts how much of the ego view each of several exo takes would show, and "
                "outputs the best one. If a take has depth, its prior is rendered at a small size; "
                "otherwise only the poses are compared."
            ),
            inputs=[
                io.String.Input(
                    "takes",
                    default="",
                    multiline=True,
                    tooltip=(
                        "Take folders inside the input folder, one per line. Each needs a "
                        "meta.json with exo and ego cameras. A depth file makes the prediction "
                        "more accurate."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(display_name="best", tooltip="The folder of the best take."),
                io.Float.Output(
                    display_name="coverage",
                    tooltip=(
                        "Share of the ego image that the best take is predicted to show, from 0 to "
                        "1."
                    ),
                ),
                io.String.Output(
                    display_name="report", tooltip=("All takes with their predictions, best first.")
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, takes=None) -> bool | str:
        try:
            for folder, line in [] if takes is None else take_folders(takes):
                require_file(folder / META, f"take {line}")
        except EgoXInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, takes) -> io.NodeOutput:
        progress = host_progress()
        candidates = [
            ExoCandidate.of_take(folder, line, progress=progress)
            for folder, line in take_folders(takes)
        ]
        camera_ranks = rank_exo_cameras(candidates, progress=progress)
        ranking_text = rank_text(camera_ranks)
        return io.NodeOutput(
            camera_ranks[0].name,
            camera_ranks[0].coverage,
            ranking_text,
            ui=result_views and result_views.note(ranking_text),
        )


def take_folders(takes: str) -> list[tuple[Path, str]]:
    """Find the take folder that each line of a text names.

    Raises:
        EgoXInputError: no line, a folder that is not there or outside the host's folders.
    """
    lines = [line.strip() for line in takes.splitlines() if line.strip()]
    if not lines:
        raise EgoXInputError(
            "takes", got="no folder", expected="one take folder a line", fix="name the folders"
        )
    return [(resolve(line, "take folder", folder_too=True), line) for line in lines]
