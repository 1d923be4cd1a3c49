"""Data of the end-to-end training: small synthetic takes, and a stand-in VAE whose latents have Wan's statistics."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from egox_core.data.clip_files import read_clip
from egox_core.data.manifest import ClipRecord
from egox_core.data.vae_encoder import VaeEncoder
from egox_core.synthetic import SyntheticSpec, make_take, write_take
from egox_core.wan_latents import CHANNELS, LATENT_MEAN, LATENT_STD, denormalise_latent

SMALLEST_SPREAD = 0.05  # of the largest; channels that vary less would be amplified noise
TAKE_FRAMES, HEIGHT, WIDTH = 17, 64, 112


def write_takes(folder: Path, count: int) -> None:
    """``count`` calm, plainly coloured takes of 17 frames; those that are there stay."""
    for seed in range(count):
        target = folder / f"synthetic_{seed:03d}"
        if (target / "meta.json").is_file():  # written last
            continue
        spec = SyntheticSpec(seed=seed, frames=TAKE_FRAMES, exo_width=WIDTH, exo_height=HEIGHT, ego_size=HEIGHT,
                             texture="plain", clutter="calm", edge_samples=1)
        write_take(make_take(spec), target)


def calibrate_vae(source: Path, target: Path, root: Path, records: list[ClipRecord]) -> None:
    """The stand-in VAE with its last encoder layer changed so that latents have Wan's mean and spread.

    Its weights are random; untouched, most of its latents would be a constant, and a loss on them would say nothing.
    The 16 channels are whitened over training clips and given the statistics that every Wan model expects. Nothing is
    trained, and its decoder's pictures are noise.
    """
    encoder = VaeEncoder(source)
    raw = torch.cat([_raw(encoder, read_clip(root, r).exo) for r in records]
                    + [_raw(encoder, read_clip(root, r).ego) for r in records])  # [samples, 16]
    mean = raw.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((raw - mean).T))
    # Directions with almost no spread would be amplified noise: their gain is capped.
    gain = 1 / values.clamp_min(float(values.max()) * SMALLEST_SPREAD).sqrt()
    whiten = vectors @ torch.diag(gain) @ vectors.T
    change = torch.diag(torch.tensor(LATENT_STD, dtype=torch.float64)) @ whiten
    weights = {k: v.float() for k, v in load_file(source).items()}
    weight, bias = weights["conv1.weight"].double(), weights["conv1.bias"].double()
    weight[:CHANNELS] = torch.einsum("ij,jabcd->iabcd", change, weight[:CHANNELS])
    bias[:CHANNELS] = change @ (bias[:CHANNELS] - mean) + torch.tensor(LATENT_MEAN, dtype=torch.float64)
    weights["conv1.weight"], weights["conv1.bias"] = weight.float(), bias.float()
    save_file(weights, target, metadata={"format": "pt"})


def _raw(encoder: VaeEncoder, frames: Tensor) -> Tensor:  # [samples, 16] float64
    return denormalise_latent(encoder.encode(frames)[None])[0].flatten(1).T.double()
