"""Save Trajectory: the ego path as a file, for this pack or for other programs."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..egox_core.takes.blender import write_blender
from ..egox_core.takes.colmap import write_colmap
from ..egox_core.takes.trajectory_files import write_trajectory
from .io_types import EgoXTrajectory

OWN, COLMAP, BLENDER = "trajectory JSON", "COLMAP text", "Blender / NeRF transforms.json"


class EgoXSaveTrajectory(io.ComfyNode):
    """A trajectory in, a file in the output folder out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXSaveTrajectory",
            display_name="Save Trajectory",
            category="EgoX/input",
            description="Writes the ego camera's path to the output folder. The trajectory JSON is read again by Ego "
                        "Pose Input; the other forms are for 3D programs (upright cameras, world as in the take).",
            inputs=[
                EgoXTrajectory.Input("trajectory", tooltip="The ego camera over time, from Ego Pose Input."),
                io.String.Input("filename_prefix", default="egox/trajectory",
                                tooltip="Name of the file in the output folder; a number is added."),
                io.Combo.Input("form", options=[OWN, COLMAP, BLENDER], default=OWN,
                               tooltip="trajectory JSON: keeps everything. COLMAP text: a folder with cameras.txt and "
                                       "images.txt. transforms.json: for Blender importers and NeRF tools."),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="The written file or folder, relative to the output "
                                                                   "folder.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, trajectory, filename_prefix, form) -> io.NodeOutput:
        root = Path(folder_paths.get_output_directory())
        folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, str(root))
        place = free_place(Path(folder), name, counter, "" if form == COLMAP else ".json")
        {OWN: write_trajectory, COLMAP: write_colmap, BLENDER: write_blender}[form](place, trajectory)
        written = place.relative_to(root.resolve() if place.is_relative_to(root.resolve()) else root).as_posix()
        text = f"{written}: {len(trajectory.w2c)} poses"
        return io.NodeOutput(written, ui=ui.PreviewText(text))


def free_place(folder: Path, name: str, counter: int, suffix: str) -> Path:
    """The first numbered path from ``counter`` on that nothing has: the host counts pictures only."""
    while (place := folder / f"{name}_{counter:05d}{suffix}").exists():
        counter += 1
    return place
