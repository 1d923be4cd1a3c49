"""Define the node Render Ego Prior, which renders the scene from the ego camera."""

from dataclasses import replace

import torch
from comfy_api.latest import io
from torch import Tensor

from ..egox_core import stages
from ..egox_core.errors import EgoXInputError
from ..egox_core.frame_store import store_frames
from ..egox_core.prior import PRIOR_PRESETS, prior_options, prior_preset
from ..egox_core.types import (
    DOUBTFUL,
    DYNAMIC_CHOICES,
    EARLIER,
    HIDDEN_LINES,
    UNOBSERVED,
    CameraTrajectory,
    EgoPrior,
    PointCloud,
)
from ..egox_core.wan import resolve_auto
from .host.graph import Graph, check_or_message, inputs_of, linked_node_id
from .host.memory import drawing_device
from .host.progress import host_progress
from .host.remember import PRIOR_SOURCES, remembered
from .io_types import EgoXDepth, EgoXScene, EgoXTrajectory
from .patch.lora_metadata import lora_metadata
from .scene_splat import EgoSplat
from .search_words import node_schema
from .show import depth_preview, result_views

PRESET, AUTO = "preset", "auto"


class EgoXRenderEgoPrior(io.ComfyNode):
    """Render the points of a scene from the ego camera, frame by frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXRenderEgoPrior",
            display_name="Render Ego Prior",
            category="EgoX/geometry",
            description=(
                "Renders the scene from the ego camera. The result is the ego prior, which the "
                "model completes. It is upright, and black where the exo camera saw nothing."
            ),
            inputs=[
                EgoXTrajectory.Input(
                    "trajectory", tooltip="The ego camera over time, from Ego Pose Input."
                ),
                EgoXScene.Input(
                    "scene",
                    optional=True,
                    tooltip=(
                        "The point cloud, from Build Scene. If it isn't connected, connect "
                        "exo_images and depth instead."
                    ),
                ),
                io.Image.Input(
                    "exo_images",
                    optional=True,
                    tooltip=(
                        "The frames of the exo video. Required if no scene is connected. If scene "
                        "and depth are connected too, the node also shows which exo patches each "
                        "ego pixel attends to."
                    ),
                ),
                EgoXDepth.Input(
                    "depth",
                    optional=True,
                    tooltip="The depth of the exo video, from Depth Align.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRIOR_PRESETS),
                    default="released",
                    tooltip=(
                        "released: as in the authors' renderer for their data set, without moving "
                        "points; the released LoRA was trained on it. released_wild: with moving "
                        "points, as they render other videos. clean: sharper and without gaps; "
                        "splats follow depth and sampling. exact: clean without the wearer's own "
                        "head, with the lens and scale from Depth Align. To set it in Depth Align, "
                        "connect that node's output 'preset'."
                    ),
                ),
                io.Combo.Input(
                    "dynamic",
                    options=[PRESET, *DYNAMIC_CHOICES],
                    default=PRESET,
                    tooltip=(
                        "Moving points to draw: the preset's choice, all, none (as in the paper), "
                        "all except the wearer's body, or all except the head that the camera sits "
                        "in."
                    ),
                ),
                io.Combo.Input(
                    "hidden_lines",
                    display_name="hidden sight lines",
                    options=[AUTO, *HIDDEN_LINES],
                    default=AUTO,
                    optional=True,
                    tooltip=(
                        "Points that are visible only through space that no exo frame has seen "
                        "empty, for example the back of a box through its front. draw: shown, as "
                        "in the training of the released LoRA. leave out: black. auto: as the LoRA "
                        "of 'model' was trained, otherwise draw."
                    ),
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip=(
                        "The model from EgoX LoRA. Only the LoRA's metadata are read, for the "
                        "choice 'auto'."
                    ),
                ),
                io.Boolean.Input(
                    "draw_anyway",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Renders the prior even if the ego camera is in an impossible place, for "
                        "example with its back to everything that exo saw. The node then reports "
                        "what is wrong."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(display_name="prior", tooltip="The ego prior, upright."),
                io.Mask.Output(
                    display_name="coverage", tooltip=("1 for each pixel that a point was drawn to.")
                ),
                io.Image.Output(
                    display_name="depth_preview",
                    tooltip="The prior's depth in colour: warm colours are near.",
                ),
                EgoXDepth.Output(
                    display_name="depth",
                    tooltip="The prior's z depth in metres, with the ego camera.",
                ),
                io.Mask.Output(
                    display_name="unobserved",
                    tooltip="1 for each pixel without a point: the exo camera never saw it.",
                ),
                io.Mask.Output(
                    display_name="doubtful",
                    tooltip=(
                        "1 for each pixel with a point that may be hidden by something the exo "
                        "camera never saw."
                    ),
                ),
                io.Mask.Output(
                    display_name="observed_earlier",
                    tooltip=(
                        "1 for each pixel whose point the exo camera saw only at a different time. "
                        "If all three masks are 0, exo sees the point in this very frame."
                    ),
                ),
                io.Splat.Output(
                    display_name="splat",
                    tooltip=(
                        "The points that the ego camera sees in each frame, as flat Gaussians, for "
                        "Render Splat with camera_info from Ego Pose Input. Each item of the batch "
                        "is placed in front of that one camera as the wearer saw it, so that "
                        "Render Splat turns with the head."
                    ),
                ),
            ],
            # For check_or_message, and for the node whose λ_g the geometry has
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            # The prior is seen also where the weights behind it are missing. Not an intermediate
            # output as well: the host would give a cached one after the ego video, and its form
            # shows the last.
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, preset=None) -> bool | str:
        return check_or_message(cls, check_prior_inputs)

    @classmethod
    def execute(
        cls,
        trajectory,
        preset,
        dynamic,
        scene=None,
        exo_images=None,
        depth=None,
        hidden_lines=AUTO,
        model=None,
        draw_anyway=False,
    ) -> io.NodeOutput:
        progress = host_progress()
        if scene is None:
            if exo_images is None or depth is None:
                raise missing_points_error()
            scene, _ = stages.scene(exo_images, depth, progress=progress)
        hidden_lines_choice = None if hidden_lines == AUTO else hidden_lines
        if model is not None:
            hidden_lines_choice = resolve_auto(
                "hidden_lines", hidden_lines, lora_metadata(model), fallback=None
            )
        moving_choice = None if dynamic == PRESET else dynamic
        prior, report = render_remembered(
            scene,
            trajectory,
            preset,
            moving_choice,
            hidden_lines_choice,
            draw_anyway,
            drawing_device(),
        )
        tied_trajectory = trajectory.in_world_of(scene.exo)
        PRIOR_SOURCES[prior.rgb] = {
            "scene": scene,
            "trajectory": tied_trajectory,
            "seen": prior.seen,
        }
        depth_picture, legend = depth_preview(prior.depth_m)
        ui = result_views and result_views.prior(
            cls,
            prior,
            report,
            depth_picture,
            legend,
            scene,
            trajectory,
            exo_images,
            depth,
            progress,
        )
        coverage = prior.coverage.float()
        class_masks = make_class_masks(prior.seen)
        return io.NodeOutput(
            prior.rgb,
            coverage,
            depth_picture,
            prior.depth(),
            *class_masks,
            EgoSplat(scene, trajectory, prior_options(preset, dynamic=moving_choice)),
            ui=ui,
        )


def make_class_masks(
    seen: Tensor,  # [frames, h, w] uint8 class of each pixel
) -> list[Tensor]:  # of [frames, h, w], 1 where so
    """Make masks of unobserved pixels, doubtful pixels, and pixels observed at another time.

    The masks of a long clip are stored on disk, as the prior is.
    """
    return [
        store_frames(((frame == pixel_class).float() for frame in seen), len(seen))
        for pixel_class in (UNOBSERVED, DOUBTFUL, EARLIER)
    ]


@remembered(slots=1)
def render_remembered(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    preset: str,
    dynamic: str | None,
    hidden_lines: str | None,
    draw_anyway: bool,
    device: torch.device,
) -> tuple[EgoPrior, stages.PriorReport]:
    """Render an ego prior with a report, or return the cached one of equal inputs.

    The result is remembered, because the node runs again when the strength of a LoRA in
    ``model`` changes.
    """
    ego_height = trajectory.ego.camera.height
    return stages.prior(
        scene,
        replace(trajectory, ego=trajectory.ego.resized(ego_height, ego_height)),
        preset,
        dynamic=dynamic,
        hidden_lines=hidden_lines,
        classes=True,
        draw_anyway=draw_anyway,
        device=device,
        progress=host_progress(),
    )


def check_prior_inputs(graph: Graph, node: str) -> None:
    """Check before a run that points or a scene are connected.

    Raises:
        EgoXInputError: nothing to render, no such preset.
    """
    preset = inputs_of(graph, node).get("preset")
    if isinstance(preset, str):
        prior_preset(preset)
    sources = {
        name
        for name in ("scene", "exo_images", "depth")
        if linked_node_id(graph, node, name) is not None
    }
    if "scene" not in sources and not {"exo_images", "depth"} <= sources:
        raise missing_points_error()


def missing_points_error() -> EgoXInputError:
    """Build the error for a Render Ego Prior node without a scene or points."""
    return EgoXInputError(
        "what to render",
        got="neither a scene nor images with depth",
        expected="one",
        fix="connect 'scene' from Build Scene, or 'exo_images' and 'depth'",
    )
