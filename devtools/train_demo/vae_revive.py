"""Wakes the directions of the latent that a trained VAE doesn't use.

Training adds noise to each of the 16 channels by its spread; channels that tell much the same then drown what they
differ in. In the VAE of this model seven directions had fallen asleep, and with them one of the colour axes: yellow
came back as orange, green and purple as grey. Here they get something to tell, while the others go on telling what they
did: a transformer that was trained on the old latents stays right about them.

Neither half of the network would begin by itself: the encoder has lost what the directions could tell, the decoder
doesn't listen. So the encoder is taught, at first, the main directions of what the trained VAE leaves out.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from egox_core.data.vae_encoder import VaeEncoder
from egox_core.wan_latents import CHANNELS, LATENT_MEAN, LATENT_STD

from .clip_pool import ClipPool
from .settings import VaeSettings
from .vae_model import decode, encode, picture_weights, save_vae, whole_clips
from .vae_train import VaeRun, picture_loss

ASLEEP = 0.05
"""Variance, in the latent's units, below which a direction counts as asleep; those at work have 0.1 to 6."""
KEEP = 0.1
"""Weight of the squared change of the directions at work against the picture's squared error."""
TEACH = 0.1
"""Weight of the lesson at the first step; it falls to zero, so that in the end the picture alone counts."""
CELL = (4, 8, 8)
"""Frames and pixels that one latent tells of."""
FAINT = 5.0
"""Weight of the error of a cell's mean colour: what has been lost is mostly that."""
SAMPLES = 6  # batches of 16 pieces that the statistics are taken from


def revive_vae(folder: Path, clips: Path, settings: VaeSettings, file: Path, device: str = "cpu",
               tell: Callable[[str], None] = print) -> dict[str, Any] | None:
    """Goes on training the VAE in ``file`` and replaces it; its record, or None where a signal stopped it.

    Nothing is asleep: nothing is changed.
    """
    chosen = replace(settings, steps=settings.revive_steps, skeleton_steps=0, learning_rate=settings.revive_rate)
    return _Revival(folder, clips, chosen, torch.device(device), tell, file).train(file)


