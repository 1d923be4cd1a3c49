"""The fixed per-channel statistics of Wan 2.1's VAE: raw latent to model space and back.

A host with its own latent format (ComfyUI) applies them itself; the trainer and the tests use these.
Source: quirks 23, golden ``pack_mask``; the same numbers stand in every Wan 2.1 configuration.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .sizes import CHANNELS

LATENT_MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
               0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
LATENT_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
              3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)


def normalise_latent(raw: Tensor) -> Tensor:  # [B, 16, t, h, w] -> the same, model space
    """(raw - mean) / std, channel by channel."""
    mean, std = _statistics(raw)
    return (raw - mean) / std


def denormalise_latent(latent: Tensor) -> Tensor:  # [B, 16, t, h, w] model space -> raw
    """The inverse of :func:`normalise_latent`."""
    mean, std = _statistics(latent)
    return latent * std + mean


def _statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, CHANNELS, 1, 1, 1)
    mean = torch.tensor(LATENT_MEAN, dtype=like.dtype, device=like.device).view(shape)
    return mean, torch.tensor(LATENT_STD, dtype=like.dtype, device=like.device).view(shape)
