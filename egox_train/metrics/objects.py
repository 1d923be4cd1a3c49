"""Compute object metrics from masks, as defined by Ego-Exo4D's relation benchmark."""

import cv2
import numpy as np
from torch import Tensor

from egox_core.errors import EgoXInputError

from ..data.object_masks import ObjectMasks

BOUND = 0.008
"""Boundaries may lie apart by this share of the diagonal, rounded up to whole pixels."""


def object_rows(
    masks: ObjectMasks,
    truth: Tensor,  # [T, H, W, 3]
) -> dict[str, float | None]:
    """Average the object metrics over all frames and objects with a true mask.

    An object without a mask in the generated video counts as missing: IoU and contour accuracy are
    0 for it by their definitions, and it has no location, so it is left out of the location error
    and counted.

    Raises:
        EgoXInputError: masks of another size or length than the videos.
    """
    check_sizes(masks, truth)
    overlap_values, location_errors, contour_scores = [], [], []
    for true_mask, generated_mask in zip(
        *(
            video_masks.reshape(-1, *video_masks.shape[2:])
            for video_masks in (masks.truth, masks.generated)
        ),
        strict=True,
    ):
        if not true_mask.any():
            continue
        overlap_values.append(iou(true_mask, generated_mask))
        contour_scores.append(contour_accuracy(true_mask, generated_mask))
        if generated_mask.any():
            location_errors.append(location_error_px(true_mask, generated_mask))
    return {
        "location_error_px": _mean(location_errors),
        "iou": _mean(overlap_values),
        "contour_accuracy": _mean(contour_scores),
        "missing_masks": float(len(overlap_values) - len(location_errors)),
    }


def check_sizes(
    masks: ObjectMasks,
    truth: Tensor,  # [T, H, W, 3]
) -> None:
    """Check that object masks have the size and length of their video."""
    if masks.truth.shape[1:] != tuple(truth.shape[:3]):
        raise EgoXInputError(
            "object masks",
            got=f"{masks.truth.shape[1:]} (frames, height, width)",
            expected=tuple(truth.shape[:3]),
            fix="make them from this clip's own ego videos",
        )


def iou(true_mask: np.ndarray, generated_mask: np.ndarray) -> float:
    """Compute the intersection over union of two masks [H, W] bool, 1 if both are empty."""
    union_pixels = np.count_nonzero(true_mask | generated_mask)
    return 1.0 if not union_pixels else np.count_nonzero(true_mask & generated_mask) / union_pixels


def location_error_px(true_mask: np.ndarray, generated_mask: np.ndarray) -> float:
    """Measure the distance in px between the positions of two masks.

    Both masks must hold something.
    """
    return float(np.linalg.norm(_outline_mean(true_mask) - _outline_mean(generated_mask)))


def _outline_mean(mask: np.ndarray) -> np.ndarray:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(outlines, key=cv2.contourArea).reshape(-1, 2).mean(axis=0)


def contour_accuracy(true: np.ndarray, generated: np.ndarray) -> float:
    """Compute the F-measure between the boundaries of two masks.

    1 where both have none.
    """
    return boundary_f_measure(
        mask_boundary(true),
        mask_boundary(generated),
        int(np.ceil(BOUND * np.linalg.norm(true.shape))),
    )


def boundary_f_measure(
    true_boundary: np.ndarray, generated_boundary: np.ndarray, radius: int
) -> float:
    """Compute the F-measure between two boundaries, which match within ``radius`` px.

    Both are [H, W] bool. 1 where neither has any.
    """
    row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk_kernel = (row**2 + column**2 <= radius**2).astype(np.uint8)
    near_true_edge, near_generated_edge = (
        cv2.dilate(edge_mask.astype(np.uint8), disk_kernel) > 0
        for edge_mask in (true_boundary, generated_boundary)
    )
    true_count, generated_count = int(true_boundary.sum()), int(generated_boundary.sum())
    precision = (
        (generated_boundary & near_true_edge).sum() / generated_count if generated_count else 1.0
    )
    recall = (true_boundary & near_generated_edge).sum() / true_count if true_count else 1.0
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def mask_boundary(mask: np.ndarray) -> np.ndarray:
    """Mark the boundary pixels of a mask [H, W].

    They differ from the right, lower or lower right neighbour (as DAVIS defines it)."""
    padded_mask = np.pad(mask.astype(bool), ((0, 1), (0, 1)), mode="edge")
    pixel, right_pixel, lower_pixel, diagonal_pixel = (
        padded_mask[:-1, :-1],
        padded_mask[:-1, 1:],
        padded_mask[1:, :-1],
        padded_mask[1:, 1:],
    )
    return (pixel != right_pixel) | (pixel != lower_pixel) | (pixel != diagonal_pixel)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
