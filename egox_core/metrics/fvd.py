"""Fréchet video distance between two sets of videos, over cd-fvd's I3D with weights from a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..wan.weights import load_network
from .columns import FVD_WEIGHTS

CLASSES = 400
FRAMES = 16
"""Frames of a video that are looked at, spread over it, as cd-fvd takes 16 a video."""
SMALLEST = 9
"""Frames that I3D needs."""


class VideoFeatures:
    """I3D's 400 logits of a video, with cd-fvd's network and preparation (224 px, bilinear, -1...1).

    Raises:
        EgoXInputError: cd-fvd missing, the file missing or of another model.
    """

    def __init__(self, weights: Path) -> None:
        try:
            from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d
            from cdfvd.third_party.i3d.utils import preprocess_i3d
        except ImportError as error:
            raise EgoXInputError("FVD", got=f"cd-fvd can't be imported ({error})", expected="cd-fvd",
                                 fix="pip install cd-fvd") from error
        self.prepare = preprocess_i3d
        self.model = load_network(InceptionI3d(CLASSES, in_channels=3), weights, "FVD weights", expected="cd-fvd's I3D",
                                  where=FVD_WEIGHTS)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,  # [T, H, W, 3] float 0...1
    ) -> np.ndarray:  # [400] float32
        """The features of one video.

        Raises:
            EgoXInputError: fewer than 9 frames.
        """
        if len(frames) < SMALLEST:
            raise EgoXInputError("FVD", got=f"{len(frames)} frames", expected=f"at least {SMALLEST}",
                                 fix="leave --fvd out")
        picked = torch.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().long()
        video = (frames[picked].float() * 255).round().clamp(0, 255).to(torch.uint8)
        return self.model(self.prepare(video[None].cpu().numpy())).flatten().numpy()


def frechet_distance(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """|mean difference|² + trace(Sa + Sb - 2 (Sa Sb)^½) of two sets of features [n][d]; 0 for equal sets.

    Covariances divide by n - 1. With fewer videos than features they are singular, and the value depends on their
    number: only sets of the same size compare.

    Raises:
        EgoXInputError: a set of fewer than two.
    """
    if min(len(a), len(b)) < 2:
        raise EgoXInputError("FVD", got=f"sets of {len(a)} and {len(b)} videos", expected="at least two each",
                             fix="evaluate more clips")
    first, second = (np.asarray(x, dtype=np.float64) for x in (a, b))
    gap = first.mean(0) - second.mean(0)
    first, second = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (first, second))
    # Sa = AᵀA, Sb = BᵀB: the eigenvalues of Sa Sb are the squared singular values of A Bᵀ, which is small and exact.
    root = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(max(0.0, gap @ gap + np.square(first).sum() + np.square(second).sum() - 2 * root))


features_of = lru_cache(maxsize=1)(VideoFeatures)
"""The network of a file, read once a process."""
