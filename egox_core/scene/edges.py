"""Find depth edges, and stray pixels that hang between two surfaces."""

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
    # [H, W] float32, |z - z'| / min(z, z'); 0 for a pixel without valid neighbours, NaN where
    # invalid
) -> Tensor:
    """Compute the largest relative depth step from each pixel to its four neighbours.

    Invalid neighbours don't count: the border of what is known is no edge.
    """
    edge = torch.zeros_like(depth_m)
    for axis in (0, 1):
        own_depth = depth_m.narrow(axis, 0, depth_m.shape[axis] - 1)
        next_depth = depth_m.narrow(axis, 1, depth_m.shape[axis] - 1)
        relative_step = (
            (next_depth - own_depth).abs() / torch.minimum(own_depth, next_depth)
        ).nan_to_num(0.0)
        for start in (0, 1):
            edge_slice = edge.narrow(axis, start, depth_m.shape[axis] - 1)
            torch.maximum(edge_slice, relative_step, out=edge_slice)
    return torch.where(torch.isfinite(depth_m), edge, torch.full_like(edge, float("nan")))


def depth_range(
    depth_m: Tensor,  # [H, W] z depth, metres, NaN invalid
) -> Tensor:  # [H, W] float32, (max - min) / mean; NaN where invalid
    """Compute the relative range of depth in the window around each pixel.

    The released renderer filters points by it.

    As its ``reliable_depth_mask_range``: invalid depth is 0, so that a pixel beside a hole has a
    large range; beyond the picture the mean counts zeros, maximum and minimum nothing."""
    size = 2 * max(1, round(RANGE_WINDOW // 2 * depth_m.shape[0] / REFERENCE_SIZE)) + 1
    depth = depth_m.nan_to_num(0.0)[None, None]
    high, low = (sign * _window_maximum(sign * depth, size) for sign in (1, -1))
    depth_span = (high - low) / F.avg_pool2d(depth, size, stride=1, padding=size // 2).clamp_min(
        1e-6
    )
    return torch.where(torch.isfinite(depth_m), depth_span[0, 0], torch.nan)


def _window_maximum(values: Tensor, size: int) -> Tensor:
    """Compute the maximum in a window around each pixel.

    The map is [1, 1, H, W], and this is much faster on a CPU than max_pool2d."""
    half_size = size // 2
    (height, width) = values.shape[-2:]
    padded = F.pad(values, (half_size, half_size, half_size, half_size), value=float("-inf"))
    row_maximum = reduce(
        torch.maximum, (padded[..., shift : shift + height, :] for shift in range(size))
    )
    return reduce(torch.maximum, (row_maximum[..., shift : shift + width] for shift in range(size)))


def stray_step(
    depth_m: Tensor,  # [H, W] z depth, metres, NaN invalid
) -> (
    Tensor
):  # [H, W] float32, the smaller of the two relative steps; 0 where the pixel is on a surface
    """Measure how far a pixel hangs between two surfaces, as a relative depth step.

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
        step = _pad_with_nan(
            torch.diff(disparity, dim=axis), axis
        )  # step[i] = d[i] - d[i-1], NaN at the picture's border
        second_before, step_before, step_after, second_after = (
            step.narrow(axis, shift, size) for shift in range(4)
        )
        smaller_step = torch.minimum(step_before.abs(), step_after.abs())
        surface_step = torch.fmin(second_before.abs(), second_after.abs())
        between_mask = (step_before * step_after > 0) & (smaller_step > 3 * surface_step)
        stray = torch.maximum(stray, torch.where(between_mask, smaller_step * depth_m, 0.0))
        lone_step = torch.minimum(
            lone_step, torch.fmin(step_before.abs(), step_after.abs()).nan_to_num(0.0) * depth_m
        )
    return torch.maximum(stray, lone_step.nan_to_num(0.0, posinf=0.0))


def _pad_with_nan(step: Tensor, axis: int) -> Tensor:
    """Pad an axis with two NaN entries at both ends.

    [.., n-1, ..] becomes [.., n+3, ..]."""
    nan_padding = torch.full_like(step.narrow(axis, 0, 1), OUTSIDE)
    return torch.cat((nan_padding, nan_padding, step, nan_padding, nan_padding), dim=axis)
