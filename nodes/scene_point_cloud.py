"""Scene to Point Cloud: the scene as a PLY file, for the host's preview and save nodes and for other programs."""

from __future__ import annotations

import io as bytes_io

from comfy_api.latest import Types, io

from ..egox_core.errors import EgoXInputError
from ..egox_core.scene.points import scene_points, write_ply
from .io_types import EgoXScene


class EgoXScenePointCloud(io.ComfyNode):
    """Static points and one frame's moving ones, as the host's 3D file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXScenePointCloud",
            display_name="EgoX Scene to Point Cloud",
            category="EgoX/geometry",
            description="The scene as a PLY point cloud, for Preview Point Cloud, Save Point Cloud and other programs.",
            inputs=[
                EgoXScene.Input("scene", tooltip="The points, from EgoX Build Scene."),
                io.Int.Input("frame", default=0, min=-1, max=100000,
                             tooltip="Whose moving points are added. -1: the static background alone."),
                io.Combo.Input("axes", options=["y up", "y down"], default="y up",
                               tooltip="y up, z backward: as 3D viewers expect. y down, z forward: the pack's own."),
            ],
            outputs=[io.File3DPLY.Output(display_name="model_3d", tooltip="The PLY file.")],
        )

    @classmethod
    def execute(cls, scene, frame, axes) -> io.NodeOutput:
        if frame >= scene.frame_count:
            raise EgoXInputError("frame", got=frame, expected=f"-1 to {scene.frame_count - 1}",
                                 fix="choose a frame of the clip")
        file = bytes_io.BytesIO()
        write_ply(scene_points(scene, None if frame < 0 else frame), file, y_up=axes == "y up")
        file.seek(0)
        return io.NodeOutput(Types.File3D(file, "ply"))
