"""Held-out clips during training: their loss, and samples of them as videos, PSNR and SSIM.

The loss is at fixed noise and noise levels, so that two models are compared on the very same task. The truth of the
samples is what the VAE makes of the true latent, so the figures are those of the transformer alone: a perfect one would
reach the cap, whatever the VAE loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..errors import EgoXInputError
from ..gga.diffusers_processor import GgaScope
from ..metrics.image import psnr, ssim_map
from ..video.writer import write_video
from ..wan.vae import VaeEncoder
from .config import ConditioningConfig, TrainConfig
from .loss import flow_loss
from .samples import CachedSamples, Item, TrainSample, noise_for, sample_generator
from .sampling import sample_ego

VALIDATION_SEED = 20_000
LEVELS = (0.21, 0.5, 0.68, 0.81, 0.9, 0.97)  # the middles of six equal parts of the released schedule (shift 3)
SEED = 1234
FPS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationLoss:
    """Means over all clips and noise levels."""

    loss: float
    zero: float  # loss of predicting zero
    per_clip: dict[str, float]


@torch.no_grad()
def validation_loss(model: nn.Module, scope: GgaScope, samples: CachedSamples, items: Sequence[Item],
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
    raise EgoXInputError("validation with another take's conditions", got=f"clips of {own} alone",
                         expected="at least two takes", fix="hold out more takes")


def check_vae(config: TrainConfig) -> None:
    """Checks that samples can be decoded.

    Raises:
        EgoXInputError: samples are wanted, and there is no VAE.
    """
    if config.validation.sample_steps and config.validation.vae is None:
        raise EgoXInputError("validation.sample_steps", got="no validation.vae", expected="the VAE of the cache",
                             fix="set validation.vae, or sample_steps to 0")


def validation_samples(model: nn.Module, scope: GgaScope, samples: CachedSamples, items: Sequence[Item],
                       config: TrainConfig, step: int, *, device: torch.device, dtype: torch.dtype,
                       autocast: bool = False) -> dict[str, float]:
    """Samples each clip, writes ``samples/step-N/<clip>.mp4`` (sample left, truth right); mean PSNR and SSIM.

    Raises:
        EgoXInputError: bad VAE, no torchmetrics.
    """
    vae = VaeEncoder(Path(config.validation.vae), device)
    was_training = model.training
    model.eval()
    scores = []
    for item in items:
        sample = samples.load(item).to(device, dtype)
        latent = sample_ego(model, scope, sample, config.conditioning, steps=config.validation.sample_steps,
                            shift=config.timesteps.shift or 1.0, seed=SEED, autocast=autocast)
        video, truth = vae.decode(latent[0].cpu()), vae.decode(sample.ego[0].float().cpu())
        scores.append((float(psnr(video, truth).mean()), float(ssim_map(video, truth).mean())))
        file = Path(config.output) / "samples" / f"step-{step:08d}" / f"{item.clip}.mp4"
        write_video(file, torch.cat((video, truth), dim=2), FPS, threads=1)
    model.train(was_training)
    return {"validation/psnr": sum(s[0] for s in scores) / len(scores),
            "validation/ssim": sum(s[1] for s in scores) / len(scores)}
