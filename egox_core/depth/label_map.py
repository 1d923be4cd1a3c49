"""Tell a mask from a map of labels, of which several greys stand for one object each.

Greys of half of white and more all mean "moves": two objects in one picture, or the unknown band of
a trimap. Where half of white divides them, an object would be lost."""

import cv2
import numpy as np

from ..errors import EgoXInputError

SAME_GREY = 16
"""Difference of two grey levels up to which they are one, as lossy videos change them."""
MIN_AREA_SHARE = 0.02
"""Share of all filled pixels from which on a grey is an area, not a dot or a line."""
HALF_WHITE = 128
"""Level from which on a pixel of a mask counts."""
MIN_EXACT_SHARE = 0.5
"""Share of the pixels about a label's grey that have exactly it, in areas of it."""


def check_no_labels(
    grey: np.ndarray,  # [H, W] uint8, or float32 0...1
    subject: str,  # names it in errors
) -> None:
    """Refuse a grey mask of which a grey that counts and one that doesn't fill an area each.

    Soft edges fill none, nor do probabilities: no pixel of theirs is exactly as all its neighbours.

    Raises:
        EgoXInputError: names both levels.
    """
    square_kernel = np.ones((3, 3), np.uint8)
    is_filled = cv2.erode(grey, square_kernel) == cv2.dilate(grey, square_kernel)
    levels = grey if grey.dtype == np.uint8 else np.round(255 * grey.clip(0, 1)).astype(np.uint8)
    counts = np.bincount(levels[is_filled & (levels > SAME_GREY)], minlength=256)
    main_level, all_levels = int(counts.argmax()), np.arange(256)
    is_divided = (all_levels >= HALF_WHITE) != (main_level >= HALF_WHITE)
    other_counts = np.where(is_divided, counts, 0)
    other_level = int(other_counts.argmax())
    is_near = np.abs(levels.astype(np.int16) - other_level) <= SAME_GREY
    # Soft edges and lossy videos have all levels about any of theirs, as two of one grey have.
    is_exact = np.count_nonzero(levels == other_level) > MIN_EXACT_SHARE * np.count_nonzero(is_near)
    if other_counts.max() <= MIN_AREA_SHARE * counts.sum() or not is_exact:
        return
    low, high = sorted((main_level, other_level))
    raise EgoXInputError(
        subject,
        got=f"areas of grey {low} and {high} of 255, which may be labels",
        expected="0 and 255, white where it moves",
        fix="write the labels that move as 255, and all others as 0",
    )
