"""Draw the initial noise of sampling as the released pipeline does."""

import torch
from torch import Tensor


def released_noise(shape: tuple[int, ...], seed: int) -> Tensor:  # float32, of ``shape``
    """Draw noise on the CPU in bfloat16, and convert it to float32 (quirks 44).

    ``shape``: [B, 16, t, h, w_ego], the ego half alone.

    bfloat16 takes other random bits than float32: no seed of the usual noise gives these numbers.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, dtype=torch.bfloat16, generator=generator, device="cpu").float()
