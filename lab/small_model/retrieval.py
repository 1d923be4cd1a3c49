"""Is the true ego video the nearest of all held-out ones? A model that ignores its input can't know."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

# A thumbnail: frames spread over the clip, pixels a side. Coarse on purpose, so that layout and
# colour decide.
TIMES, SIDE = 8, 16


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
) -> list[int]:
    """Place of each clip's own truth; others as near as it stand before it."""
    true = np.stack([t.reshape(-1) for t in truths]).astype(np.float64)
    ranks = []
    for own, picture in enumerate(generated):
        errors = np.square(true - picture.reshape(-1).astype(np.float64)).mean(axis=1)
        ranks.append(int((errors <= errors[own]).sum()))
    return ranks
