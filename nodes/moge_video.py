"""Define the node Run MoGe on Video, which estimates the depth of a whole clip, also on a CPU."""

import copy

import torch
from comfy_api.latest import io

from ..egox_core.arrays import as_frames
from ..egox_core.depth import depth_between
from ..egox_core.frame_store import store_frames
from .host.progress import host_progress
from .search_words import node_schema

CPU_STEP = 4
"""Of how many frames MoGe sees one on a CPU, where a frame takes some seconds."""
MOST_DETAIL = 9
MoGeModel, MoGeGeometry = io.Custom("MOGE_MODEL"), io.Custom("MOGE_GEOMETRY")


class EgoXMoGeVideo(io.ComfyNode):
    """Estimate metric depth and lens of a clip by ComfyUI's MoGe, frame by frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXMoGeVideo",
            display_name="Run MoGe on Video",
            category="EgoX/geometry",
            description=(
                "Runs MoGe on a video frame by frame, for Depth Align. On a CPU MoGe sees every "
                f"{CPU_STEP}th frame, and the depth of those between is filled in. ComfyUI's own "
                "Run MoGe Inference sees every frame, and needs a GPU."
            ),
            inputs=[
                MoGeModel.Input(
                    "moge_model",
                    tooltip=(
                        "From Load MoGe Model. MoGe 2 gives depth in metres; on a CPU take its "
                        "smallest, ViT-S."
                    ),
                ),
                io.Image.Input(
                    "exo_images", tooltip="The frames of the exo video, from Load Exo Video."
                ),
            ],
            outputs=[
                MoGeGeometry.Output(
                    display_name="moge_geometry",
                    tooltip="Depth and lens of each frame, for Depth Align.",
                )
            ],
        )

    @classmethod
    def execute(cls, moge_model, exo_images) -> io.NodeOutput:
        exo_images = as_frames(exo_images, "exo frames")[..., :3]
        is_on_cpu = moge_model.load_device.type == "cpu"
        step = CPU_STEP if is_on_cpu else 1
        if is_on_cpu:
            # ComfyUI asks for half precision here, too, in which torch can't resize on a CPU.
            moge_model = copy.copy(moge_model)
            moge_model.dtype = torch.float32
        key_images = exo_images[::step]
        progress = host_progress(len(key_images))
        intrinsics = []

        def key_maps():
            for number, image in enumerate(key_images):
                progress(number, len(key_images), "depth")
                geometry = moge_model.infer(
                    image.movedim(-1, 0)[None], resolution_level=MOST_DETAIL
                )
                intrinsics.append(geometry["intrinsics"].cpu())
                yield geometry["depth"][0].float().cpu()
            progress(len(key_images), len(key_images), "depth")

        key_depth = store_frames(key_maps(), len(key_images))
        depth = store_frames(depth_between(key_depth, step, len(exo_images)), len(exo_images))
        return io.NodeOutput(
            {
                "image": exo_images.cpu(),
                "depth": depth,
                "mask": store_frames((frame.isfinite() for frame in depth), len(depth)),
                "intrinsics": torch.cat(intrinsics).repeat_interleave(step, 0)[: len(exo_images)],
                "is_metric": moge_model.version == "v2",
            }
        )
