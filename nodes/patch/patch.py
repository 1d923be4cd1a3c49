"""Patch a Wan model with the exo half and guided attention.

EgoX Model Patch and Wan EgoX Sampler both use it, so that they give the same numbers.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.gga import ExoCache, GgaOptions, gga_geometry, released_k_note
from ...egox_core.types import CameraTrajectory, Canvas, DepthVideo, GgaGeometry, RayMode
from ...egox_core.wan import build_mask, contradictions, trained_with
from ..host.progress import host_progress
from ..host.remember import remembered
from ..io_types import TrajectoryWithNotes
from .checks import (
    PatchCalls,
    SamplingCheck,
    WholeCanvasMemory,
    check_in_run,
    check_model,
    has_image_embedding,
)
from .exo_cache import list_requested_conditions
from .forward import GeometryGuidance, WideningWrapper, mark_canvas
from .lora_metadata import describe_loras, lora_metadata, position_scale, set_positions

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

KEY = "egox"
HOSTS_ATTENTION = (
    ": attention is ComfyUI's own, slower than the guided one on an H100 (5.9 and 4.9 s per step); "
    "its start option --use-flash-attention or --use-sage-attention takes another"
)
RETIRED = ("cudnn", "efficient")
"""Backends in saved graphs that no longer exist, and mean auto."""


def patch_model(
    model: ModelPatcher,
    canvas: Canvas,
    depth: DepthVideo | None,
    trajectory: CameraTrajectory | None,
    options: GgaOptions,
    rays: RayMode,
    backend: str = "auto",
    recompute_exo: int = 1,
) -> tuple[ModelPatcher, str]:
    """Clone a model with EgoX's patch, and return it with a note.

    The given model stays unchanged. Patching a patched model replaces the first patch, because
    wrappers under one key would stack.

    Raises:
        EgoXInputError: not a plain 36-channel Wan model, geometry asked for without depth or
            trajectory, depth or trajectory shorter than the canvas.
    """
    check_model(model)
    geometry = canvas_geometry(canvas, depth, trajectory, rays) if options.biases else None
    patched, note = patch_with_geometry(model, canvas, geometry, options, backend, recompute_exo)
    if geometry is None or trajectory is None or geometry.rays != "released":
        return patched, note
    intrinsics_note = released_k_note(trajectory.ego.camera, file_intrinsics(trajectory))
    return patched, f"{note}; {intrinsics_note}" if intrinsics_note else note


def patch_with_geometry(
    model: ModelPatcher,
    canvas: Canvas,
    # None if the options don't bias.
    geometry: GgaGeometry | None,
    options: GgaOptions,
    backend: str = "auto",
    # At every n-th step; 0: only at the first step.
    recompute_exo: int = 1,
) -> tuple[ModelPatcher, str]:
    """Clone a model with EgoX's patch, given checked model and ray directions."""
    loras, doubt = describe_loras(model)
    if doubt:
        logging.warning("[EgoX] %s", doubt)
    notes = [*filter(None, (loras, doubt)), f"mask {canvas.mask_mode}"]
    guidance = None
    if backend in RETIRED:
        notes.append(f"backend {backend} means auto")
        backend = "auto"
    if geometry is not None:
        guidance = GeometryGuidance(geometry, options, backend)
        notes.append(f"geometry {options.mode}, λ_g {options.lambda_g:g}, rays {geometry.rays}")
        notes += geometry.notes()
    else:
        notes.append(f"no geometry (λ_g 0 or mode off){HOSTS_ATTENTION}")
    if not has_image_embedding(model):
        notes.append("this model takes no picture embedding")
    notes += arithmetic_notes(model) + contradiction_notes(model, canvas, options, geometry)

    t, h, w_exo, w_ego = canvas.latent_grid
    patched = model.clone()
    rope_is_set = "rope_options" in model.model_options["transformer_options"]
    if position_scale(model) != 1 and not rope_is_set:
        set_positions(patched)
    exo_latent = patched.get_model_object("latent_format").process_in(canvas.exo_latent.float())
    mask_exo = build_mask(canvas.mask_mode, t, h, w_exo, w_ego)[..., :w_exo]
    exo_is_alone = is_exo_alone(model)
    exo_cache = None
    if exo_is_alone or recompute_exo != 1:
        exo_cache = ExoCache(0 if exo_is_alone else recompute_exo, alone=exo_is_alone)
    if exo_is_alone:
        notes.append(
            "exo attends only to itself, as in the training of the LoRA: computed once per run"
        )
    canvas_memory, calls = WholeCanvasMemory(w_exo), PatchCalls(exo_cache)
    for wrapper_type, wrapper in (
        (WrappersMP.APPLY_MODEL, mark_canvas),
        (WrappersMP.CALC_COND_BATCH, list_requested_conditions),
        (
            WrappersMP.DIFFUSION_MODEL,
            WideningWrapper(exo_latent, mask_exo, guidance, calls=calls, w_ego=w_ego),
        ),
        (WrappersMP.OUTER_SAMPLE, SamplingCheck(canvas, calls)),
        (WrappersMP.PREPARE_SAMPLING, canvas_memory),
    ):
        patched.remove_wrappers_with_key(wrapper_type, KEY)
        patched.add_wrapper_with_key(wrapper_type, KEY, wrapper)
    patched.remove_callbacks_with_key(CallbacksMP.ON_PRE_RUN, KEY)
    patched.add_callback_with_key(
        CallbacksMP.ON_PRE_RUN, KEY, partial(check_in_run, patch_calls_of_run=calls)
    )
    for name, value in canvas_memory.batching_patches().items():
        patched.add_object_patch(name, value)
    return patched, "; ".join(notes)


