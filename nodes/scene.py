"""The scene nodes: Build Scene turns exo frames and depth into points, without any ego pose; Fuse
Scenes joins the exo cameras of one event."""

from typing import get_args

from comfy_api.latest import Types, io

from ..egox_core import stages
from ..egox_core.scene import Moving, fuse_scenes, viewer_ply
from .host.progress import host_progress
from .io_types import EgoXDepth, EgoXScene
from .search_words import node_schema
from .show import shown


class EgoXBuildScene(io.ComfyNode):
    """The static background over the whole clip, and what moves in each frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXBuildScene",
            display_name="Build Scene",
            category="EgoX/geometry",
            description="Turns the exo video and its depth into a cloud of points: the static background, fused over "
            "the whole clip, and the moving points of each frame.",
            inputs=[
                io.Image.Input(
                    "exo_images", tooltip="The exo video's frames, from Load Exo Video."
                ),
                EgoXDepth.Input("depth", tooltip="Their depth in metres, from Depth Align."),
                io.Mask.Input(
                    "dynamic_mask",
                    optional=True,
                    tooltip="Mask of all that moves, for example a SAM3 track. Overrides the depth's own mask.",
                ),
                io.Mask.Input(
                    "sky_mask", optional=True, tooltip="Sky: it has no depth and is left out."
                ),
                io.Combo.Input(
                    "moving",
                    options=list(get_args(Moving)),
                    default="auto",
                    tooltip="The parts that count as moving. auto: the mask or, without one, what differs from the "
                    "background in depth or colour. mask: the mask only. none: all is static.",
                ),
            ],
            outputs=[
                EgoXScene.Output(display_name="scene", tooltip="The points, for Render Ego Prior."),
                io.File3DPLY.Output(
                    display_name="ply",
                    tooltip="The points of the first frame, for Preview Point Cloud or Save Point Cloud. The "
                    "exo camera is the origin.",
                ),
            ],
        )

    @classmethod
    def execute(cls, exo_images, depth, moving, dynamic_mask=None, sky_mask=None) -> io.NodeOutput:
        points, report = stages.scene(
            exo_images,
            depth,
            moving=moving,
            dynamic_mask=dynamic_mask,
            sky_mask=sky_mask,
            progress=host_progress(),
        )
        return io.NodeOutput(
            points,
            Types.File3D(viewer_ply(points), "ply"),
            ui=shown and shown.note(report.text()),
        )


class EgoXFuseScenes(io.ComfyNode):
    """Two to four scenes in one world in, one scene out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXFuseScenes",
            display_name="Fuse Scenes",
            category="EgoX/geometry",
            description="Joins the points of several exo cameras whose poses share a world and whose clips show the "
            "same moments, so that what one camera does not see another one may.",
            inputs=[
                EgoXScene.Input(
                    "scene_1",
                    tooltip="The scene of the first exo camera; the one the model is shown.",
                ),
                EgoXScene.Input(
                    "scene_2", tooltip="The scene of the second exo camera, with its own pose."
                ),
                EgoXScene.Input(
                    "scene_3", optional=True, tooltip="The scene of a third exo camera."
                ),
                EgoXScene.Input(
                    "scene_4", optional=True, tooltip="The scene of a fourth exo camera."
                ),
            ],
            outputs=[
                EgoXScene.Output(display_name="scene", tooltip="All points, for Render Ego Prior.")
            ],
        )

    @classmethod
    def execute(cls, scene_1, scene_2, scene_3=None, scene_4=None) -> io.NodeOutput:
        scenes = [scene for scene in (scene_1, scene_2, scene_3, scene_4) if scene is not None]
        fused = fuse_scenes(scenes)
        text = f"{len(fused.static):,} static points of {len(scenes)} cameras, {fused.frame_count} frames"
        return io.NodeOutput(fused, ui=shown and shown.note(text))
