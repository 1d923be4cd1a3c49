"""Optimizer by name, and the learning rate as a pure function of the step (so that a resumed run needs no state)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from ..errors import EgoXInputError
from .config import OptimizerConfig


def make_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters.

    Raises:
        EgoXInputError: 8-bit Adam without bitsandbytes.
    """
    common = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.name == "adafactor":
        return torch.optim.Adafactor(parameters, **common)
    if config.name == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise EgoXInputError("optimizer adamw8bit", got="bitsandbytes is not installed", expected="the train extra",
                                 fix="pip install bitsandbytes, or use adamw") from error
        return AdamW8bit(parameters, betas=config.betas, eps=config.eps, **common)
    return torch.optim.AdamW(parameters, betas=config.betas, eps=config.eps, **common)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """At optimizer step ``step`` (from 0): linear warm-up, then cosine to ``final_factor`` or constant."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    factor = config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return config.learning_rate * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """For all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = value
