"""Which model may be patched, and what is checked and measured once a run, before any step is taken.

Exactly the host's plain Wan class with 36 input channels is taken, before anything is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_base
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.sizes import MODEL_CHANNELS
from ...egox_core.types import Canvas
from ...egox_core.wan.canvas import check_sampled_latent
from ..host.steps import CALLBACK
from .calls import PatchCalls
from .windows import RETAINED, retained_places

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

FIX = (
    "load an image-to-video Wan transformer with 36 input channels: Wan 2.1 I2V 14B 480P or 720P (the released LoRA "
    "belongs to the 480P one), or the Wan 2.2 I2V high/low noise pair; text-to-video, Fun Control, VACE, Camera, "
    "Animate, S2V, HuMo, SCAIL and Dancer models have another input and can't hold the EgoX canvas"
)
REFUSED_CONDITIONING = {
    "time_dim_concat": "frames appended in time",
    "context_latents": "in-context reference latents",
    "reference_latents": "reference latents",
}


def check_model(model: ModelPatcher) -> None:
    """Refuse a model whose input isn't EgoX's canvas.

    ``isinstance`` would let the host's subclasses pass (camera, dance, VACE, ...), some of which also have 36
    channels but read them otherwise, so the class must be the plain one.

    Raises:
        EgoXInputError: another class, another channel count, or a model that takes a reference picture as tokens.
    """
    kind = type(model.model)
    if kind is not comfy.model_base.WAN21:
        raise EgoXInputError("model", got=f"a {kind.__name__} model", expected="a plain Wan image-to-video model",
                             fix=FIX)
    transformer = model.get_model_object("diffusion_model")
    if transformer.in_dim != MODEL_CHANNELS:
        raise EgoXInputError("model", got=f"a Wan model with {transformer.in_dim} input channels",
                             expected=f"{MODEL_CHANNELS} input channels (16 noisy, 4 mask, 16 condition)", fix=FIX)
    if transformer.ref_conv is not None:
        raise EgoXInputError("model", got="a Wan model with a reference-picture input (ref_conv)",
                             expected="a plain Wan image-to-video model", fix=FIX)


def has_image_embedding(model: ModelPatcher) -> bool:
    """Whether the transformer reads a picture embedding (Wan 2.1 I2V does, Wan 2.2 I2V doesn't)."""
    return model.get_model_object("diffusion_model").img_emb is not None


class SamplingCheck:
    """An OUTER_SAMPLE wrapper: refuses what doesn't fit the canvas before anything is loaded or computed, and a model
    whose first step goes past the patch."""

    def __init__(self, canvas: Canvas, calls: PatchCalls) -> None:
        self.canvas = canvas
        self.calls = calls

    def __call__(
        self,
        executor: WrapperExecutor,
        noise: Tensor,  # [B, 16, t, h, w_ego]
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:  # [B, 16, t, h, w_ego]
        guider = executor.class_obj
        model = guider.model_patcher
        check_model(model)
        check_sampled_latent(self.canvas, noise)
        check_conditioning(model, guider.conds)
        options = guider.model_options.setdefault("transformer_options", {})  # this run's own copy
        options[RETAINED] = retained_places(guider.model_options.get("context_handler"), noise)
        self.calls.reset()
        if len(args) > CALLBACK:
            args = (*args[:CALLBACK], self.calls.watch(args[CALLBACK], model), *args[CALLBACK + 1:])
        return executor(noise, *args, **kwargs)


class WholeCanvasMemory:
    """A PREPARE_SAMPLING wrapper: has the host make room for the whole canvas, not for the ego half it sees."""

    def __init__(self, w_exo: int) -> None:
        self.w_exo = w_exo  # latents

    def __call__(self, executor: WrapperExecutor, model: ModelPatcher, noise_shape: Any, *args: Any,
                 **kwargs: Any) -> Any:
        return executor(model, [*noise_shape[:-1], noise_shape[-1] + self.w_exo], *args, **kwargs)

    def batching_patches(self) -> dict[str, Any]:
        """Object patches that make the host's batching decision (cond and uncond together?) count the exo half too.

        It adds up the sizes of the input and of the named conditions, so the condition latent stands for the exo half.
        """
        return {
            "memory_usage_factor_conds": ("c_concat",),
            "memory_usage_shape_process": {"c_concat": lambda shape: [*shape[:-1], self.w_exo]},
        }


def check_conditioning(model: ModelPatcher, conds: dict[str, list[dict]]) -> None:
    """Refuse conditioning that the canvas can't be sampled with.

    Raises:
        EgoXInputError: not from EgoX Conditioning, no picture embedding on a model that has one, extra latents.
    """
    for name, entries in conds.items():
        for cond in entries or ():
            if "concat_latent_image" not in cond:
                raise EgoXInputError(f"{name} conditioning", got="no condition latent", expected="the ego prior's",
                                     fix="connect positive and negative of EgoX Conditioning to the sampler")
            if has_image_embedding(model) and cond.get("clip_vision_output") is None:
                raise EgoXInputError(
                    "picture embedding", got="none", expected="one, as this model (Wan 2.1 I2V) reads it",
                    fix="connect CLIP vision (clip_vision_h) to EgoX Conditioning, image_embedding not 'none'")
            for key, words in REFUSED_CONDITIONING.items():
                if cond.get(key) is not None:
                    raise EgoXInputError(f"{name} conditioning", got=words, expected="only what EgoX Conditioning sets",
                                         fix="take the node that adds them out of the conditioning's path")
