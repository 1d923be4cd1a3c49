"""Which model may be patched: exactly the host's plain Wan class with 36 input channels, before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_base

from ..egox_core.errors import EgoXInputError

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CHANNELS = 36  # 16 noisy latent | 4 mask | 16 condition latent

FIX = (
    "load an image-to-video Wan transformer with 36 input channels: Wan 2.1 I2V 14B 480P or 720P (the released LoRA "
    "belongs to the 480P one), or the Wan 2.2 I2V high/low noise pair; text-to-video, Fun Control, VACE, Camera, "
    "Animate, S2V, HuMo, SCAIL and Dancer models have another input and can't hold the EgoX canvas"
)


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
    if transformer.in_dim != CHANNELS:
        raise EgoXInputError("model", got=f"a Wan model with {transformer.in_dim} input channels",
                             expected=f"{CHANNELS} input channels (16 noisy, 4 mask, 16 condition)", fix=FIX)
    if transformer.ref_conv is not None:
        raise EgoXInputError("model", got="a Wan model with a reference-picture input (ref_conv)",
                             expected="a plain Wan image-to-video model", fix=FIX)


def has_image_embedding(model: ModelPatcher) -> bool:
    """Whether the transformer reads a picture embedding (Wan 2.1 I2V does, Wan 2.2 I2V doesn't)."""
    return model.get_model_object("diffusion_model").img_emb is not None
