"""What moves in front of a fixed exo camera, from the change of depth and colour against the static background."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from .static_background import StaticBackground, to_uint8

DEPTH_FLOOR = 0.03
"""Relative depth difference that always counts as noise of a depth model."""
DEPTH_SIGMAS = 4.0
COLOUR_FLOOR = 30.0
"""Mean colour difference, 0...255, below which light flicker, shadows and compression are not told from motion."""
COLOUR_SIGMAS = 5.0
MIN_AREA = 2e-4
"""Smallest moving object, as a share of the picture (70 px of 784x448): smaller ones are noise."""


def derive_dynamic(frame: Tensor, depth_m: Tensor, background: StaticBackground) -> Tensor:
    """Pixels of one frame that do not show the static background.

    Args:
        frame: [H, W, 3], 0...1 or uint8.
        depth_m: [H, W] z depth, NaN invalid.

    Returns:
        [H, W] bool; False where depth is invalid.
    """
    valid = torch.isfinite(depth_m) & torch.isfinite(background.depth_m)
    nearer = 1 - depth_m / background.depth_m
    limit = (DEPTH_SIGMAS * background.depth_spread.nan_to_num(0.0)).clamp_min(DEPTH_FLOOR)
    by_depth = nearer > limit
    colour = (to_uint8(frame).float() - background.rgb.float()).abs().mean(-1)
    colour = torch.from_numpy(cv2.blur(colour.numpy(), (3, 3)))
    by_colour = colour > (COLOUR_SIGMAS * background.rgb_spread.nan_to_num(0.0)).clamp_min(COLOUR_FLOOR)
    return clean_mask((by_depth | by_colour) & valid) & torch.isfinite(depth_m)


def clean_mask(mask: Tensor) -> Tensor:
    """Single pixels removed, small gaps closed, specks under ``MIN_AREA`` dropped. [H, W] bool."""
    grid = mask.numpy().astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    grid = cv2.morphologyEx(grid, cv2.MORPH_OPEN, kernel)
    grid = cv2.morphologyEx(grid, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(grid, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= MIN_AREA * grid.size
    large[0] = False
    return torch.from_numpy(large[labels])


def label_instances(mask: Tensor) -> Tensor:
    """Connected moving objects of one frame, numbered from 1: [H, W] int16, 0 where nothing moves."""
    _, labels = cv2.connectedComponents(mask.numpy().astype(np.uint8), connectivity=8)
    return torch.from_numpy(np.minimum(labels, 32767).astype(np.int16))
