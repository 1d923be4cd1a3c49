"""Labelled Video Grid: a list of videos as one, each under its name."""

from __future__ import annotations

from comfy_api.latest import io

from ..egox_core.errors import EgoXInputError
from ..egox_core.previews.grid import labelled_grid
from .host_progress import host_progress


class EgoXLabelledGrid(io.ComfyNode):
    """Gathers what the host ran as a list."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXLabelledGrid",
            display_name="Labelled Video Grid",
            category="EgoX/study",
            description="Puts a list of videos beside each other in one video, each under its name. A list comes from "
                        "EgoX Sweep or from the host's Create List.",
            is_input_list=True,
            inputs=[
                io.Image.Input("videos", tooltip="The pictures of each video; lengths and sizes may differ: a shorter "
                                                 "one holds its last picture, another shape is fitted in."),
                io.String.Input("labels", default="", multiline=True,
                                tooltip="The names: a list of them, or one a line."),
                io.Int.Input("columns", default=0, min=0, max=64,
                             tooltip="Videos in a row. 0: as square as it gets."),
                io.Int.Input("cell_height", default=0, min=0, max=2048, step=2,
                             tooltip="Height of each picture in the grid, px. 0: as high as the highest."),
            ],
            outputs=[io.Image.Output(display_name="grid", tooltip="The pictures of the one video.")],
        )

    @classmethod
    def execute(cls, videos, labels, columns, cell_height) -> io.NodeOutput:
        names = labels if len(labels) > 1 else labels[0].splitlines()
        if len(names) > len(videos):
            raise EgoXInputError("names of the grid", got=f"{len(names)} for {len(videos)} videos",
                                 expected="one a video", fix="take the names that are too many away")
        return io.NodeOutput(labelled_grid(videos, names, columns[0], cell_height[0], host_progress()))
