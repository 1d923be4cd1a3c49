"""Measure the motion of redrawn areas by a simple reference implementation."""

import numpy as np

from egox_core.metrics.redrawn import (
    FRAME_GAIN,
    MIN_ERROR,
    MIN_OBSERVED,
    PLACE_FRACTION,
    REACH,
    SHORTEST_MOVE,
)


def move_errors_reference(
    video: np.ndarray, prior: np.ndarray, observed_mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Measure a video's error against its prior under several shifts, as a simple reference."""
    height, width = observed_mask.shape
    half_patch = max(3, height // PLACE_FRACTION | 1) // 2
    observed_pixels = np.argwhere(observed_mask > 0)
    still_errors, best_errors = np.full((2, height, width), np.inf)
    still_error, frame_errors, shifts = np.inf, [], []
    for down, right in np.ndindex(2 * REACH + 1, 2 * REACH + 1):
        shift = np.array((down, right)) - REACH
        move_length = np.linalg.norm(shift)
        if 0 < move_length < SHORTEST_MOVE:
            continue
        shifted_pixels = observed_pixels + shift
        inside_mask = ((shifted_pixels >= 0) & (shifted_pixels < (height, width))).all(1)
        inside_mask[inside_mask] = observed_mask[tuple(shifted_pixels[inside_mask].T)] > 0
        source_pixels, target_pixels = observed_pixels[inside_mask], shifted_pixels[inside_mask]
        squared_errors = (video[tuple(source_pixels.T)] - prior[tuple(target_pixels.T)]) ** 2
        if move_length == 0:
            still_error = squared_errors.mean()
        elif len(source_pixels) > len(observed_pixels) / 2:
            frame_errors.append(squared_errors.mean())
            shifts.append((down - REACH, right - REACH))
        for y, x in np.ndindex(height, width):
            patch_errors = squared_errors[np.abs(source_pixels - (y, x)).max(1) <= half_patch]
            if len(patch_errors) > MIN_OBSERVED * (2 * half_patch + 1) ** 2:
                errors = still_errors if move_length == 0 else best_errors
                errors[y, x] = min(errors[y, x], patch_errors.mean())
    explained = (
        min(frame_errors, default=np.inf) < FRAME_GAIN * still_error and still_error > MIN_ERROR
    )
    return still_errors, best_errors, shifts[int(np.argmin(frame_errors))] if explained else None
