"""Samples of held-out clips during training, as videos and as PSNR and SSIM.

The truth is what the VAE makes of the true latent, so the figures are those of the transformer alone: a perfect one
would reach the cap, whatever the VAE loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..data.vae_encoder import VaeEncoder
from ..errors import EgoXInputError
from ..gga.diffusers_processor import GgaScope
from ..metrics.image import psnr, ssim_map
from ..video_write import write_video
from .cached_samples import CachedSamples, Item
from .config import TrainConfig
from .sampling import sample_ego

SEED = 1234
FPS = 20.0


def check_vae(config: TrainConfig) -> None:
    """Raises EgoXInputError where samples are asked for without a VAE to decode them."""
    if config.validation.sample_steps and config.validation.vae is None:
        raise EgoXInputError("validation.sample_steps", got="no validation.vae", expected="the VAE of the cache",
                             fix="set validation.vae, or sample_steps to 0")


def validation_samples(model, scope: GgaScope, samples: CachedSamples, items: Sequence[Item], config: TrainConfig,
                       step: int, *, device: torch.device, dtype: torch.dtype,
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
        made, truth = vae.decode(latent[0].cpu()), vae.decode(sample.ego[0].float().cpu())
        scores.append((float(psnr(made, truth).mean()), float(ssim_map(made, truth).mean())))
        file = Path(config.output) / "samples" / f"step-{step:08d}" / f"{item.clip}.mp4"
        write_video(file, torch.cat((made, truth), dim=2), FPS, threads=1)
    model.train(was_training)
    return {"validation/psnr": sum(s[0] for s in scores) / len(scores),
            "validation/ssim": sum(s[1] for s in scores) / len(scores)}
