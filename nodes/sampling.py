"""Define the node Wan EgoX Sampler, which patches and samples a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.samplers
import node_helpers
import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy_api.latest import io
from comfy_extras.nodes_custom_sampler import (
    Noise_EmptyNoise,
    Noise_RandomNoise,
    SamplerCustomAdvanced,
)
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

import nodes as host_nodes

from ..egox_core.video import RELEASED_TINT, Tint
from ..egox_core.wan import FORM
from .gga_inputs import (
    LAMBDA,
    check_geometry,
    geometry_inputs,
    gga_inputs,
    gga_options,
    recompute_exo_input,
    wan_model_input,
)
from .host.graph import check_or_message, this_node
from .host.noise import HOST, NOISE_TOOLTIP, NOISES, ReleasedNoise
from .host.steps import TimeLeft
from .host.vae import released_embedding
from .io_types import LATENT_SOURCES, EgoXCanvas
from .patch.checks import add_run_notes, check_conditioning, has_image_embedding
from .patch.lora_metadata import describe_loras, lora_metadata
from .patch.patch import KEY, patch_calls, patch_model
from .released_sampling import released_sampler, shift_input, steps_input
from .search_words import node_schema
from .show import result_views

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..egox_core.types import CameraTrajectory, DepthVideo
    from .io_types import CanvasWithEncoders

RELEASED = "released"
LAST_STEP = 10000


def sampling_inputs() -> tuple[io.Input, ...]:
    """Make the node inputs for seed, steps, solver and geometry."""
    return (
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip=(
                "Seed of the noise. An image embedding of mode 'released' is made from the same "
                "noise. Sample Long Video adds 1 for each further chunk."
            ),
        ),
        steps_input(),
        io.Float.Input(
            "cfg",
            default=5.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip=(
                "Strength of the prompt (classifier-free guidance). The authors use 5. 1 halves "
                "the work, as distilled LoRAs need it."
            ),
        ),
        io.Combo.Input(
            "sampler",
            options=[RELEASED, *comfy.samplers.KSampler.SAMPLERS],
            default=RELEASED,
            tooltip=(
                "released: the authors' solver, the UniPC of diffusers. All others are ComfyUI's; "
                "its uni_pc is a different solver."
            ),
        ),
        io.Combo.Input(
            "scheduler",
            options=list(comfy.samplers.KSampler.SCHEDULERS),
            default="simple",
            advanced=True,
            tooltip=(
                "Spacing of the sigmas, for ComfyUI's samplers. Ignored by the sampler released, "
                "which has its own."
            ),
        ),
        shift_input(advanced=True),
        *gga_inputs(),
    )


class EgoXWanSampler(io.ComfyNode):
    """Sample the ego half with released sampling (the default) or any of ComfyUI's samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXWanSampler",
            display_name="Wan EgoX Sampler",
            category="EgoX/model",
            description=(
                "Combines EgoX Model Patch and a sampler in one node. Gives the same numbers as "
                "EgoX Model Patch with SamplerCustomAdvanced (sampler released) or with KSampler "
                "(all others)."
            ),
            inputs=[
                wan_model_input(),
                io.Conditioning.Input("positive", tooltip="From EgoX Conditioning."),
                io.Conditioning.Input("negative", tooltip="From EgoX Conditioning."),
                io.Latent.Input(
                    "latent", tooltip=("The empty ego half of the latent, from EgoX Conditioning.")
                ),
                EgoXCanvas.Input("canvas", tooltip="From EgoX Conditioning."),
                *geometry_inputs(),
                *sampling_inputs(),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default=HOST,
                    optional=True,
                    advanced=True,
                    tooltip=NOISE_TOOLTIP,
                ),
                recompute_exo_input(),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The sampled ego half of the latent, for Decode Ego Half.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lambda_g=None, model=None) -> bool | str:
        return check_or_message(cls, check_geometry, LAMBDA.check(lambda_g))

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
        latent,
        canvas,
        depth=None,
        trajectory=None,
        **sampling,  # keyword arguments of sample_clip
    ) -> io.NodeOutput:
        node_id = this_node(cls)[1] or None
        clip_inputs = (model, positive, negative, latent, canvas, depth, trajectory)
        sampled_latent, note = sample_clip(node_id, *clip_inputs, **sampling)
        return io.NodeOutput(sampled_latent, ui=result_views and result_views.note(note))


