"""Define the nodes for comparing results.

EgoX Sweep makes lists of λ_g and LoRA strength, over which ComfyUI runs the connected nodes.
Labelled Video Grid shows a list of videos as one.
"""

from comfy_api.latest import io

from ..egox_core.errors import EgoXInputError
from ..egox_core.metrics import sweep_points
from ..egox_core.video import labelled_grid
from .host.progress import host_progress
from .host.video import native_video
from .search_words import node_schema
from .show import result_views


class EgoXSweep(io.ComfyNode):
    """List every pair of λ_g and LoRA strength, so that connected nodes run once for each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXSweep",
            display_name="EgoX Sweep",
            category="EgoX/study",
            description=(
                "Outputs all combinations of λ_g and LoRA strength as lists. Connected nodes run "
                "once per combination. Connect the results to Labelled Video Grid."
            ),
            inputs=[
                io.String.Input(
                    "lambda_g",
                    display_name="λ_g",
                    default="0, 1, 3",
                    tooltip="Values of λ_g, separated by commas. Each is a column of the grid.",
                ),
                io.String.Input(
                    "strength",
                    default="0.5, 1",
                    tooltip=(
                        "Values of the LoRA's strength, separated by commas. Each is a row of the "
                        "grid."
                    ),
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="λ_g",
                    is_output_list=True,
                    tooltip="For λ_g of Wan EgoX Sampler or EgoX Model Patch.",
                ),
                io.Float.Output(
                    display_name="strength",
                    is_output_list=True,
                    tooltip="For strength of EgoX LoRA.",
                ),
                io.String.Output(
                    display_name="label",
                    is_output_list=True,
                    tooltip="Name of each combination, for Labelled Video Grid.",
                ),
                io.Int.Output(
                    display_name="columns",
                    tooltip="Number of λ_g values, for 'columns' of Labelled Video Grid.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, lambda_g=None, strength=None) -> bool | str:
        try:
            # What a wire brings isn't known yet.
            sweep_points(
                "0" if lambda_g is None else lambda_g, "0" if strength is None else strength
            )
        except EgoXInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, lambda_g, strength) -> io.NodeOutput:
        value_pairs = sweep_points(lambda_g, strength)
        return io.NodeOutput(
            [point.lambda_g for point in value_pairs],
            [point.strength for point in value_pairs],
            [point.label for point in value_pairs],
            len({point.lambda_g for point in value_pairs}),
            ui=result_views
            and result_views.note(
                f"{len(value_pairs)} runs:\n" + "\n".join(p.label for p in value_pairs)
            ),
        )


class EgoXLabelledGrid(io.ComfyNode):
    """Arrange the videos of a list in one grid."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXLabelledGrid",
            display_name="Labelled Video Grid",
            category="EgoX/study",
            description=(
                "Arranges several videos in a grid, each with its name, as one video. The list "
                "comes from EgoX Sweep or from ComfyUI's Create List."
            ),
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "videos",
                    tooltip=(
                        "The frames of each video. A shorter video holds its last frame; a "
                        "different size is scaled to fit."
                    ),
                ),
                io.String.Input(
                    "labels",
                    default="",
                    multiline=True,
                    tooltip="Names of the videos: a list, or one per line.",
                ),
                io.Int.Input(
                    "columns",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Number of videos per row. 0: as square as possible.",
                ),
                io.Int.Input(
                    "cell_height",
                    default=0,
                    min=0,
                    max=2048,
                    step=2,
                    tooltip=(
                        "Height of each video in the grid in pixels. 0: the height of the tallest "
                        "one."
                    ),
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Frames per second of the output 'video'. 0 means 30.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="The frames of the grid."),
                io.Video.Output(
                    display_name="video", tooltip="The same frames as a video, for Save Video."
                ),
            ],
        )

    @classmethod
    def execute(cls, videos, labels, columns, cell_height, fps=(0.0,)) -> io.NodeOutput:
        cell_labels = labels if len(labels) > 1 else labels[0].splitlines()
        if len(cell_labels) > len(videos):
            raise EgoXInputError(
                "names of the grid",
                got=f"{len(cell_labels)} for {len(videos)} videos",
                expected="one per video",
                fix="take the names that are too many away",
            )
        grid_video = labelled_grid(videos, cell_labels, columns[0], cell_height[0], host_progress())
        return io.NodeOutput(grid_video, native_video(grid_video, fps[0]))
