"""Depth edges: steps between neighbouring surfaces, and stray pixels that are on neither of
them."""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sizes import REFERENCE_SIZE

OUTSIDE = float("nan")
RANGE_WINDOW = 5
"""Side of the window of :func:`depth_range`, px of a picture of the reference height: the released
filter's."""


def depth_edge(
    depth_m: Tensor,  # [H, W] z depth, metres, NaN invalid
) -> Tensor:  # [H, W] float32, |z - z'| / min(z, z'); 0 for a pixel without valid neighbours, NaN where invalid
    """Compute the largest relative depth step from each pixel to its four neighbours.

    Invalid neighbours don't count: the border of what is known is no edge.
    """
    edge = torch.zeros_like(depth_m)
    for axis in (0, 1):
        own_depth = depth_m.narrow(axis, 0, depth_m.shape[axis] - 1)
        next_depth = depth_m.narrow(axis, 1, depth_m.shape[axis] - 1)
        step = ((next_depth - own_depth).abs() / torch.minimum(own_depth, next_depth)).nan_to_num(
            0.0
        )
        for start in (0, 1):
            side = edge.narrow(axis, start, depth_m.shape[axis] - 1)
            torch.maximum(side, step, out=side)
    return torch.where(torch.isfinite(depth_m), edge, torch.full_like(edge, float("nan")))


def depth_range(
    depth_m: Tensor,  # [H, W] z depth, metres, NaN invalid
) -> Tensor:  # [H, W] float32, (max - min) / mean; NaN where invalid
    """Range of depth in the window around each pixel: what the released renderer filters points by.

    As its ``reliable_depth_mask_range``: invalid depth is 0, so that a pixel beside a hole has a
    large range; beyond the picture the mean counts zeros, maximum and minimum nothing."""
    size = 2 * max(1, round(RANGE_WINDOW // 2 * depth_m.shape[0] / REFERENCE_SIZE)) + 1
    depth = depth_m.nan_to_num(0.0)[None, None]
    high, low = (sign * _highest(sign * depth, size) for sign in (1, -1))
    spread = (high - low) / F.avg_pool2d(depth, size, stride=1, padding=size // 2).clamp_min(1e-6)
    return torch.where(torch.isfinite(depth_m), spread[0, 0], torch.nan)


def _highest(values: Tensor, size: int) -> Tensor:
    """Take the maximum in the window around each pixel, [1, 1, H, W], as max_pool2d does, in a
    fortieth of its time on a CPU."""
    half, (height, width) = size // 2, values.shape[-2:]
    padded = F.pad(values, (half, half, half, half), value=float("-inf"))
    rows = reduce(torch.maximum, (padded[..., k : k + height, :] for k in range(size)))
    return reduce(torch.maximum, (rows[..., k : k + width] for k in range(size)))


def stray_step(
    depth_m: Tensor,  # [H, W] z depth, metres, NaN invalid
) -> (
    Tensor
):  # [H, W] float32, the smaller of the two relative steps; 0 where the pixel is on a surface
    """Measure the relative step by which a pixel is between two surfaces, as depth models and
    resizing leave them at outlines.

    A pixel on an object's rim has a large step on one side only. A floor seen at a low angle
    has equal steps for many pixels in a row. A stray pixel has large steps of one sign on both
    sides, while the surface next to it, on one side at least, is smooth. A pixel far from all
    its neighbours is stray, too.
    """
    disparity = 1 / depth_m
    stray = torch.zeros_like(depth_m)
    lone_step = torch.full_like(depth_m, float("inf"))
    for axis in (0, 1):
        size = depth_m.shape[axis]
        if size < 5:
            continue
        step = _padded(
            torch.diff(disparity, dim=axis), axis
        )  # step[i] = d[i] - d[i-1], NaN at the picture's border
        second_before, step_before, step_after, second_after = (
            step.narrow(axis, k, size) for k in range(4)
        )
        smaller_step = torch.minimum(step_before.abs(), step_after.abs())
        smooth = torch.fmin(second_before.abs(), second_after.abs())
        between_mask = (step_before * step_after > 0) & (smaller_step > 3 * smooth)
        stray = torch.maximum(stray, torch.where(between_mask, smaller_step * depth_m, 0.0))
        lone_step = torch.minimum(
            lone_step, torch.fmin(step_before.abs(), step_after.abs()).nan_to_num(0.0) * depth_m
        )
    return torch.maximum(stray, lone_step.nan_to_num(0.0, posinf=0.0))


def _padded(step: Tensor, axis: int) -> Tensor:
    """Pad steps with two unknown ones in front and behind: [.., n-1, ..] to [.., n+3, ..]."""
    gap = torch.full_like(step.narrow(axis, 0, 1), OUTSIDE)
    return torch.cat((gap, gap, step, gap, gap), dim=axis)
