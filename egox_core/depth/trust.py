"""Estimate how far each depth pixel can be trusted, as a soft map for geometry-guided attention.

Reconstruction errors would otherwise go straight into the attention bias. Depth models err in three
known ways: they smear depth across edges, they miss pixels, and they flicker. Each lowers the
trust smoothly; where nothing is wrong it is 1. Valid pixels keep ``FLOOR``, because 0 means
that there is no depth at all."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from ..frame_store import sample_frames, store_frames
from ..progress import Progress, no_progress
from ..types import DepthVideo
from .fit import FloatArray
from .valid import median_over_frames

FLOOR = 0.02
EDGE_TOLERANCE = 0.03
"""Relative bend of inverse depth at which the trust is one half."""
FLICKER_TOLERANCE = 0.05
"""Relative change against the static background at which it is one half."""
REACH = 2
"""px that an edge or a hole spoils around it: a depth model's smear at 448 px height."""
BACKGROUND_FRAMES = 9
"""Frames, spread over the clip, whose median is the static background that flicker is measured
against."""


def with_trust(
    depth: DepthVideo,
    progress: Progress = no_progress,
) -> DepthVideo:
    """Add a trust map to a depth video.

    A map that it had (a model's confidence) is kept where that is lower.
    """
    trust = depth_trust(depth.depth_m, depth.dynamic, depth.exo.stands, progress)
    if depth.trust is not None:
        lowest = (
            torch.where(own_map > 0, torch.minimum(own_map, model_map.clamp_min(FLOOR)), own_map)
            for own_map, model_map in zip(trust, depth.trust, strict=True)
        )
        trust = store_frames(lowest, len(trust))
    return replace(depth, trust=trust)


def depth_trust(
    depth_m: Tensor,  # [T, H, W] z depth, metres, NaN invalid
    dynamic: Tensor | None = None,  # [T, H, W] bool: their change over time is motion, no flicker
    # False if the exo camera moves: then changes over time are no evidence.
    fixed_camera: bool = True,
    progress: Progress = no_progress,
) -> Tensor:  # [T, H, W] float32 0...1
    """Compute the trust in every depth pixel: 0 where invalid, lower at depth edges and where depth
    flickers.

    Both terms are 1 / (1 + (x / tolerance)²). x is the bend (second difference) of inverse depth
    over inverse depth, which is zero on every plane, however steep, and large at an edge; for
    flicker the relative change of inverse depth against its temporal median. Depth noise bends
    everything a little, so a tolerance is never finer than three times the clip's own noise (its
    median)."""
    count = len(depth_m)

    def inverse_depth(t: int) -> FloatArray:
        return depth_m[t].detach().float().cpu().reciprocal().numpy()

    background = _background(inverse_depth, count) if fixed_camera and count > 2 else None
    moving = None if dynamic is None else dynamic.cpu().numpy()
    depth_noise = _typical_curvature(inverse_depth(count // 2))
    edge_tolerance = max(EDGE_TOLERANCE, 3 * depth_noise)
    flicker_tolerance = max(FLICKER_TOLERANCE, 3 * depth_noise)

    def frame_trust(t: int) -> Tensor:
        frame = inverse_depth(t)
        pixel_trust = 1 / (
            1 + np.square(_local_maximum(inverse_depth_curvature(frame)) / edge_tolerance)
        )
        if background is not None:
            relative_change = np.nan_to_num(
                (frame - background) / background, posinf=0.0, neginf=0.0
            )
            if moving is not None:
                relative_change[moving[t]] = 0.0
            pixel_trust /= 1 + np.square(relative_change / flicker_tolerance)
        pixel_trust = np.where(np.isfinite(frame), np.maximum(pixel_trust, FLOOR), 0.0)
        progress(t + 1, count, "judging depth")
        return torch.from_numpy(pixel_trust.astype(np.float32))

    return store_frames(map(frame_trust, range(count)), count)


def inverse_depth_curvature(
    inverse: FloatArray,
) -> FloatArray:  # [H, W] 1/m, NaN invalid -> [H, W] relative; infinite beside invalid
    """Compute the curvature of inverse depth in each pixel, relative to inverse depth."""
    padded = np.pad(inverse, 1, mode="edge")
    middle = 2 * inverse
    bend_x = np.abs(padded[1:-1, :-2] + padded[1:-1, 2:] - middle)
    bend_y = np.abs(padded[:-2, 1:-1] + padded[2:, 1:-1] - middle)
    return np.nan_to_num(np.maximum(bend_x, bend_y) / inverse, nan=np.inf, posinf=np.inf)


def _local_maximum(values: FloatArray) -> np.ndarray:
    """Take the maximum within :data:`REACH` px, so that pixels beside an edge get a low trust
    too."""
    return cv2.dilate(values, np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8))


def _background(inverse: Callable[[int], FloatArray], count: int) -> FloatArray:  # [H, W]
    return median_over_frames(
        np.stack([inverse(frame) for frame in sample_frames(count, BACKGROUND_FRAMES)])
    )


def _typical_curvature(inverse: FloatArray) -> float:  # [H, W], of a typical frame
    """Estimate the noise of a depth map from the typical curvature of its inverse depth."""
    values = inverse_depth_curvature(inverse).ravel()[::7]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else 0.0
