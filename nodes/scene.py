"""Define the nodes Build Scene and Fuse Scenes.

Build Scene makes points of exo frames and depth, without any ego pose. Fuse Scenes joins the
scenes of several exo cameras of one event.
"""

from typing import get_args

from comfy_api.latest import Types, io

from ..egox_core import stages
from ..egox_core.scene import fuse_scenes, viewer_ply
from ..egox_core.types import Moving
from .host.progress import host_progress
from .io_types import EgoXDepth, EgoXScene
from .scene_splat import SceneSplat
from .search_words import node_schema
from .show import result_views


class EgoXBuildScene(io.ComfyNode):
    """Build a 3-D scene of the static background and each frame's moving points."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXBuildScene",
            display_name="Build Scene",
            category="EgoX/geometry",
            description=(
                "Builds a point cloud from the exo video and its depth: the static background, "
                "averaged over the clip, and the moving points of each frame."
            ),
            inputs=[
                io.Image.Input(
                    "exo_images", tooltip="The frames of the exo video, from Load Exo Video."
                ),
                EgoXDepth.Input(
                    "depth", tooltip=("The depth of the exo video in metres, from Depth Align.")
                ),
                io.Mask.Input(
                    "dynamic_mask",
                    optional=True,
                    tooltip=(
                        "Mask of everything that moves, for example a SAM3 track. Replaces the "
                        "depth's own mask."
                    ),
                ),
                io.Mask.Input(
                    "sky_mask",
                    optional=True,
                    tooltip="Mask of the sky, which has no depth and is left out.",
                ),
                io.Combo.Input(
                    "moving",
                    options=list(get_args(Moving)),
                    default="auto",
                    tooltip=(
                        "Selects the moving points. auto: uses the mask; without a mask, whatever "
                        "differs from the background in depth or colour. mask: uses the mask only. "
                        "none: everything is static."
                    ),
                ),
            ],
            outputs=[
                EgoXScene.Output(
                    display_name="scene", tooltip=("The point cloud, for Render Ego Prior.")
                ),
                io.File3DPLY.Output(
                    display_name="ply",
                    tooltip=(
                        "The points of the first frame, for Preview Point Cloud or Save Point "
                        "Cloud. The exo camera is the origin."
                    ),
                ),
                io.Splat.Output(
                    display_name="splat",
                    tooltip=(
                        "The points as flat Gaussians, an item of the batch for each frame if "
                        "something moves, for Render Splat, Create 3D File and other nodes that "
                        "take a SPLAT. The exo camera is the origin."
                    ),
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
            SceneSplat(points),
            ui=result_views and result_views.note(report.text()),
        )


class EgoXFuseScenes(io.ComfyNode):
    """Join two to four scenes that share one world."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXFuseScenes",
            display_name="Fuse Scenes",
            category="EgoX/geometry",
            description=(
                "Joins the point clouds of several exo cameras, so that each fills in what the "
                "others don't see. Their poses must share one world, and their clips must show the "
                "same moments."
            ),
            inputs=[
                EgoXScene.Input(
                    "scene_1",
                    tooltip="The scene of the first exo camera, whose video the model sees.",
                ),
                EgoXScene.Input(
                    "scene_2",
                    tooltip=(
                        "The scene of the second exo camera. Its pose must be in the same world as "
                        "the first."
                    ),
                ),
                EgoXScene.Input(
                    "scene_3", optional=True, tooltip="The scene of a third exo camera, if any."
                ),
                EgoXScene.Input(
                    "scene_4", optional=True, tooltip="The scene of a fourth exo camera, if any."
                ),
            ],
            outputs=[
                EgoXScene.Output(
                    display_name="scene", tooltip=("The joined point cloud, for Render Ego Prior.")
                )
            ],
        )

    @classmethod
    def execute(cls, scene_1, scene_2, scene_3=None, scene_4=None) -> io.NodeOutput:
        scenes = [scene for scene in (scene_1, scene_2, scene_3, scene_4) if scene is not None]
        fused_scene = fuse_scenes(scenes)
        text = (
            f"{len(fused_scene.static):,} static points of {len(scenes)} cameras, "
            f"{fused_scene.frame_count} frames"
        )
        return io.NodeOutput(fused_scene, ui=result_views and result_views.note(text))
