"""Detect what moves by comparing frames with the static background, for clips without a mask.

A pixel moves where it is nearer than the static background or has another colour, and wherever its
colour is unsteady over the clip (whoever works in one place hides what is behind all the time).
Shadows and flicker of light move by that, what keeps still doesn't: a mask from a segmentation is
far better."""

import cv2
import numpy as np
import torch
from torch import Tensor

from ..arrays import as_uint8
from ..remarks import Remark, RemarkKind
from ..sizes import REFERENCE_SIZE
from .background import SAME_SURFACE, StaticBackground

WARNING = Remark(
    (
        "no mask given: moving points were guessed from changes; poor on real footage, give one "
        "(SAM3 makes it)"
    ),
    RemarkKind.WARNING,
)
OTHER_COLOUR = 30.0
"""Mean colour difference, 0...255, that neither light nor compression makes."""
UNSTEADY = 3.0
"""Unsteady is so many times the typical pixel's spread of colour over time, and at least so many
levels of 0...255."""
MIN_AREA = 2e-4
"""Smallest moving object, as a share of the picture (70 px of 784x448): smaller ones are noise."""
MEDIAN_PX, SPECK_PX, GAP_PX = 5, 5, 11
"""Windows, px of a picture of the reference height: over which change is taken, what is removed,
what is closed."""


def unsteady_pixels(background: StaticBackground) -> Tensor:  # [H, W] bool
    """Mark pixels whose colour changes so much over time that no background is visible there."""
    spread = _local_median(background.rgb_spread.nan_to_num(0.0))
    return _without_specks(spread > UNSTEADY * max(1.0, float(spread.median())))


def derive_dynamic(
    frame: Tensor,  # [H, W, 3] 0...1 or uint8
    depth_m: Tensor,  # [H, W] z depth, NaN invalid
    # Depth is NaN where there is none: everything visible there hides it.
    background: StaticBackground,
    # Relative depth difference between samples of one surface.
    tolerance: float = SAME_SURFACE,
) -> Tensor:  # [H, W] bool; False where depth is invalid
    """Mark the pixels of one frame that do not show the static background."""
    nearer_mask = depth_m < (1 - tolerance) * background.depth_m
    colour_change = (as_uint8(frame).float() - background.rgb.float()).abs().mean(-1)
    changed_mask = _without_specks(nearer_mask | (_local_median(colour_change) > OTHER_COLOUR))
    return (changed_mask | ~torch.isfinite(background.depth_m)) & torch.isfinite(depth_m)


def _local_median(values: Tensor) -> Tensor:
    """Take the median around each pixel [H, W], which removes noise and keeps outlines."""
    return torch.from_numpy(
        cv2.medianBlur(values.numpy(), min(5, _odd_window(MEDIAN_PX, len(values))))
    )  # floats: 3 or 5


def _odd_window(size: int, height: int) -> int:
    """Scale an odd window size in px to a picture's height."""
    return max(3, 2 * round(size * height / REFERENCE_SIZE / 2) + 1)


def _without_specks(mask: Tensor) -> Tensor:
    """Remove thin lines and specks from a mask [H, W] bool, and close small gaps."""
    mask_array = mask.numpy().astype(np.uint8)
    for operation, width in ((cv2.MORPH_OPEN, SPECK_PX), (cv2.MORPH_CLOSE, GAP_PX)):
        window_px = _odd_window(width, len(mask_array))
        mask_array = cv2.morphologyEx(
            mask_array,
            operation,
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window_px, window_px)),
        )
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask_array, connectivity=8)
    large_labels = stats[:, cv2.CC_STAT_AREA] >= MIN_AREA * mask_array.size
    large_labels[0] = False
    return torch.from_numpy(large_labels[labels.astype(np.int32, copy=False)])
