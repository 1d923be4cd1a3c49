"""Draw ComfyUI's noise or the authors' noise as a NOISE object."""

from typing import Any

import comfy.sample
import torch
from torch import Tensor

from ...egox_core.wan import released_noise

NOISES = HOST, RELEASED = "host", "released"
NOISE_TOOLTIP = (
    "host: ComfyUI's noise. released: drawn as in the authors' code (bfloat16, on the CPU). "
    "The same seed gives different noise in the two. Choose released to reproduce the authors' "
    "results."
)


class ReleasedNoise:
    """Provide the authors' noise as NOISE for SamplerCustomAdvanced."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        """Draw float32 noise in the latent's shape."""
        shape = tuple(input_latent["samples"].shape)
        batch_indices = input_latent.get("batch_index")
        if batch_indices is None:
            return released_noise(shape, self.seed)
        return released_noise((max(batch_indices) + 1, *shape[1:]), self.seed)[list(batch_indices)]


def first_noise(latent: Tensor, seed: int, noise: str) -> Tensor:  # [B, ...] -> [1, ...]
    """Draw the initial noise of one clip for a seed."""
    one_latent = torch.zeros_like(latent[:1], device="cpu")
    return (
        released_noise(tuple(one_latent.shape), seed)
        if noise == RELEASED
        else comfy.sample.prepare_noise(one_latent, seed)
    )
