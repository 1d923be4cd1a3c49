"""Build Scene: exo frames and depth become points; no ego pose is needed."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io, ui

from ..egox_core.depth.resample import fit_host_mask
from ..egox_core.scene.build import MOVING_CHOICES, SceneOptions, build_scene
from ..egox_core.types import DepthVideo
from .host_progress import host_progress
from .io_types import EgoXDepth, EgoXScene


class EgoXBuildScene(io.ComfyNode):
    """The static background over the whole clip, and what moves in each frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXBuildScene",
            display_name="Build Scene",
            category="EgoX/geometry",
            description="Turns the exo video and its depth into a cloud of points: the static background, fused over "
                        "the whole clip, and the moving points of each frame.",
            inputs=[
                io.Image.Input("exo_images", tooltip="The exo video's frames, from Load Exo Video."),
                EgoXDepth.Input("depth", tooltip="Their depth in metres, from Depth Align."),
                io.Mask.Input("dynamic_mask", optional=True,
                              tooltip="What moves, for example a SAM3 track. Overrides the depth's own mask."),
                io.Mask.Input("sky_mask", optional=True, tooltip="Sky: it has no depth and is left out."),
                io.Combo.Input("moving", options=list(MOVING_CHOICES), default="auto",
                               tooltip="What counts as moving. auto: the mask or, without one, what differs from the "
                                       "background in depth or colour. mask: the mask only. none: all is static."),
                io.Float.Input("edge_filter", default=SceneOptions().max_edge, min=0.01, max=10.0, step=0.01,
                               advanced=True,
                               tooltip="Points whose depth steps by more than this share to a neighbour are dropped: "
                                       "they hang in the air between two surfaces. Render Ego Prior filters finer."),
            ],
            outputs=[EgoXScene.Output(display_name="scene", tooltip="The points, for Render Ego Prior.")],
        )

    @classmethod
    def execute(cls, exo_images, depth, moving, edge_filter, dynamic_mask=None, sky_mask=None) -> io.NodeOutput:
        options = SceneOptions(dynamic=moving, max_edge=edge_filter)
        depth = with_masks(depth, dynamic_mask, sky_mask)
        scene = build_scene(exo_images[..., :3].cpu(), depth, options, progress=host_progress())
        text = f"{len(scene.static):,} static points, {scene.frame_count} frames, frame: {scene.frame}"
        return io.NodeOutput(scene, ui=ui.PreviewText("\n".join([text, *scene.notes])))


def with_masks(depth: DepthVideo, dynamic_mask, sky_mask) -> DepthVideo:
    """The depth with the host's masks in place of its own; an empty or missing one leaves it as it is."""
    frames, height, width = depth.depth_m.shape
    for name, mask in (("dynamic", dynamic_mask), ("sky", sky_mask)):
        fitted = None if mask is None else fit_host_mask(mask, frames, height, width, f"{name} mask")
        if fitted is not None:
            depth = replace(depth, **{name: fitted})
    return depth
