"""Training of the VAE: its linear skeleton, then all of it, in slices of any length.

The skeleton is the network without residual branches and attention: a tenth of the work per step,
at four times the rate. Without it green-magenta, which is 2 % of the pictures' energy, is lost (see
``vae_model.COLOUR_CARE``).
"""

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
from .outlines import outline_share, quiet_gradient
from .settings import VaeSettings
from .vae_model import (
    cell_colours,
    cell_means,
    colour_shares,
    decode,
    encode,
    new_vae,
    outline_error,
    picture_weights,
    save_vae,
    settle_latents,
    whole_clips,
)

SAVE_SECONDS = 180.0
CHECK_STEPS = 250
WARM_UP = 50
WHOLE_WARM_UP = 100  # after the skeleton: the branches that join begin as noise
LEAST_RATE = 0.05  # of the learning rate, at the end of the cosine
L1_SHARE = 0.1


def train_vae(
    folder: Path,
    clips: Path,
    settings: VaeSettings,
    out: Path,
    device: str = "cpu",
    tell: Callable[[str], None] = print,
) -> dict[str, Any] | None:
    """Trains up to the last step and writes ``out``; its record, or None where it was stopped
    before (and saved)."""
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(folder, clips, settings, torch.device(device), tell)
    with StopRequest() as stop:
        while run.step < settings.steps and not stop.requested:
            run.one_step()
        run.save()
    return run.finish(out) if run.step == settings.steps else None


class _Run:
    def __init__(
        self,
        folder: Path,
        clips: Path,
        settings: VaeSettings,
        device: torch.device,
        tell: Callable[[str], None],
    ) -> None:
        self.state_file, self.log = folder / "vae_state.pt", folder / "vae_log.jsonl"
        self.settings, self.device, self.tell = settings, device, tell
        self.step = 0
        self.model = whole_clips(new_vae(settings.dim, settings.seed)).to(device)
        for layer in self.model.modules():  # the layout in which a CPU convolves twice as fast
            if isinstance(layer, nn.Conv3d | nn.Conv2d):
                last = (
                    torch.channels_last_3d if isinstance(layer, nn.Conv3d) else torch.channels_last
                )
                layer.weight.data = layer.weight.data.contiguous(memory_format=last)
        kernels, others = _kernels(self.model)
        self.optimizers = (
            Muon(kernels, settings.kernel_rate),
            torch.optim.AdamW(others, settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0),
        )
        self.ema = EMAModel(self.model.parameters(), decay=0.999)
        if self.state_file.is_file():
            self._load()
        self.pool = ClipPool(clips, settings.clips)
        self.held_out = read_shard(shard_files(clips, "validation")[0])
        self.saved = time.monotonic()

    def one_step(self) -> None:
        settings = self.settings
        factor = _factor(self.step, settings)
        for optimizer, rate in zip(
            self.optimizers, (settings.kernel_rate, settings.learning_rate), strict=True
        ):
            optimizer.param_groups[0]["lr"] = rate * factor
        draw = np.random.default_rng((settings.seed, self.step))
        torch.manual_seed(settings.seed * 1_000_003 + self.step)
        video = self.pool.pieces(settings.batch, settings.crop, draw).to(self.device)
        video = video.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, torch.bfloat16), self._skeleton():
            raw = encode(self.model, video)
            drawn = decode(self.model, raw + settings.latent_noise * noise_like(raw)).float()
        error = drawn - video
        loss = (
            error.square().mean()
            + L1_SHARE * error.abs().mean()
            + cell_colours(error).square().mean()
        )
        loss = loss + settings.outlines * outline_error(drawn, video)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.step(self.model.parameters())
        self.step += 1
        if self.step % CHECK_STEPS == 0 or self.step == settings.steps:
            self._check(loss.item())
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()

    @contextmanager
    def _skeleton(self) -> Iterator[None]:
        """Leaves residual branches and attention out in the first steps."""
        on = self.step < self.settings.skeleton_steps
        touched = (
            [m for m in self.model.modules() if isinstance(m, WanResidualBlock | WanAttentionBlock)]
            if on
            else []
        )
        for layer in touched:
            layer.forward = (
                _shortcut(layer) if isinstance(layer, WanResidualBlock) else nn.Identity()
            )
        try:
            yield
        finally:
            for layer in touched:
                del layer.forward

    def _check(self, loss: float) -> None:
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        with self._skeleton():
            line = {"step": self.step, "loss": round(loss, 5), **self.figures("ego")}
        self.ema.restore(self.model.parameters())
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self.tell(f"VAE {line}")

    def save(self) -> None:
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "ema": self.ema.state_dict(),
        }
        with write_whole(self.state_file) as temporary:
            torch.save(state, temporary)
        self.saved = time.monotonic()

    def _load(self) -> None:
        state = torch.load(self.state_file, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.ema.load_state_dict(state["ema"])
        self.step = state["step"]

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, Any]:
        """Writes the averaged weights with Wan's latent statistics; the stage's record."""
        self.ema.copy_to(self.model.parameters())
        draw = np.random.default_rng(self.settings.seed)
        latents = [
            encode(
                self.model, self.pool.pieces(16, self.settings.crop, draw).to(self.device)
            ).float()
            for _ in range(12)
        ]
        weights = picture_weights(self.model, latents[0])
        self.model.cpu()
        settle_latents(
            self.model, torch.cat([x.movedim(1, -1).flatten(0, -2).cpu() for x in latents]), weights
        )
        self.model.to(self.device)
        record = {
            "steps": self.step,
            "settings": repr(self.settings),
            "held out": {name: self.figures(name) for name in ("ego", "exo", "prior")},
        }
        save_vae(self.model, out, {"format": "pt", "egox.stage": json.dumps(record)})
        return record

    @torch.no_grad()
    def figures(self, name: str) -> dict[str, float]:
        """Means over the held-out clips' videos: dB, share of outlines, gradient in quiet places
        (levels of 255 per px); and over all of their latent cells, the share of the mean colour
        along the axis that fares worst."""
        rows, colours = [], []
        for clip in self.held_out:
            source = (getattr(clip, name).movedim(-1, 0)[None].float() / 127.5 - 1).to(self.device)
            source = source.contiguous(memory_format=torch.channels_last_3d)
            with torch.autocast(self.device.type, torch.bfloat16):
                drawn = decode(self.model, encode(self.model, source)).float().clamp(-1, 1)
            pictures = [(x[0].movedim(0, -1).cpu() + 1) / 2 for x in (drawn, source)]
            error = float((drawn - source).square().mean()) / 4
            colours.append(
                [cell_means(x).movedim(1, -1).flatten(0, -2).cpu() for x in (drawn, source)]
            )
            rows.append(
                (-10 * math.log10(error), outline_share(*pictures), quiet_gradient(*pictures))
            )
        means = {
            key: round(float(np.mean([v for v in column if v is not None])), 3)
            for key, column in zip(
                ("psnr", "outlines", "quiet"), zip(*rows, strict=True), strict=True
            )
        }
        worst = colour_shares(*(torch.cat(column) for column in zip(*colours, strict=True))).min()
        return {**means, "colours": round(float(worst), 3)}


