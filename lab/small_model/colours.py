"""Colours of objects: is each nearer to its own than to its surroundings'?"""

from collections.abc import Iterator

import cv2
import numpy as np
from torch import Tensor

MIN_OBJECT = 0.02  # share of the picture from which an object's colour is judged
# An object counts as visible from exo in a frame where exo sees this share of its ego pixels'
# surface.
SEEN_SHARE = 0.1
RING = 0.04  # width of an object's surroundings, share of the picture's height


def colour_hits(
    masks: np.ndarray,  # [N, T, H, W] bool, of the true video
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> np.ndarray:  # [N, T] float
    """1 where the object's mean colour inside its true mask is nearer to its own in the true
    picture than to its surroundings' there, 0 where it isn't, NaN where the mask is under 2 % of
    the picture or fills it."""
    pictures, shown = truth.double().cpu().numpy(), generated.double().cpu().numpy()
    hits = np.full(masks.shape[:2], np.nan)
    for number, frame in frames_of_objects(masks):
        mask = masks[number, frame]
        ring = ring_of(mask)
        if not ring.any():
            continue
        own, around, got = (
            pictures[frame][mask].mean(0),
            pictures[frame][ring].mean(0),
            shown[frame][mask].mean(0),
        )
        hits[number, frame] = float(np.linalg.norm(got - own) < np.linalg.norm(got - around))
    return hits


def frames_of_objects(masks: np.ndarray) -> Iterator[tuple[int, int]]:
    """(object, frame) where a mask of [N, T, H, W] fills 2 % of the picture or more."""
    return zip(*np.nonzero(masks.mean(axis=(2, 3)) >= MIN_OBJECT), strict=True)


def ring_of(mask: np.ndarray) -> np.ndarray:
    """[H, W] bool: the surroundings of a mask."""
    size = 2 * max(1, round(RING * len(mask))) + 1
    return (cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0) & ~mask
