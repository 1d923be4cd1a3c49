"""Sample as the authors do, with diffusers' UniPC solver and their noise schedule.

The table (quirks 29, 30) is ours, because diffusers changed its own between releases (0.34 starts
at 0.999 before the shift, later ones at 1); the solver is diffusers'. Golden: ``schedule_50``,
``denoise_6step``.

The released loop feeds the model a truncated integer timestep but the solver the exact sigma.
Through a host that takes one sigma, computes timestep = 1000 sigma and answers denoised = x - sigma
v (ComfyUI's CONST flow models), this needs no hook: the model is called at sigma' = t / 1000, v =
(x - denoised) / sigma' is recovered, and the solver gets v with its own sigma. Ten of the 999
integers miss by the last float32 bit (3e-5), which changes no output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError, needs_package

if TYPE_CHECKING:
    from diffusers import UniPCMultistepScheduler

TRAIN_TIMESTEPS = 1000
UNIPC_SETTINGS = {  # the scheduler configuration kept with the goldens
    "num_train_timesteps": TRAIN_TIMESTEPS,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "solver_order": 2,
    "solver_type": "bh2",
    "predict_x0": True,
    "lower_order_final": True,
    "final_sigmas_type": "zero",
}
ROUNDING_GUARD = 1e-4
"""In timesteps. A float32 sigma is off by up to 3e-5 of them: 999 may read 998.99997, which must
not become 998."""
FIRST_SIGMA_GAP = 1e-6
"""At sigma 1 the solver takes log 0; schedules that start there start this much below it (as in
newer diffusers)."""


def released_schedule(
    steps: int = 50,
    # That of Wan 2.1 I2V in diffusers, by the script that converts it (quirks 29).
    flow_shift: float = 3.0,
) -> tuple[
    Tensor, Tensor
]:  # [steps + 1] float32 sigmas ending in 0; [steps] int64 timesteps, truncated
    """Compute sigmas and timesteps of the released inference (quirks 30).

    Raises:
        EgoXInputError: fewer than 1 or more than 999 steps, a shift that is not positive and
            finite.
    """
    if not 1 <= steps < TRAIN_TIMESTEPS:
        raise EgoXInputError("steps", got=steps, expected="1 to 999", fix="the authors use 50")
    if not (np.isfinite(flow_shift) and flow_shift > 0):
        raise EgoXInputError(
            "flow shift", got=flow_shift, expected="a positive number", fix="the authors use 3.0"
        )
    unshifted_sigmas = 1.0 - np.linspace(1.0, 1.0 / TRAIN_TIMESTEPS, steps + 1)
    shifted_sigmas = np.flip(
        flow_shift * unshifted_sigmas / (1.0 + (flow_shift - 1.0) * unshifted_sigmas)
    )[:-1].copy()
    # The model is called at timestep / 1000, by which its answer is divided: never at 0.
    timesteps = np.maximum(1, shifted_sigmas * TRAIN_TIMESTEPS).astype(np.int64)
    sigmas = np.concatenate((shifted_sigmas, (0.0,))).astype(np.float32)
    return torch.from_numpy(sigmas), torch.from_numpy(timesteps)


def truncated_timesteps(
    sigmas: Tensor,  # [n + 1]
    # The released_schedule that ``sigmas`` is a part of.
    schedule: tuple[Tensor, Tensor] | None = None,
) -> Tensor:  # [n] int64
    """Convert each sigma but the last to an integer timestep.

    Taken from ``schedule`` where a sigma stands in it; else from the float32 sigma itself, which
    differs by one only where 1000 sigma is an integer to float32 (no entry of 50 steps at shift 1,
    3 or 5)."""
    timesteps = (
        (sigmas[:-1].double() * TRAIN_TIMESTEPS + ROUNDING_GUARD).floor().clamp_min(1).long()
    )
    if schedule is None:
        return timesteps
    timestep_of_sigma = {
        float(sigma): int(timestep)
        for sigma, timestep in zip(schedule[0][:-1], schedule[1], strict=True)
    }
    return torch.tensor(
        [
            timestep_of_sigma.get(float(sigma), int(timestep))
            for sigma, timestep in zip(sigmas[:-1], timesteps, strict=True)
        ]
    )


def make_scheduler(
    sigmas: Tensor,  # [n + 1] falling, 0...1
    # See truncated_timesteps.
    schedule: tuple[Tensor, Tensor] | None = None,
) -> UniPCMultistepScheduler:
    """Make diffusers' UniPC scheduler in the released settings, for exactly these sigmas.

    ``step(v, timestep, sample)`` then advances ``sample`` by one step given the velocity v = noise
    - clean.

    Raises:
        EgoXInputError: fewer than two sigmas, sigmas that don't fall or leave 0...1.
    """
    sigma_table = sigmas.detach().to("cpu", torch.float32)
    if sigma_table.ndim != 1 or len(sigma_table) < 2 or not torch.isfinite(sigma_table).all():
        raise EgoXInputError(
            "sigmas",
            got=f"shape {tuple(sigmas.shape)}",
            expected="two or more finite numbers",
            fix="use those of released_schedule",
        )
    if (sigma_table.diff() >= 0).any() or sigma_table[0] > 1 or sigma_table[-1] < 0:
        raise EgoXInputError(
            "sigmas",
            got=f"{sigma_table[0]:.4f} to {sigma_table[-1]:.4f}",
            expected="falling, from 1 down to 0",
            fix="use flow-matching sigmas, such as those of released_schedule",
        )
    with needs_package("diffusers", "released sampling", expected="the extra `sampling`"):
        from diffusers import UniPCMultistepScheduler
    scheduler = UniPCMultistepScheduler(**UNIPC_SETTINGS)
    scheduler.set_timesteps(len(sigma_table) - 1)
    scheduler.timesteps = truncated_timesteps(sigma_table, schedule)
    scheduler.sigmas = sigma_table.clamp_max(1 - FIRST_SIGMA_GAP)
    # By index, since truncated timesteps can repeat and a look-up by value would then jump.
    scheduler.set_begin_index(0)
    return scheduler


@torch.no_grad()
def sample_released(
    # Has the form model(x, sigma [B], **extra_args) -> denoised, and is a CONST flow model.
    model: Callable[..., Tensor],
    x: Tensor,  # [B, 16, t, h, w] noise, float32
    sigmas: Tensor,  # [n + 1]
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    # See truncated_timesteps.
    schedule: tuple[Tensor, Tensor] | None = None,
) -> Tensor:  # [B, 16, t, h, w]
    """Sample with diffusers' UniPC, as a k-diffusion style sampler function.

    It works on any model that answers denoised at a sigma.

    The host scales the first noise by sigma (0.9997); the released loop doesn't. Where ``model``
    carries the host's ``noise`` and an all-zero ``latent_image``, the unscaled noise is taken, bit
    for bit.

    ``callback`` gets ``{"x", "i", "sigma", "sigma_hat", "denoised"}`` each step and may raise to
    cancel; ``disable`` (the console bar of other samplers) is accepted and without effect.
    """
    del disable
    scheduler = make_scheduler(sigmas, schedule)
    extra_args = extra_args or {}
    x = _unscaled_noise(model, x, float(sigmas[0]))
    for step, timestep in enumerate(scheduler.timesteps):
        model_sigma = (timestep.double() / TRAIN_TIMESTEPS).float().to(x.device)
        denoised = model(x, model_sigma.expand(x.shape[0]), **extra_args)
        velocity = (x - denoised) / model_sigma
        if callback is not None:
            sigma = sigmas[step]
            callback(
                {
                    "x": x,
                    "i": step,
                    "sigma": sigma,
                    "sigma_hat": sigma,
                    "denoised": x - sigma.to(x) * velocity,
                }
            )
        x = scheduler.step(velocity, timestep, x, return_dict=False)[0]
    return x


def _unscaled_noise(model: object, x: Tensor, first_sigma: float) -> Tensor:
    noise, latent = getattr(model, "noise", None), getattr(model, "latent_image", None)
    starts_at_noise = first_sigma > 1 - 2 / TRAIN_TIMESTEPS
    if not starts_at_noise or noise is None or latent is None or bool(latent.any()):
        return x
    return noise.to(x).clone()
