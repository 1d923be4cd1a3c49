"""What moves in front of a fixed exo camera, from the change of depth and colour against the static background."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from ..sizes import REFERENCE_SIZE
from .background import StaticBackground, to_uint8

DEPTH_FLOOR = 0.03
"""Relative depth difference that always counts as noise of a depth model."""
DEPTH_SIGMAS = 4.0
"""Beyond that many standard deviations of the pixel's own flicker a nearer depth is motion."""
COLOUR_FLOOR = 30.0
"""Mean colour difference, 0...255, below which motion looks like flicker of light, shadows and compression."""
COLOUR_SIGMAS = 5.0
"""The same for colour."""
MIN_AREA = 2e-4
"""Smallest moving object, as a share of the picture (70 px of 784x448): smaller ones are noise."""
MAX_HOLE = 0.003
"""Largest hole in a swaying object that is filled, as a share of the picture."""
UNSTEADY_DEPTH = 0.001
"""Least relative spread of depth over time that counts as swaying."""
UNSTEADY_COLOUR = 3.0
"""Least spread of colour over time, 0...255, that counts as swaying."""
UNSTEADY_RATIO = 3.0
"""How many times steadier the typical pixel must be: flicker of the whole picture is no motion."""


def unsteady_pixels(background: StaticBackground) -> Tensor:  # [H, W] bool
    """Where no background was ever visible: something that sways in place hides it all the time.

    The farthest depth there is the swaying object's own, so it spreads over time more than the typical pixel's does.
    """
    unsteady = torch.zeros_like(background.depth_m, dtype=torch.bool)
    for spread, least in ((background.depth_spread, UNSTEADY_DEPTH), (background.rgb_spread, UNSTEADY_COLOUR)):
        spread = torch.from_numpy(cv2.blur(spread.nan_to_num(0.0).numpy(), (5, 5)))
        unsteady |= spread > max(least, UNSTEADY_RATIO * float(spread.median()))
    grid = unsteady.numpy().astype(np.uint8)
    # Outlines flicker one or two pixels wide; a body is broader. Flat parts of it change little: close over them.
    size = max(5, 2 * round(grid.shape[0] / REFERENCE_SIZE * 3) + 1)
    for operation, width in ((cv2.MORPH_OPEN, size), (cv2.MORPH_CLOSE, 2 * size + 1)):
        grid = cv2.morphologyEx(grid, operation, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return _large_parts(_filled(grid))


def derive_dynamic(
    frame: Tensor,  # [H, W, 3] 0...1 or uint8
    depth_m: Tensor,  # [H, W] z depth, NaN invalid
    background: StaticBackground,
) -> Tensor:  # [H, W] bool; False where depth is invalid
    """Pixels of one frame that do not show the static background."""
    valid = torch.isfinite(depth_m) & torch.isfinite(background.depth_m)
    nearer = 1 - depth_m / background.depth_m
    limit = (DEPTH_SIGMAS * background.depth_spread.nan_to_num(0.0)).clamp_min(DEPTH_FLOOR)
    by_depth = nearer > limit
    colour = (to_uint8(frame).float() - background.rgb.float()).abs().mean(-1)
    limit = (COLOUR_SIGMAS * background.rgb_spread.nan_to_num(0.0)).clamp_min(COLOUR_FLOOR)
    # The mean around a pixel tells motion from noise; its own difference keeps the outline where it is.
    by_colour = (torch.from_numpy(cv2.blur(colour.numpy(), (3, 3))) > limit) & (colour > 0.5 * limit)
    moves = clean_mask((by_depth | by_colour) & valid)
    # Where the background is unknown, whatever is visible hides it.
    return (moves | ~torch.isfinite(background.depth_m)) & torch.isfinite(depth_m)


def clean_mask(
    mask: Tensor,  # [H, W] bool
) -> Tensor:  # [H, W] bool
    """Single pixels removed, small gaps closed, specks under ``MIN_AREA`` dropped."""
    grid = mask.numpy().astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    grid = cv2.morphologyEx(grid, cv2.MORPH_OPEN, kernel)
    grid = cv2.morphologyEx(grid, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    return _large_parts(grid)


def _filled(grid: np.ndarray) -> np.ndarray:
    """Small holes filled: a plain patch of a moving body changes no more than a wall. grid [H, W] uint8."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - grid, connectivity=4)
    height, width = grid.shape
    left, top, right, bottom = stats[:, 0], stats[:, 1], stats[:, 0] + stats[:, 2], stats[:, 1] + stats[:, 3]
    inside = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    hole = inside & (stats[:, cv2.CC_STAT_AREA] <= MAX_HOLE * grid.size)
    hole[0] = False
    return grid | hole[labels].astype(np.uint8)


def _large_parts(grid: np.ndarray) -> Tensor:
    """Connected parts of at least ``MIN_AREA``; grid [H, W] uint8."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(grid, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= MIN_AREA * grid.size
    large[0] = False
    return torch.from_numpy(large[labels])


def label_instances(
    mask: Tensor,  # [H, W] bool
) -> Tensor:  # [H, W] int16, 0 where nothing moves
    """Connected moving objects of one frame, numbered from 1."""
    _, labels = cv2.connectedComponents(mask.numpy().astype(np.uint8), connectivity=8)
    return torch.from_numpy(np.minimum(labels, 32767).astype(np.int16))
