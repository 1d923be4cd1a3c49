"""Gaps between points, closed from both sides; never beyond an outline."""

from __future__ import annotations

import torch
from torch import Tensor

from .splat import SplatImage

DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
SAME_SURFACE = 0.03
"""Relative depth within which the two sides of a gap count as one surface with what fills it."""


def fill_gaps(tight: SplatImage, wide: SplatImage, size_px: int) -> SplatImage:
    """``tight`` with its gaps filled from ``wide``, the same points drawn with larger patches.

    A pixel is a gap if the wide picture has something there, nearer than what the tight one shows (the background
    through a crack) or where that shows nothing, and if the tight picture shows the same surface on two opposite
    sides within ``size_px``. Beyond an outline the surface is on one side only, so nothing grows. What is filled is
    covered.

    Args:
        size_px: how far to look, px: half the widest gap that is filled; at least 1.
    """
    depth, front = tight.depth.nan_to_num(posinf=float("inf"), nan=float("inf")), wide.depth
    empty = wide.coverage & (front < depth * (1 - SAME_SURFACE))
    gap = torch.zeros_like(empty)
    if bool(empty.any()):
        near, far = front * (1 - 2 * SAME_SURFACE), front * (1 + SAME_SURFACE)
        for dv, du in DIRECTIONS:
            sides = [torch.zeros_like(empty), torch.zeros_like(empty)]
            for side, sign in zip(sides, (1, -1), strict=True):
                for step in range(1, size_px + 1):
                    there = _shifted(depth, sign * step * dv, sign * step * du)
                    side |= (there >= near) & (there <= far)
            gap |= sides[0] & sides[1]
        gap &= empty
    return SplatImage(rgb=torch.where(gap[..., None], wide.rgb, tight.rgb), coverage=tight.coverage | gap,
                      depth=torch.where(gap, wide.depth, tight.depth))


def _shifted(depth: Tensor, dv: int, du: int) -> Tensor:
    """depth[v + dv, u + du], infinite outside the picture."""
    out = torch.full_like(depth, float("inf"))
    height, width = depth.shape
    if abs(dv) >= height or abs(du) >= width:
        return out
    out[max(0, -dv):height - max(0, dv), max(0, -du):width - max(0, du)] = (
        depth[max(0, dv):height + min(0, dv), max(0, du):width + min(0, du)])
    return out
