"""Fuse Scenes: several exo cameras of one event become one scene."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..egox_core.scene.fusion import fuse_scenes
from .io_types import EgoXScene


class EgoXFuseScenes(io.ComfyNode):
    """Two to four scenes in one world in, one scene out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXFuseScenes",
            display_name="Fuse Scenes",
            category="EgoX/geometry",
            description="Joins the points of several exo cameras whose poses share a world and whose clips show the "
                        "same moments, so that what one camera does not see another one may.",
            inputs=[
                EgoXScene.Input("scene_1", tooltip="The scene of the first exo camera; the one the model is shown."),
                EgoXScene.Input("scene_2", tooltip="The scene of the second exo camera, with its own pose."),
                EgoXScene.Input("scene_3", optional=True, tooltip="The scene of a third exo camera."),
                EgoXScene.Input("scene_4", optional=True, tooltip="The scene of a fourth exo camera."),
            ],
            outputs=[EgoXScene.Output(display_name="scene", tooltip="All points, for Render Ego Prior.")],
        )

    @classmethod
    def execute(cls, scene_1, scene_2, scene_3=None, scene_4=None) -> io.NodeOutput:
        scenes = [scene for scene in (scene_1, scene_2, scene_3, scene_4) if scene is not None]
        fused = fuse_scenes(scenes)
        text = f"{len(fused.static):,} static points of {len(scenes)} cameras, {fused.frame_count} frames"
        return io.NodeOutput(fused, ui=ui.PreviewText(text))
