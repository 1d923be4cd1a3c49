"""Holes of a picture, painted from their surroundings.

Telea, "An image inpainting technique based on the fast marching method" (2004), as OpenCV has it.
"""

from __future__ import annotations

import cv2
import numpy as np

TELEA_RADIUS_PX = 3.0
FADE = (0.025, 0.125)
"""Distances from what is covered, as shares of the picture's height, at which :func:`fade_holes` begins and ends."""


def inpaint_holes(
    picture: np.ndarray,  # [H, W, 3] uint8
    coverage: np.ndarray,  # [H, W] bool
) -> np.ndarray:  # [H, W, 3] uint8
    """The picture with uncovered pixels painted; covered ones don't change. All black where nothing is covered."""
    if not coverage.any():
        return np.zeros_like(picture)
    return cv2.inpaint(np.ascontiguousarray(picture), (~coverage).astype(np.uint8), TELEA_RADIUS_PX, cv2.INPAINT_TELEA)


def fade_holes(
    picture: np.ndarray,  # [H, W, 3] uint8
    coverage: np.ndarray,  # [H, W] bool
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),  # 0...1
) -> np.ndarray:  # [H, W, 3] uint8
    """The picture with holes painted as by :func:`inpaint_holes` at their rim, fading into the background.

    There is no hard edge for a VAE to smear over its neighbours, and a hole stays visible as one. Covered pixels don't
    change.
    """
    distance = cv2.distanceTransform((~coverage).astype(np.uint8), cv2.DIST_L2, 5)[..., None]  # 0 where covered
    begin, end = (share * len(picture) for share in FADE)
    opacity = np.minimum((end - np.minimum(distance, end)) / (end - begin), 1)
    faded = opacity * inpaint_holes(picture, coverage) + (1 - opacity) * np.float32(background) * 255
    return faded.round().astype(np.uint8)
