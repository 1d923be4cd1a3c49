"""Sampling without the host: diffusers' Wan transformer, the authors' schedule, exo as it was in training."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gga.diffusers_processor import GgaScope
from ..progress import Progress, no_progress
from ..wan.canvas import build_mask, crop_ego, model_input
from ..wan.schedule import make_scheduler, released_schedule
from .config import ConditioningConfig
from .samples import TrainSample


@torch.no_grad()
def sample_ego(model, scope: GgaScope, sample: TrainSample, conditioning: ConditioningConfig, *, steps: int = 50,
               shift: float = 3.0, seed: int = 1234, cfg: float = 1.0, negative: Tensor | None = None,
               noise: Tensor | None = None, autocast: bool = False,
               progress: Progress = no_progress) -> Tensor:  # [1, 16, t, h, w_ego] model space
    """The ego latent of one clip by the released loop (UniPC, truncated timesteps; quirks 25, 30).

    Args:
        sample: on the model's device and dtype; its ``ego`` is not looked at beyond its size.
        noise: instead of the seed's, [1, 16, t, h, w_ego]; with ``exo_clean`` off of the whole canvas.
        autocast: for a model whose LoRA is float32 while it computes in ``sample``'s dtype.
        cfg: guidance scale; above 1 it needs ``negative``, the text embedding [1, tokens, dim] of the negative prompt.
            Both predictions get the geometry (quirks 25).

    Without ``exo_clean`` the exo half is the clean one at the level's noise, or with ``exo_loss`` sampled along.
    """
    t, h, w_exo, w_ego = sample.grid
    width = w_ego if conditioning.exo_clean else w_exo + w_ego
    sigmas, timesteps = released_schedule(steps, shift)
    scheduler = make_scheduler(sigmas, (sigmas, timesteps))
    device, dtype = sample.exo.device, sample.exo.dtype
    # On the CPU, so that every device starts from the same noise.
    if noise is None:
        noise = torch.randn(1, 16, t, h, width, generator=torch.Generator().manual_seed(seed))
    noise = noise.to(device)
    latent = noise if conditioning.exo_loss else crop_ego(noise, width - w_ego)
    mask = build_mask(conditioning.mask_mode, t, h, w_exo, w_ego).to(device, dtype)
    texts = [sample.text] if cfg == 1.0 or negative is None else [sample.text, negative]
    for step, moment in enumerate(scheduler.timesteps):
        exo = exo_half(sample.exo, noise, latent, float(sigmas[step]), conditioning)
        ego = crop_ego(latent, latent.shape[-1] - w_ego).to(dtype)
        packed = model_input(ego, exo.to(dtype), mask, sample.exo, sample.cond_ego)
        found = []
        for text in texts:
            # Around the model alone: the solver's own sums stay float32.
            with scope.active(sample.geometry, conditioning), torch.autocast(device.type, dtype, enabled=autocast):
                out = model(hidden_states=packed, timestep=moment[None].float().to(device), encoder_hidden_states=text,
                            encoder_hidden_states_image=sample.image, return_dict=False)[0]
            found.append(crop_ego(out, w_exo + w_ego - latent.shape[-1]).float())
        velocity = found[0] if len(found) == 1 else found[1] + cfg * (found[0] - found[1])
        latent = scheduler.step(velocity, moment, latent, return_dict=False)[0]
        progress(step + 1, steps, "sampling")
    return crop_ego(latent, latent.shape[-1] - w_ego)


def exo_half(clean: Tensor, noise: Tensor, latent: Tensor, sigma: float, conditioning: ConditioningConfig) -> Tensor:
    """What the model sees of exo at this level, as the LoRA was trained: [B, 16, t, h, w_exo].

    Args:
        noise: first noise, of the whole canvas where ``exo_clean`` is off.
        latent: where the sampling stands; of the whole canvas with ``exo_loss``.
    """
    w_exo = clean.shape[-1]
    if conditioning.exo_clean:
        return clean
    if conditioning.exo_loss:
        return latent[..., :w_exo]
    return (1 - sigma) * clean + sigma * noise[..., :w_exo]