def arithmetic_notes(model: ModelPatcher) -> list[str]:
    """Describe the number format in which quantised weights are computed."""
    transformer: Any = model.get_model_object("diffusion_model")
    first_layer = transformer.blocks[0].ffn[0]
    quant_format, dtype = (
        getattr(first_layer, "quant_format", None),
        getattr(first_layer.weight, "dtype", None),
    )
    if quant_format is None and (dtype is None or dtype.itemsize > 1):
        return []
    compute_dtype = str(model.model.get_dtype_inference()).removeprefix("torch.")
    if quant_format is not None and not first_layer._full_precision_mm:
        return [f"{quant_format} weights and matrix products"]
    note = f"{quant_format or dtype} weights, matrix products in {compute_dtype}".replace(
        "torch.", ""
    )
    if quant_format is not None:
        full_precision = first_layer._full_precision_mm_config
        note += (
            ", as the file asks"
            if full_precision
            else ", since this device has none of that format"
        )
    device = model.load_device
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        note += (
            "; a file with int8_tensorwise (or, from compute 8.9 on, fp8) products may be faster"
        )
    return [note]


def is_exo_alone(model: ModelPatcher) -> bool:
    """Check whether a model's LoRA was trained with exo tokens attending only to exo tokens."""
    return trained_with(lora_metadata(model)).get("exo") == "alone"


def patch_calls(patched: ModelPatcher) -> PatchCalls:
    """Read the counts of a model that :func:`patch_model` patched."""
    return patched.get_wrappers(WrappersMP.DIFFUSION_MODEL, KEY)[0].calls


def canvas_geometry(
    canvas: Canvas, depth: DepthVideo | None, trajectory: CameraTrajectory | None, rays: RayMode
) -> GgaGeometry:
    """Compute the directions of the canvas' tokens.

    Raises:
        EgoXInputError: depth or trajectory missing or unfit.
    """
    if depth is None or trajectory is None:
        raise missing_geometry_error("depth" if depth is None else "trajectory")
    return clip_geometry(depth, trajectory, rays, canvas.frames, canvas.exo_size, canvas.ego_size)


@remembered(slots=2)
def clip_geometry(
    depth: DepthVideo,
    trajectory: CameraTrajectory,
    rays: RayMode,
    # Number of the canvas's frames, 4n+1.
    frames: int,
    exo_size: tuple[int, int],  # (width, height) px
    ego_size: tuple[int, int],  # (width, height) px
) -> GgaGeometry:
    """Compute the ray directions of a clip's tokens, and cache them for the page.

    Raises:
        EgoXInputError: depth or trajectory unfit.
    """
    return gga_geometry(
        depth,
        trajectory,
        rays,
        frames=frames,
        exo_size=exo_size,
        ego_size=ego_size,
        meta_intrinsics=file_intrinsics(trajectory),
        progress=host_progress(),
    )


def file_intrinsics(trajectory: CameraTrajectory) -> Tensor | None:  # [3, 3]
    """Look up the K in a camera path's file, or return None."""
    has_notes = isinstance(trajectory, TrajectoryWithNotes)
    return trajectory.notes.meta_intrinsics if has_notes else None


def missing_geometry_error(name: str) -> EgoXInputError:
    """Build the error for guidance without ``depth`` or ``trajectory``."""
    node = {"depth": "Depth Align", "trajectory": "Ego Pose Input"}[name]
    return EgoXInputError(
        f"{name} for the geometry",
        got="none",
        expected=f"the clip's {name}",
        fix=f"connect '{name}' of {node}, or set gga_mode to off",
    )


def contradiction_notes(
    model: ModelPatcher, canvas: Canvas, options: GgaOptions, geometry: GgaGeometry | None
) -> list[str]:
    """List settings that differ from the LoRA's training, and log them as warnings."""
    input_values: dict[str, str | float] = {"mask_mode": canvas.mask_mode, "gga_mode": options.mode}
    if geometry is not None:
        input_values |= {"lambda_g": options.lambda_g, "rays": geometry.rays}
    if has_image_embedding(model):
        input_values["image_embedding"] = canvas.image_embedding
    sentences = contradictions(input_values, lora_metadata(model))
    for sentence in sentences:
        logging.warning("[EgoX] %s", sentence)
    return sentences
