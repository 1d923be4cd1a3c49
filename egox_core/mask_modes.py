"""The four mask channels of the canvas: which latents the model is told to take as known.

1 = known (to the model; the host's conditioning mask is the inverse). Ego columns are never known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import EgoXInputError
from .sizes import MASK_CHANNELS

MASK_MODES = ("released", "paper", "trainer")
MASK_MODE_KEY = "egox.mask_mode"
"""Key in a LoRA file's metadata, written by our trainer; read by :mod:`lora_settings`."""


def build_mask(mode: str, t: int, h: int, w_exo: int, w_ego: int) -> Tensor:  # [1, 4, t, h, w_exo + w_ego]
    """Mask channels of the whole canvas, sizes in latents, float32 of 0 and 1.

    ``released``: the exo half of latent frame 0, all channels (the authors' inference, quirks 22).
    ``paper``: the whole exo half (Eq. 3).
    ``trainer``: as released, and also the exo half of the last latent frame in channel 3 (the released trainer leaves
    the last pixel frame marked, quirks 33).

    Raises:
        EgoXInputError: unknown mode (``auto`` must be resolved before).
    """
    if mode not in MASK_MODES:
        raise EgoXInputError("mask mode", got=repr(mode), expected=f"one of {', '.join(MASK_MODES)}",
                             fix="choose one of them; auto is resolved by lora_settings.resolve_auto")
    mask = torch.zeros(1, MASK_CHANNELS, t, h, w_exo + w_ego)
    if mode == "paper":
        mask[..., :w_exo] = 1
        return mask
    mask[:, :, 0, :, :w_exo] = 1
    if mode == "trainer":
        mask[:, MASK_CHANNELS - 1, -1, :, :w_exo] = 1
    return mask
