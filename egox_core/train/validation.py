"""Loss on held-out clips at fixed noise and noise levels, so that two models are compared on the very same task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..gga.diffusers_processor import GgaScope
from .cached_samples import CachedSamples, Item, noise_for, sample_generator
from .config import ConditioningConfig
from .flow_loss import flow_loss
from .sample import TrainSample

VALIDATION_SEED = 20_000
LEVELS = (0.21, 0.5, 0.68, 0.81, 0.9, 0.97)  # the middles of six equal parts of the released schedule (shift 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationLoss:
    """Means over all clips and noise levels."""

    loss: float
    zero: float  # loss of predicting zero
    per_clip: dict[str, float]


@torch.no_grad()
def validation_loss(model, scope: GgaScope, samples: CachedSamples, items: Sequence[Item],
                    conditioning: ConditioningConfig, *, levels: Sequence[float] = LEVELS, wrong_take: bool = False,
                    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
                    autocast: bool = False) -> ValidationLoss:
    """Held-out loss. Leaves the model in the mode that it was in.

    Args:
        wrong_take: each clip keeps its truth, text and geometry but gets exo and prior of another take's clip.

    Raises:
        EgoXInputError: ``wrong_take`` with clips of one take alone.
    """
    was_training = model.training
    model.eval()
    total, zero, per_clip = 0.0, 0.0, {}
    for number, item in enumerate(items):
        sample = samples.load(item)
        if wrong_take:
            sample = with_conditions_of(sample, samples.load(_other_take(samples, items, number)))
        losses = []
        for level in levels:
            noise = noise_for(sample, sample_generator(VALIDATION_SEED, number, f"{level:g}"),
                              not conditioning.exo_clean)
            with torch.autocast(torch.device(device).type, dtype, enabled=autocast):
                result = flow_loss(model, scope, sample.to(device, dtype), noise.to(device, dtype),
                                   torch.tensor([level], device=device), conditioning)
            losses.append(float(result.loss))
            zero += float(result.target.square().mean())
        per_clip[sample.clips[0]] = sum(losses) / len(losses)
        total += sum(losses)
    model.train(was_training)
    count = len(items) * len(levels)
    return ValidationLoss(loss=total / count, zero=zero / count, per_clip=per_clip)


def with_conditions_of(sample: TrainSample, other: TrainSample) -> TrainSample:
    """The sample with another clip's exo, prior and image embedding."""
    return replace(sample, exo=other.exo, cond_ego=other.cond_ego, image=other.image)


def _other_take(samples: CachedSamples, items: Sequence[Item], number: int) -> Item:
    own = samples.reader.take_of(items[number].clip)
    for step in range(1, len(items)):
        other = items[(number + step) % len(items)]
        if samples.reader.take_of(other.clip) != own:
            return other
    from ..errors import EgoXInputError

    raise EgoXInputError("validation with another take's conditions", got=f"clips of {own} alone",
                         expected="at least two takes", fix="hold out more takes")
