"""Training of the VAE: its linear skeleton, then all of it. Resumable in slices; SIGTERM saves and ends with 0."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResidualBlock
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from egox_core.safe_files import write_whole
from egox_core.train.checkpoints import StopRequest

from .clips import ClipPool, read_shard, shard_files
from .settings import VaeSettings
from .vae_model import cell_colours, decode, encode, new_vae, picture_weights, save_vae, settle_latents, whole_clips

SAVE_SECONDS = 180.0
LOOK_STEPS = 50
CHECK_STEPS = 250
WARM_UP = 50
LEAST_RATE = 0.05  # of the learning rate, at the end of the cosine
L1_SHARE = 0.1


def train_vae(folder: Path, clips: Path, settings: VaeSettings, out: Path, device: str = "cpu",
              tell: Callable[[str], None] = print) -> dict[str, Any] | None:
    """Trains up to the last step and writes ``out``; its record, or None where it was stopped before (and saved)."""
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(folder, clips, settings, torch.device(device), tell)
    with StopRequest() as stop:
        while run.step < settings.steps and not stop.requested:
            run.one_step()
        run.save()
        if run.step < settings.steps:
            return None
    return run.finish(out)


class _Run:
    def __init__(self, folder: Path, clips: Path, settings: VaeSettings, device: torch.device,
                 tell: Callable[[str], None]) -> None:
        self.state_file, self.log = folder / "vae_state.pt", folder / "vae_log.jsonl"
        self.settings, self.device, self.tell = settings, device, tell
        self.model = whole_clips(new_vae(settings.dim, settings.seed)).to(device)
        for layer in self.model.modules():  # the layout in which a CPU convolves twice as fast
            if isinstance(layer, nn.Conv3d | nn.Conv2d):
                last = torch.channels_last_3d if isinstance(layer, nn.Conv3d) else torch.channels_last
                layer.weight.data = layer.weight.data.contiguous(memory_format=last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99),
                                           weight_decay=0.0)
        self.ema = EMAModel(self.model.parameters(), decay=0.999)
        self.step, self.seconds = 0, 0.0
        if self.state_file.is_file():
            self._load()
        self.pool = ClipPool(clips)
        self.validation = [c for f in shard_files(clips, "validation")[:1] for c in read_shard(f)]
        self.saved = time.monotonic()

    def one_step(self) -> None:
        settings, started = self.settings, time.monotonic()
        if self.step % LOOK_STEPS == 0 or not self.pool.videos["ego"]:
            while not self.pool.look():
                time.sleep(5)  # the first clips are still being drawn
        rate = settings.learning_rate * _factor(self.step, settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        draw = np.random.default_rng((settings.seed, self.step))
        torch.manual_seed(settings.seed * 1_000_003 + self.step)
        video = self.pool.pieces(settings.batch, settings.crop, draw).to(self.device)
        video = video.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, torch.bfloat16), self._skeleton(self.step < settings.skeleton_steps):
            raw = encode(self.model, video)
            drawn = decode(self.model, raw + settings.latent_noise * noise_like(raw)).float()
        error = drawn - video
        loss = error.square().mean() + L1_SHARE * error.abs().mean() + cell_colours(error).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.ema.step(self.model.parameters())
        self.step += 1
        self.seconds += time.monotonic() - started
        if self.step % CHECK_STEPS == 0 or self.step == settings.steps:
            self._check(loss.item())
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()

    @contextmanager
    def _skeleton(self, on: bool) -> Iterator[None]:
        """Leaves out what adds nothing yet: residual branches and attention, nine tenths of the work."""
        touched = [m for m in self.model.modules() if isinstance(m, WanResidualBlock | WanAttentionBlock)] if on else []
        for layer in touched:
            layer.forward = (_shortcut(layer) if isinstance(layer, WanResidualBlock) else nn.Identity())
        try:
            yield
        finally:
            for layer in touched:
                del layer.forward

    @contextmanager
    def averaged(self) -> Iterator[None]:
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.model.parameters())

    @torch.no_grad()
    def psnr(self) -> dict[str, float]:
        """Of the averaged weights on held-out clips, by video."""
        with self.averaged(), self._skeleton(self.step < self.settings.skeleton_steps):
            return {name: _psnr(self.model, torch.stack([getattr(c, name) for c in self.validation[:8]]), self.device)
                    for name in ("ego", "exo")}

    def _check(self, loss: float) -> None:
        decibels = self.psnr()
        line = {"step": self.step, "loss": round(loss, 5), "seconds": round(self.seconds), "clips":
                len(self.pool.videos["ego"]), **{k: round(v, 2) for k, v in decibels.items()}}
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self.tell(f"VAE {line}")

    def save(self) -> None:
        state = {"step": self.step, "seconds": self.seconds, "model": self.model.state_dict(),
                 "optimizer": self.optimizer.state_dict(), "ema": self.ema.state_dict(),
                 "settings": repr(self.settings)}
        with write_whole(self.state_file) as temporary:
            torch.save(state, temporary)
        self.saved = time.monotonic()

    def _load(self) -> None:
        state = torch.load(self.state_file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.step, self.seconds = state["step"], state["seconds"]

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, Any]:
        """The averaged weights with Wan's latent statistics, as the file that ships; the stage's record."""
        self.ema.copy_to(self.model.parameters())
        self.pool.look()
        draw = np.random.default_rng(self.settings.seed)
        latents = [encode(self.model, self.pool.pieces(16, self.settings.crop, draw).to(self.device)).float()
                   for _ in range(12)]
        before, weights = self.psnr_now(), picture_weights(self.model, latents[0])
        self.model.cpu()
        settle_latents(self.model, torch.cat([x.movedim(1, -1).flatten(0, -2).cpu() for x in latents]), weights)
        self.model.to(self.device)
        record = {"stage": "vae", "steps": self.step, "seconds": round(self.seconds), "device": self.device.type,
                  "settings": repr(self.settings), "psnr": before, "psnr, latents settled": self.psnr_now()}
        save_vae(self.model, out, {"format": "pt", "egox.stage": json.dumps(record)})
        return record

    def psnr_now(self) -> dict[str, float]:
        with torch.no_grad():
            return {name: round(_psnr(self.model, torch.stack([getattr(c, name) for c in self.validation]),
                                      self.device), 3) for name in ("ego", "exo", "prior")}


@torch.no_grad()
def noise_like(raw: Tensor) -> Tensor:
    """Noise [B, 16, t, h, w] with the spread of ``raw`` in every direction, not channel by channel: what little two
    channels differ in must not drown in what they share, or those directions fall asleep."""
    with torch.autocast(raw.device.type, enabled=False):
        flat = raw.float().movedim(1, 0).flatten(1)
        spread, directions = torch.linalg.eigh(torch.cov(flat))
        noise = directions * spread.clamp_min(0).sqrt() @ torch.randn_like(flat)
    return noise.reshape(raw.shape[1], raw.shape[0], *raw.shape[2:]).movedim(0, 1).to(raw.dtype)


def _shortcut(layer: WanResidualBlock) -> Callable[..., Tensor]:
    return lambda x, feat_cache=None, feat_idx=None: layer.conv_shortcut(x)


def _psnr(model: nn.Module, video: Tensor, device: torch.device) -> float:
    """Mean over clips, dB, of [B, T, H, W, 3] uint8."""
    values = []
    for clip in video:
        source = (clip.movedim(-1, 0)[None].float() / 127.5 - 1).to(device)
        error = (decode(model, encode(model, source)).clamp(-1, 1) - source).square().mean()
        values.append(-10 * math.log10(float(error) / 4))
    return sum(values) / len(values)


def _factor(step: int, steps: int) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / WARM_UP) * (LEAST_RATE + (1 - LEAST_RATE) * cosine)
