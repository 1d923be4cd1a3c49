"""Depth edges: where neighbouring pixels lie on different surfaces, and where one hangs in the air between two."""

from __future__ import annotations

import torch
from torch import Tensor


def depth_edge(depth_m: Tensor) -> Tensor:
    """Largest relative depth step from each pixel to its four neighbours.

    A flying pixel (one that a depth model put between foreground and background) has a large step on every side; a
    floor seen at a low angle has small ones. Invalid neighbours don't count: the border of what is known is no edge.

    Args:
        depth_m: [..., H, W] z depth, NaN invalid.

    Returns:
        [..., H, W] float32, |z - z'| / min(z, z'); 0 for a pixel without valid neighbours, NaN where invalid.
    """
    edge = torch.zeros_like(depth_m)
    for axis in (-1, -2):
        here = depth_m.narrow(axis, 0, depth_m.shape[axis] - 1)
        next_ = depth_m.narrow(axis, 1, depth_m.shape[axis] - 1)
        step = ((next_ - here).abs() / torch.minimum(here, next_)).nan_to_num(0.0)
        for start in (0, 1):
            side = edge.narrow(axis, start, depth_m.shape[axis] - 1)
            torch.maximum(side, step, out=side)
    return torch.where(torch.isfinite(depth_m), edge, torch.full_like(edge, float("nan")))