@torch.no_grad()
def noise_like(raw: Tensor) -> Tensor:
    """Noise [B, 16, t, h, w] with the spread of ``raw`` in every direction, not channel by channel:
    what little two channels differ in must not drown in what they share, or those directions fall
    asleep."""
    with torch.autocast(raw.device.type, enabled=False):
        flat = raw.float().movedim(1, 0).flatten(1)
        spread, directions = torch.linalg.eigh(torch.cov(flat))
        noise = directions * spread.clamp_min(0).sqrt() @ torch.randn_like(flat)
    return noise.reshape(raw.shape[1], raw.shape[0], *raw.shape[2:]).movedim(0, 1).to(raw.dtype)


def _shortcut(layer: WanResidualBlock) -> Callable[..., Tensor]:
    return lambda x, feat_cache=None, feat_idx=None: layer.conv_shortcut(x)


def _kernels(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(kernels of convolutions inside the network, all else)."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    kernels = [m.weight for m in convolutions if min(m.weight.shape[:2]) > 3]
    inside = {id(k) for k in kernels}
    return kernels, [p for p in model.parameters() if id(p) not in inside]


class Muon(torch.optim.Optimizer):
    """Momentum whose step is the nearest orthogonal matrix, a convolution's kernel taken as [out,
    in * size] (K. Jordan and others, 2024); scaled to a step of Adam's usual size, as Liu and
    others, 2025, do.

    All directions of a kernel then move alike, the weak ones too: 200 steps of the skeleton bring
    22.9 dB and .24 of the outlines, where Adam brings 21.7 and .17.
    """

    def __init__(self, kernels: list[nn.Parameter], rate: float, momentum: float = 0.95) -> None:
        super().__init__(kernels, {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for kernel in group["params"]:
                if kernel.grad is not None:
                    by_shape.setdefault((kernel.shape[0], kernel[0].numel()), []).append(kernel)
            for shape, kernels in by_shape.items():
                mixed = torch.stack(
                    [self._mixed(k, group["momentum"]).reshape(shape) for k in kernels]
                )
                rate = 0.2 * max(shape) ** 0.5 * group["lr"]
                for kernel, way in zip(kernels, orthogonal(mixed), strict=True):
                    kernel.add_(way.reshape(kernel.shape), alpha=-rate)

    def _mixed(self, kernel: nn.Parameter, momentum: float) -> Tensor:
        mean = self.state[kernel].setdefault("mean", torch.zeros_like(kernel))
        mean.lerp_(kernel.grad, 1 - momentum)
        return kernel.grad.lerp(mean, momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """[N, rows, columns] -> the same with all singular values about 1 (.7 to 1.2): five steps of
    Newton and Schulz in bfloat16, with Muon's coefficients."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return (x if wide else x.mT).float()


def _factor(step: int, settings: VaeSettings) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    factor, whole = LEAST_RATE + (1 - LEAST_RATE) * cosine, step - settings.skeleton_steps
    if whole < 0:
        return factor * min(1.0, (step + 1) / WARM_UP)
    return factor * settings.whole_rate * min(1.0, (whole + 1) / WHOLE_WARM_UP)
