"""Compute the flow matching loss on the ego half of the canvas, and draw noise levels."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from egox_core.frozen import frozen
from egox_core.sizes import PATCH
from egox_core.wan import TRAIN_TIMESTEPS, build_mask, model_input

from ..wan.diffusers_processor import GgaScope
from .config import ConditioningConfig, TimestepConfig
from .samples import TrainSample


def shift_noise_levels(noise_level: Tensor, shift: float) -> Tensor:  # [...] in (0, 1] -> the same
    """Shift noise levels s to shift s / (1 + (shift - 1) s), as flow matching schedulers do (quirks
    30)."""
    return shift * noise_level / (1 + (shift - 1) * noise_level)


def sigma_table(config: TimestepConfig) -> Tensor:  # [levels] float32, falling
    """Compute the noise levels of all steps of the noise scheduler.

    With shift 1 and 1,000 levels they are 1.000, 0.999, ... 0.001, the trainer's table
    (quirks 31).

    Built by diffusers' flow-matching scheduler, so that training and its sampling agree on every
    digit."""
    return _scheduler_table(config.levels, config.shift or 1.0).clone()


@lru_cache(maxsize=8)
def _scheduler_table(levels: int, shift: float) -> Tensor:
    """Compute the scheduler's noise levels once, and cache them."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=levels, shift=shift)
    return scheduler.sigmas[:levels].clone()


def draw_sigmas(
    config: TimestepConfig, count: int, generator: torch.Generator
) -> Tensor:  # [count] float32
    """Draw the noise levels of ``count`` samples from a random generator."""
    sigmas = _draw_by_kind(config, count, generator)
    if not config.uniform_share:
        return sigmas
    uniform_mask = torch.rand(count, generator=generator) < config.uniform_share
    return torch.where(
        uniform_mask, torch.rand(count, generator=generator).clamp(1e-3, 1.0), sigmas
    )


def _draw_by_kind(config: TimestepConfig, count: int, generator: torch.Generator) -> Tensor:
    if config.kind == "table":
        noise_table = sigma_table(config)
        return noise_table[torch.randint(0, len(noise_table), (count,), generator=generator)]
    if config.kind == "uniform":
        uniform_levels = torch.rand(count, generator=generator)
    else:
        uniform_levels = torch.sigmoid(
            torch.randn(count, generator=generator) * config.logit_std + config.logit_mean
        )
    return shift_noise_levels(uniform_levels.clamp(1e-3, 1.0), config.shift or 1.0)


def model_timesteps(sigmas: Tensor) -> Tensor:  # [B] -> [B] float32
    """Convert noise levels from 0 to 1 to the model's timesteps.

    They are 1000 sigma truncated to a whole number, as in the released inference (quirks
    30).

    A sum of float32 errors must not turn 14.000 into 13: anything within 1e-3 of a whole number is
    that number."""
    timesteps = sigmas.double() * TRAIN_TIMESTEPS
    return torch.floor(timesteps + 1e-3).float()


@frozen
class StepResult:
    """Result of one forward pass: the loss, target and prediction."""

    loss: Tensor  # [] mean over the batch
    clip_losses: Tensor  # [B] detached
    prediction: Tensor  # [B, 16, t, h, w_ego]
    target: Tensor  # [B, 16, t, h, w_ego] noise - clean


def noised_input(
    sample: TrainSample,
    noise: Tensor,  # [B, 16, t, h, w_ego], or of the whole canvas where ``exo_clean`` is off
    sigmas: Tensor,  # [B]
    conditioning: ConditioningConfig,
) -> Tensor:  # [B, 36, t, h, w_exo + w_ego]
    """Build the model's input of 36 channels, with noise on the ego half only.

    s and the sum are float32: bfloat16 rounds levels from .998 on to pure noise.
    """
    t, h, w_exo, w_ego = sample.grid
    noise_levels = sigmas.to(sample.ego.device, torch.float32).view(-1, 1, 1, 1, 1)

    def add_noise(clean_latent: Tensor, noise: Tensor) -> Tensor:
        return ((1 - noise_levels) * clean_latent.float() + noise_levels * noise.float()).to(
            clean_latent.dtype
        )

    noisy_ego, exo_latent = add_noise(sample.ego, noise[..., -w_ego:]), sample.exo
    if not conditioning.exo_clean:
        exo_latent = add_noise(exo_latent, noise[..., :w_exo])
    if w_exo:
        mask_channels = build_mask(conditioning.mask_mode, t, h, w_exo, w_ego)
    else:
        mask_channels = torch.zeros(1, 4, t, h, w_ego)
        mask_channels[:, :, 0] = float(sample.first_known)
    mask_channels = mask_channels.to(sample.ego).expand(sample.ego.shape[0], -1, -1, -1, -1)
    return model_input(noisy_ego, exo_latent, mask_channels, sample.exo, sample.cond_ego)


def flow_loss(
    model: nn.Module,  # diffusers' Wan transformer whose self-attention reads ``scope``
    scope: GgaScope,
    sample: TrainSample,
    noise: Tensor,  # [B, 16, t, h, w_ego], or of the whole canvas where ``exo_clean`` is off
    sigmas: Tensor,  # [B]
    conditioning: ConditioningConfig,
) -> StepResult:
    """Compute the flow matching loss of a batch of samples.

    float32 mean squared error of the predicted velocity against noise - clean, unweighted; with
    ``exo_loss`` over the whole canvas. With ``exo`` alone the exo half has time step 0, and goes
    through each block before the ego half.
    """
    t, h, w_exo, w_ego = sample.grid
    batch_size = sample.ego.shape[0]
    model_input = noised_input(sample, noise, sigmas, conditioning)
    gga_geometry = sample.geometry if sample.geometry and w_exo else (None,) * batch_size
    is_exo_alone = conditioning.exo == "alone" and w_exo > 0
    token_grid = (t, h // PATCH, w_exo // PATCH, w_ego // PATCH)
    scope.set(
        gga_geometry, conditioning.gga_options(), alone_grid=token_grid if is_exo_alone else None
    )
    model_output = model(
        hidden_states=model_input,
        timestep=model_timesteps(sigmas).to(model_input.device),
        encoder_hidden_states=sample.text,
        encoder_hidden_states_image=sample.image,
        return_dict=False,
    )[0]
    prediction = model_output[..., -w_ego:].float()
    flow_target = noise[..., -w_ego:].float() - sample.ego.float()
    clip_errors = (prediction - flow_target).square().flatten(1).mean(dim=1)
    if conditioning.exo_loss and w_exo:
        exo_error = (
            model_output[..., :w_exo].float() - (noise[..., :w_exo].float() - sample.exo.float())
        ).square()
        ego_share = w_ego / (w_exo + w_ego)
        clip_errors = ego_share * clip_errors + (1 - ego_share) * exo_error.flatten(1).mean(dim=1)
    return StepResult(
        loss=clip_errors.mean(),
        clip_losses=clip_errors.detach(),
        prediction=prediction,
        target=flow_target,
    )