class _Revival(VaeRun):
    def __init__(self, folder: Path, clips: Path, settings: VaeSettings, device: torch.device,
                 tell: Callable[[str], None], file: Path) -> None:
        self.before = whole_clips(VaeEncoder(file).model).float().requires_grad_(False)
        pool = ClipPool(clips)
        pool.look()
        draw = np.random.default_rng(settings.seed)
        self.videos = [pool.pieces(16, settings.crop, draw) for _ in range(SAMPLES)]
        with torch.no_grad():
            hidden = torch.cat([_flat(self.before.encoder(v)) for v in self.videos])
            latents = torch.cat([_flat(encode(self.before, v)) for v in self.videos])
        self.unit = torch.tensor(LATENT_STD)  # of the raw latent, a channel
        variance, directions = torch.linalg.eigh(torch.cov((latents / self.unit).T))
        self.asleep = directions[:, variance < ASLEEP]  # [16, n], orthonormal, in units of the latent
        self.hidden, self.latents = hidden, latents
        self.lesson = self._lesson(self.asleep.shape[1])
        super().__init__(folder, clips, settings, device, tell)
        self.before.to(device)
        if not self.asleep.shape[1]:
            self.steps = self.step  # nothing to do

    @torch.no_grad()
    def _lesson(self, count: int) -> Tensor:  # [count, 3 * 4 * 8 * 8]
        """Filters of a cell: the main directions of what the VAE leaves out; their output has unit variance."""
        left = torch.cat([_cells(v - decode(self.before, encode(self.before, v))) for v in self.videos])
        given = torch.cat([_cells(v) for v in self.videos])
        filters = torch.linalg.eigh(left.T @ left / len(left))[1][:, -count:].T
        return filters / (given @ filters.T).std(0)[:, None]

    @torch.no_grad()
    def start(self) -> nn.Module:
        """The trained network; sleeping directions carry what its last layer knows besides, and draw nothing yet."""
        model = whole_clips(copy.deepcopy(self.before)).requires_grad_(True)
        known = torch.cat((self.latents, torch.ones(len(self.latents), 1)), 1)
        besides = self.hidden - known @ torch.linalg.lstsq(known, self.hidden).solution
        count = self.asleep.shape[1]
        spread, vectors = torch.linalg.eigh(torch.cov(besides.T))
        read = vectors[:, -count:] / spread[-count:].clamp_min(1e-6).sqrt()  # [32, n]: unit variance each
        into, out = model.quant_conv, model.post_quant_conv
        put = self.unit[:, None] * self.asleep
        into.weight[:CHANNELS] += (put @ read.T)[..., None, None, None]
        into.bias[:CHANNELS] -= put @ (read.T @ self.hidden.mean(0))
        weight = out.weight[..., 0, 0, 0]
        silent = weight @ put @ (self.asleep / self.unit[:, None]).T  # what they would have drawn
        out.weight -= silent[..., None, None, None]
        out.bias += silent @ torch.tensor(LATENT_MEAN)
        return model

    def loss(self, video: Tensor) -> Tensor:
        """The picture's, with noise in every direction alike, and what the directions at work have changed."""
        unit, asleep = self.unit.to(video).view(-1, 1, 1, 1), self.asleep.to(video)
        with torch.autocast(self.device.type, torch.bfloat16):
            with torch.no_grad():
                then = encode(self.before, video).float() / unit
            raw = encode(self.model, video)
            now = raw.float() / unit
            woken = torch.einsum("cn,bcthw->bnthw", asleep, now)
            noise = torch.randn_like(now)
            drowsy = torch.einsum("cn,bcthw->bnthw", asleep, noise)
            spread = woken.detach().std(dim=(0, 2, 3, 4), keepdim=True)
            noise = noise + torch.einsum("cn,bnthw->bcthw", asleep, (spread - 1) * drowsy)
            drawn = decode(self.model, raw + self.settings.latent_noise * noise * unit).float()
        changed = now - then
        changed = changed - torch.einsum("cn,bnthw->bcthw", asleep, torch.einsum("cn,bcthw->bnthw", asleep, changed))
        taught = _cells(video) @ self.lesson.to(video).T
        missed = _flat(woken) - taught
        missed = missed - missed.mean(0)
        faint = nn.functional.avg_pool3d(drawn - video, (1, *CELL[1:])).square().mean()
        lesson = TEACH * (1 - self.step / self.steps) * missed.square().mean()
        return picture_loss(drawn, video) + FAINT * faint + KEEP * changed.square().mean() + lesson

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, Any]:
        """The averaged weights; an error in a woken direction costs in the picture what it costs in the others."""
        if not self.asleep.shape[1]:
            return {"stage": "vae, woken", "steps": 0, "directions woken": 0}
        self.ema.copy_to(self.model.parameters())
        model = self.model.float().cpu()
        samples = [encode(model, v) for v in self.videos]
        weights = picture_weights(model, samples[0]).float() * self.unit[:, None] * self.unit
        awake = torch.linalg.svd(self.asleep, full_matrices=True)[0][:, self.asleep.shape[1]:]
        cost = torch.linalg.eigvalsh(awake.T @ weights @ awake).mean()
        own, vectors = torch.linalg.eigh(self.asleep.T @ weights @ self.asleep)
        root = vectors @ torch.diag((own.clamp_min(own.max() * 1e-2) / cost).sqrt()) @ vectors.T
        flat = torch.cat([_flat(s) for s in samples])
        mean = self.asleep.T @ ((flat - torch.tensor(LATENT_MEAN)).mean(0) / self.unit)
        put, take = self.unit[:, None] * self.asleep, (self.asleep / self.unit[:, None]).T
        change = torch.eye(CHANNELS) + put @ (root - torch.eye(len(root))) @ take
        back = torch.linalg.inv(change)
        centre = torch.tensor(LATENT_MEAN) + put @ mean
        _affine(model, change, back, centre, torch.tensor(LATENT_MEAN))
        variance = torch.linalg.eigvalsh(torch.cov((torch.cat([_flat(encode(model, v)) for v in self.videos])
                                                    / self.unit).T))
        record = {"stage": "vae, woken", "steps": self.step, "seconds": round(self.seconds),
                  "device": self.device.type, "directions woken": self.asleep.shape[1],
                  "psnr": self.psnr_now(), "variances": [round(float(v), 3) for v in variance]}
        save_vae(model, out, {"format": "pt", "egox.stage": json.dumps(record)})
        return record


def _affine(model: nn.Module, change: Tensor, back: Tensor, centre: Tensor, target: Tensor) -> None:
    """latent -> ``change @ (latent - centre) + target``, and back before the decoder."""
    into, out = model.quant_conv, model.post_quant_conv
    into.weight[:CHANNELS] = torch.einsum("ij,jabcd->iabcd", change, into.weight[:CHANNELS])
    into.bias[:CHANNELS] = change @ (into.bias[:CHANNELS] - centre) + target
    weight = out.weight[..., 0, 0, 0]
    out.bias += weight @ (centre - back @ target)
    out.weight.copy_((weight @ back)[..., None, None, None])


def _cells(video: Tensor) -> Tensor:
    """[B, 3, T, H, W] -> [B * t * h * w, 3 * 4 * 8 * 8], in the order of latents; the first frame stands for four."""
    video = torch.cat((video[:, :, :1].expand(-1, -1, CELL[0] - 1, -1, -1), video), 2)
    for axis, size in zip((2, 3, 4), CELL, strict=True):
        video = video.unfold(axis, size, size)
    return video.movedim(1, 4).flatten(4).flatten(0, 3)


def _flat(latent: Tensor) -> Tensor:
    """[B, C, t, h, w] -> [N, C]."""
    return latent.float().movedim(1, -1).flatten(0, -2)
