"""EgoX Model Patch: a Wan model that sees the exo half beside what the sampler works on, guided by geometry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io, ui

from ..egox_core.errors import EgoXInputError
from ..egox_core.gga.geometry import GgaGeometryOptions, gga_geometry
from ..egox_core.gga.options import GgaOptions
from ..egox_core.types import CameraTrajectory, Canvas, DepthVideo, GgaGeometry
from ..egox_core.wan.canvas import build_mask, check_canvas, crop_exo
from ..egox_core.wan.lora_settings import contradictions
from .attention_override import GeometryGuidance
from .gga_inputs import geometry_inputs, gga_inputs, gga_options
from .host.progress import host_progress
from .io_types import EgoXCanvas
from .lora_metadata import lora_metadata
from .prepare_sampling import SamplingCheck, WholeCanvasMemory
from .wan_guard import check_model, has_image_embedding
from .widening_wrapper import WideningWrapper, mark_canvas

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

KEY = "egox"


def patch_model(
    model: ModelPatcher,
    canvas: Canvas,
    depth: DepthVideo | None,
    trajectory: CameraTrajectory | None,
    options: GgaOptions,
    geometry_options: GgaGeometryOptions,
    backend: str = "auto",
) -> tuple[ModelPatcher, str]:
    """A patched clone, and what there is to say about it. The model that came in is left as it was.

    Patching a patched model replaces the first patch: wrappers under one key would stack.

    Raises:
        EgoXInputError: not a plain 36-channel Wan model, a canvas whose parts don't fit, geometry asked for without
            depth or trajectory, depth or trajectory shorter than the canvas.
    """
    check_model(model)
    check_canvas(canvas)
    geometry = canvas_geometry(canvas, depth, trajectory, geometry_options) if options.biases else None
    return patch_with_geometry(model, canvas, geometry, options, backend)


def patch_with_geometry(
    model: ModelPatcher,
    canvas: Canvas,
    geometry: GgaGeometry | None,  # None where the options don't bias
    options: GgaOptions,
    backend: str = "auto",
) -> tuple[ModelPatcher, str]:
    """As :func:`patch_model`, with directions that are already there.

    Raises:
        EgoXInputError: not a plain 36-channel Wan model, a canvas whose parts don't fit.
    """
    check_model(model)
    check_canvas(canvas)
    notes = [f"mask {canvas.mask_mode}"]
    guidance = None
    if geometry is not None:
        guidance = GeometryGuidance(geometry, options, backend)
        notes.append(f"geometry {options.mode}, λ_g {options.lambda_g:g}, rays {geometry.rays}")
        notes += missing_depth_note(geometry)
    else:
        notes.append("no geometry (λ_g 0 or mode off)")
    if not has_image_embedding(model):
        notes.append("this model takes no picture embedding")
    notes += contradiction_notes(model, canvas, options, geometry)

    t, h, w_exo, w_ego = canvas.latent_grid
    patched = model.clone()
    exo = patched.get_model_object("latent_format").process_in(canvas.exo_latent.float())
    mask_exo = crop_exo(build_mask(canvas.mask_mode, t, h, w_exo, w_ego), w_exo)
    memory = WholeCanvasMemory(w_exo)
    for kind, wrapper in (
        (WrappersMP.APPLY_MODEL, mark_canvas),
        (WrappersMP.DIFFUSION_MODEL, WideningWrapper(exo, mask_exo, guidance)),
        (WrappersMP.OUTER_SAMPLE, SamplingCheck(canvas, options.start_percent, options.end_percent)),
        (WrappersMP.PREPARE_SAMPLING, memory),
    ):
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    for name, value in memory.batching_patches().items():
        patched.add_object_patch(name, value)
    return patched, "; ".join(notes)


def canvas_geometry(canvas: Canvas, depth: DepthVideo | None, trajectory: CameraTrajectory | None,
                    options: GgaGeometryOptions) -> GgaGeometry:
    """The directions of the canvas' tokens.

    Raises:
        EgoXInputError: depth or trajectory missing or unfit.
    """
    for name, value, node in (("depth", depth, "EgoX Depth Align"), ("trajectory", trajectory, "EgoX Ego Pose Input")):
        if value is None:
            raise EgoXInputError(f"{name} for the geometry", got="none", expected=f"the clip's {name}",
                                 fix=f"connect {node}, or set gga_mode to off")
    return gga_geometry(depth, trajectory, options, frames=canvas.frames, exo_size=canvas.exo_size,
                        ego_size=canvas.ego_size, progress=host_progress())


def missing_depth_note(geometry: GgaGeometry) -> list[str]:
    """The share of exo tokens that have no depth and so guide nothing."""
    t, h, w_exo, w_ego = geometry.grid
    exo = geometry.key_trust.view(t, h, w_exo + w_ego)[..., :w_exo]
    missing = float((exo == 0).float().mean())
    return [f"{missing:.1%} of the exo tokens have no depth and guide nothing"] if missing > 0 else []


def contradiction_notes(model: ModelPatcher, canvas: Canvas, options: GgaOptions,
                        geometry: GgaGeometry | None) -> list[str]:
    """What differs from the LoRA's own training, also given to the log as warnings."""
    chosen = {"mask_mode": canvas.mask_mode, "gga_mode": options.mode}
    if geometry is not None:
        chosen |= {"lambda_g": options.lambda_g, "rays": geometry.rays}
    if has_image_embedding(model):
        chosen["image_embedding"] = canvas.image_embedding
    said = contradictions(chosen, lora_metadata(model))
    for sentence in said:
        logging.warning("[EgoX] %s", sentence)
    return said


class EgoXModelPatch(io.ComfyNode):
    """MODEL to MODEL, for any sampler of the host."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXModelPatch",
            display_name="EgoX Model Patch",
            category="EgoX/model",
            description="Lets a Wan image-to-video model see the exo video beside the ego latent that is sampled, and "
                        "guides its attention by geometry. Works with every sampler, scheduler and guider.",
            inputs=[
                io.Model.Input("model",
                               tooltip="A Wan image-to-video transformer (36 input channels), after EgoX LoRA."),
                EgoXCanvas.Input("canvas", tooltip="From EgoX Conditioning."),
                *geometry_inputs(),
                *gga_inputs(),
            ],
            outputs=[io.Model.Output(display_name="model",
                                     tooltip="The patched model; sample the ego latent with it.")],
        )

    @classmethod
    def execute(cls, model, canvas, lambda_g, gga_mode, rays, start_percent, end_percent, first_block, end_block,
                first_head, end_head, soft_trust, pooling, backend, depth=None, trajectory=None) -> io.NodeOutput:
        options = gga_options(
            lora_metadata(model), lambda_g=lambda_g, gga_mode=gga_mode, rays=rays, start_percent=start_percent,
            end_percent=end_percent, first_block=first_block, end_block=end_block, first_head=first_head,
            end_head=end_head, soft_trust=soft_trust, pooling=pooling, backend=backend)
        patched, note = patch_model(model, canvas, depth, trajectory, *options)
        if canvas.image_embedding == "released" and canvas.noise_seed is None and has_image_embedding(model):
            logging.warning("[EgoX] the picture embedding shows the noise of seed 0, because noise_seed of EgoX "
                            "Conditioning isn't set; set it to your sampler's seed")
            note += "; set noise_seed of EgoX Conditioning to your sampler's seed"
        return io.NodeOutput(patched, ui=ui.PreviewText(note))
