"""Which noise level each training sample gets: sigma in (0, 1], and the timestep that the model is told."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .config import TimestepConfig

MODEL_STEPS = 1000  # the model's timestep is 1000 sigma


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """s' = shift s / (1 + (shift - 1) s), as the flow schedulers do (quirks 30)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigma_table(config: TimestepConfig) -> Tensor:  # [levels] float32, falling
    """The scheduler's levels. With shift 1 and 1,000 levels: 1.000, 0.999, ... 0.001, the trainer's table (quirks 31).

    Built by diffusers' flow-matching scheduler, so that training and its sampling agree on every digit.
    """
    return _table(config.levels, config.shift or 1.0).clone()


@lru_cache(maxsize=8)
def _table(levels: int, shift: float) -> Tensor:
    """Kept, since every sample draws from it."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=levels, shift=shift).sigmas[:levels].clone()


def draw_sigmas(config: TimestepConfig, count: int, generator: torch.Generator) -> Tensor:  # [count] float32
    """Noise levels of ``count`` samples, from the given generator alone (so that a resumed run draws the same)."""
    if config.kind == "table":
        table = sigma_table(config)
        return table[torch.randint(0, len(table), (count,), generator=generator)]
    if config.kind == "uniform":
        sigma = torch.rand(count, generator=generator)
    else:
        sigma = torch.sigmoid(torch.randn(count, generator=generator) * config.logit_std + config.logit_mean)
    return shift_sigma(sigma.clamp(1e-3, 1.0), config.shift or 1.0)


def model_timesteps(sigmas: Tensor) -> Tensor:  # [B] -> [B] float32
    """What the model is told. Truncated to whole numbers, as the released inference does (quirks 30).

    A sum of float32 errors must not turn 14.000 into 13: anything within 1e-3 of a whole number is that number.
    """
    scaled = sigmas.double() * MODEL_STEPS
    return torch.floor(scaled + 1e-3).float()