def sample_clip(
    node_id: str | None,  # that shows time left and the clip while it is made
    model: ModelPatcher,
    positive: list,
    negative: list,
    latent: dict,
    canvas: CanvasWithEncoders,
    depth: DepthVideo | None,
    trajectory: CameraTrajectory | None,
    *,
    seed: int,
    steps: int,
    cfg: float,
    sampler: str,
    scheduler: str,
    shift: float,
    start_step: int = 0,
    end_step: int = LAST_STEP,
    add_noise: bool = True,
    leftover_noise: bool = False,
    noise: str = HOST,
    recompute_exo: int = 1,
    part: str = "",  # said before the time left
    known: torch.Tensor
    | None = None,  # [1, 16, n, h, w_ego] raw: what the first latent frames are to become
    **gga: Any,  # values of gga_inputs
) -> tuple[dict, str]:
    """Sample the ego half of one clip, and return its LATENT with a note on the run.

    Raises:
        EgoXInputError: a model, canvas, geometry or schedule that can't be sampled.
    """
    guidance_options, rays = gga_options(lora_metadata(model), gga, depth)
    canvas.check_sampled(latent["samples"])
    released_solver = released_sampler(steps, shift) if sampler == RELEASED else None
    patched, note = patch_model(
        model, canvas, depth, trajectory, guidance_options, rays, recompute_exo=recompute_exo
    )
    positive, negative = reembed(patched, canvas, seed, noise, positive, negative)
    check_conditioning(
        patched,
        {
            "positive": [values for _, values in positive],
            "negative": [values for _, values in negative],
        },
        latent["samples"].shape[2:],
    )
    if known is not None:
        patched.set_model_sampler_post_cfg_function(
            HeldLatents(patched.model.process_latent_in(known))
        )
    (patched,) = ModelSamplingSD3().patch(patched, shift)
    call_counts = patch_calls(patched)
    time_left = TimeLeft(node_id, part, lambda: call_counts.warning)
    if node_id is not None:
        call_counts.kernels.report_line = time_left.show_after_last_line
        patched.add_callback_with_key(CallbacksMP.ON_PRE_RUN, KEY, time_left.loaded)
    live_preview = result_views and result_views.live(node_id, canvas.latent_colours, trajectory)
    for listener in filter(None, (time_left, live_preview)):
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, listener)
    if released_solver is None and noise == RELEASED:  # the host's KSampler draws its own
        released_solver = make_ksampler(patched, steps, sampler, scheduler)
    if released_solver is not None:
        noise_source = make_noise(seed, noise) if add_noise else Noise_EmptyNoise()
        sampled_latent = sample_range(
            patched,
            *released_solver,
            positive,
            negative,
            latent,
            noise_source,
            cfg,
            start_step,
            end_step,
            leftover_noise,
        )
    else:
        (sampled_latent,) = host_nodes.common_ksampler(
            patched,
            seed,
            steps,
            cfg,
            sampler,
            scheduler,
            positive,
            negative,
            latent,
            disable_noise=not add_noise,
            start_step=start_step,
            last_step=end_step,
            force_full_denoise=not leftover_noise,
        )
    connected_inputs = {"trajectory": trajectory, "depth": depth, **model_colours(model)}
    sources = {name: value for name, value in connected_inputs.items() if value is not None}
    sampled_latent = {**sampled_latent, LATENT_SOURCES: latent.get(LATENT_SOURCES, {}) | sources}
    return sampled_latent, add_run_notes(note, call_counts)


def model_colours(model: ModelPatcher) -> dict[str, str | None]:
    """Read a line on the model's LoRAs, and the tint that one of their files says."""
    metadata = lora_metadata(model)
    by_form = RELEASED_TINT.text() if FORM in metadata else None
    return {"loras": describe_loras(model)[0], "tint": metadata.get(Tint.KEY, by_form)}


class HeldLatents:
    """Keep a chunk's first latent frames fixed during sampling.

    A flow sampler then moves these frames from their noise straight to the known result, so that
    at every step the model sees them at the step's noise level, with any solver and over both
    models of a pair. ComfyUI's noise mask fails in the second sampling of a pair, which has no
    noise."""

    def __init__(self, known: torch.Tensor) -> None:
        self.known = known  # [1, 16, n, h, w] model space

    def __call__(self, args: dict[str, Any]) -> torch.Tensor:  # [B, 16, t, h, w]
        denoised = args["denoised"].clone()
        denoised[:, :, : self.known.shape[2]] = self.known.to(denoised)
        return denoised


def make_ksampler(
    model: ModelPatcher, steps: int, sampler: str, scheduler: str
) -> tuple[Any, torch.Tensor]:
    """Make the sampler object and noise schedule of ComfyUI's KSampler."""
    ksampler = comfy.samplers.KSampler(model, steps, model.load_device, sampler, scheduler)
    return comfy.samplers.sampler_object(sampler), ksampler.sigmas


def make_noise(seed: int, noise: str) -> Noise_RandomNoise | ReleasedNoise:
    return ReleasedNoise(seed) if noise == RELEASED else Noise_RandomNoise(seed)


def reembed(
    model: ModelPatcher,
    canvas: CanvasWithEncoders,
    seed: int,
    noise: str,
    positive: list,
    negative: list,
) -> tuple[list, list]:
    """Replace the image embedding by one that is made with this run's noise."""
    same_noise = canvas.noise_seed == seed and noise == HOST
    if canvas.image_embedding != RELEASED or not has_image_embedding(model) or same_noise:
        return positive, negative
    clip_vision = canvas.clip_vision
    assert clip_vision is not None  # EgoX Conditioning says none of a canvas without
    embedding = released_embedding(
        canvas.vae, clip_vision, canvas.exo_latent, canvas.prior_latent, seed, noise
    )
    conditioning_values = {"clip_vision_output": embedding}
    return tuple(
        node_helpers.conditioning_set_values(cond, conditioning_values)
        for cond in (positive, negative)
    )


def sample_range(
    model: ModelPatcher,
    sampler: Any,
    sigmas: torch.Tensor,
    positive: list,
    negative: list,
    latent: dict,
    noise: Any,
    cfg: float,
    start_step: int,
    end_step: int,
    leftover_noise: bool,
) -> dict:
    """Sample a part of a noise schedule with ComfyUI's SamplerCustomAdvanced."""
    sigmas = sigmas[start_step : end_step + 1].clone()
    if len(sigmas) < 2:
        return latent
    if not leftover_noise:
        sigmas[-1] = 0
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent)[0]
