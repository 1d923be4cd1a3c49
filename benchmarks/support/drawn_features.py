"""Features of a frame by a classifier of drawn rooms, and kernel distances by them.

The classifier names what each place of a picture shows; it was trained by ``bench meter`` of commit
7062d4f, which also showed that the distance rises with blur and with noise
(``results/meter.json``). No training of a model that is judged may use it, or one like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from egox_train.metrics.bootstrap import LEVEL, SAMPLES, Estimate

WEIGHTS = Path(__file__).resolve().parent / "drawn_features.safetensors"
SIZE = 128
"""Pixels per side at which every frame is looked at; others are resized."""
FEATURES, BOUND = 32, 3.0


class DrawnNet(nn.Module):
    """The classifier up to its last layer before the kinds."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((3, 24, 2, 1), (24, 32, 2, 1), (32, 48, 1, 1), (48, 64, 1, 2), (64, 64, 1, 4))
        self.body = nn.Sequential(
            *[
                layer
                for inner, outer, stride, spread in sizes
                for layer in (
                    nn.Conv2d(inner, outer, 3, stride, spread, spread, bias=False),
                    nn.BatchNorm2d(outer),
                    nn.ReLU(),
                )
            ]
        )
        self.last = nn.Sequential(
            nn.Conv2d(64, FEATURES, 1, bias=False), nn.BatchNorm2d(FEATURES), nn.ReLU()
        )
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))

    def features(self, pictures: Tensor) -> Tensor:  # [B, 3, 128, 128] in -1...1 -> [B, 32]
        """Means over the picture, in the spreads that true pictures have, bounded smoothly: else
        the third power makes a few takes the whole distance."""
        features = (self.last(self.body(pictures)).mean((2, 3)) - self.mean) / self.spread
        return BOUND * (features / BOUND).tanh()


def load_net() -> DrawnNet:
    """The trained classifier."""
    net = DrawnNet()
    net.load_state_dict(
        {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}, strict=False
    )
    return net.eval()


@torch.no_grad()
def features_of(net: DrawnNet, videos: Sequence[np.ndarray]) -> np.ndarray:
    """[N, T, S, S, 3] uint8 of any size -> [N, T, 32] float64."""
    return np.stack([net.features(at_size(video)).double().numpy() for video in videos])


def at_size(video: np.ndarray) -> Tensor:
    """[T, S, S, 3] uint8 of any size -> [T, 3, 128, 128] in -1...1."""
    frames = torch.as_tensor(video).movedim(-1, 1).float() / 127.5 - 1
    if frames.shape[-1] == SIZE:
        return frames
    return functional.interpolate(frames, size=(SIZE, SIZE), mode="bicubic", antialias=True).clamp(
        -1, 1
    )


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """Unbiased squared MMD of two sets of videos, by the cubic kernel (x·y / 32 + 1)³.

    Only frames of different takes are compared, within a set and across: frames of one take are no
    independent draws, and a video is beside its own truth.
    """

    pairs: np.ndarray  # [N, N] what two takes add, 0 on the diagonal

    @classmethod
    def between(cls, ours: np.ndarray, theirs: np.ndarray) -> KernelDistance:
        """Of features [N, T, 32]."""
        across = _kernel(ours, theirs)
        pairs = _kernel(ours, ours) + _kernel(theirs, theirs) - across - across.T
        np.fill_diagonal(pairs, 0.0)
        return cls(pairs)

    def estimate(self, against: KernelDistance | None = None, share: float = 1.0) -> Estimate:
        """The distance, or this less ``share`` of another one over the same takes, with the
        interval from drawing takes with replacement."""
        pairs = self.pairs - share * against.pairs if against is not None else self.pairs
        count = len(pairs)
        drawn = (
            np.random.default_rng(0)
            .multinomial(count, np.full(count, 1 / count), size=SAMPLES)
            .astype(float)
        )
        different = drawn.sum(1) ** 2 - (drawn**2).sum(1)
        drawn, different = (
            drawn[different > 0],
            different[different > 0],
        )  # one take alone has no pairs
        values = np.einsum("si,ij,sj->s", drawn, pairs, drawn, optimize=True) / different
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(
            mean=float(pairs.sum() / (count * (count - 1))),
            low=float(low),
            high=float(high),
            clips=count,
            takes=count,
        )


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, M] mean over the frames of two takes."""
    products = np.einsum("itf,juf->ijtu", a, b, optimize=True) / a.shape[-1]
    return ((products + 1) ** 3).mean((2, 3))
