"""Is the true ego video the nearest of all held-out ones? A model that ignores its input can't know."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

TIMES, SIDE = 8, 16
"""A thumbnail: frames spread over the clip, pixels a side. Coarse on purpose, so that layout and colour decide."""


def thumbnail(
    frames: Tensor,  # [T, H, W, 3] float 0...1
) -> np.ndarray:  # [8, 16, 16, 3] uint8
    """A few tiny frames of the whole clip."""
    picked = np.linspace(0, len(frames) - 1, TIMES).round().astype(int)
    small = [
        cv2.resize(frames[i].float().cpu().numpy(), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for i in picked
    ]
    return (np.stack(small) * 255).round().clip(0, 255).astype(np.uint8)


def retrieval_ranks(
    generated: Sequence[np.ndarray],  # n thumbnails
    truths: Sequence[np.ndarray],  # n thumbnails, in the same order
    same_truth: Sequence[
        str
    ],  # n names; clips of one name show one true video (two exo cameras) and never compete
) -> list[tuple[int, int]]:
    """(place of the own truth, number of candidates) of each clip; others as near as it stand before it."""
    true = np.stack([t.reshape(-1) for t in truths]).astype(np.float64)
    ranks = []
    for own, picture in enumerate(generated):
        errors = np.square(true - picture.reshape(-1).astype(np.float64)).mean(axis=1)
        rivals = [i for i in range(len(true)) if same_truth[i] != same_truth[own]]
        ranks.append((1 + sum(bool(errors[i] <= errors[own]) for i in rivals), 1 + len(rivals)))
    return ranks
