"""Object metrics from given masks, by the definitions of the Ego-Exo4D relation benchmark
(correspondence).

Its evaluation script and its text differ in two places; both forms are reported, each under its own
name:

- location: the distance of the largest outlines' mean points (pixels, and as a share of the diagonal), and the distance
  of bounding boxes' centres, which is what the script scores;
- contour accuracy: the F-measure of boundaries as they lie (script), and after moving the centroids together (text).

The script works at a longest side of 480 px; here the evaluated picture's own pixels are used.
"""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.types import ObjectMasks

BOUND = 0.008
"""Boundaries may lie apart by this share of the diagonal, rounded up to whole pixels."""
MIN_OBJECT = 0.02
"""Share of the picture from which an object's colour is judged."""
SEEN_SHARE = 0.1
"""An object counts as visible from exo in a frame where exo sees this share of its ego pixels'
surface."""
RING = 0.04
"""Width of an object's surroundings, share of the picture's height."""


def object_rows(
    masks: ObjectMasks,
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> dict[str, float | None]:
    """Means over all frames and objects with a true mask, and the counts; None where there is
    nothing to average.

    An object without a mask in the generated video counts as missing: IoU and contour accuracy are
    0 for it by their definitions, and it has no location, so it is left out of the location
    errors and counted.

    Raises:
        EgoXInputError: masks of another size or length than the videos.
    """
    check_sizes(masks, truth)
    colours = colour_rows(masks, generated, truth)
    if masks.generated is None:
        return {"object_frames": float(masks.truth.any(axis=(2, 3)).sum()), **colours}
    present, detected = (np.any(side, axis=(2, 3)) for side in (masks.truth, masks.generated))
    overlaps, locations, boxes, contours, registered = [], [], [], [], []
    diagonal = float(np.hypot(*masks.truth.shape[2:]))
    for index, frame in zip(*np.nonzero(present), strict=True):
        true, guess = masks.truth[index, frame], masks.generated[index, frame]
        overlaps.append(iou(true, guess))
        contours.append(contour_accuracy(true, guess))
        registered.append(contour_accuracy(true, moved_onto(guess, true)) if guess.any() else 0.0)
        if guess.any():
            locations.append(location_error_px(true, guess))
            boxes.append(box_error_px(true, guess) / diagonal)
    location = _mean(locations)
    return {
        "location_error_px": location,
        "location_error": None if location is None else location / diagonal,
        "location_error_box": _mean(boxes),
        "iou": _mean(overlaps),
        "contour_accuracy": _mean(contours),
        "contour_accuracy_registered": _mean(registered),
        "visibility_accuracy": balanced_accuracy(present, detected),
        "object_frames": float(present.sum()),
        "missing_masks": float((present & ~detected).sum()),
        "extra_masks": float((~present & detected).sum()),
        **colours,
    }


def check_sizes(
    masks: ObjectMasks,
    truth: Tensor,  # [T, H, W, 3]
) -> None:
    """Refuse masks that aren't of this video. Raises EgoXInputError."""
    if masks.truth.shape[1:] != tuple(truth.shape[:3]):
        raise EgoXInputError(
            "object masks",
            got=f"{masks.truth.shape[1:]} (frames, height, width)",
            expected=tuple(truth.shape[:3]),
            fix="make them from this clip's own ego videos",
        )


def iou(true: np.ndarray, guess: np.ndarray) -> float:
    """Intersection over union of two [H, W] bool; 1 where both are empty."""
    union = np.count_nonzero(true | guess)
    return 1.0 if not union else np.count_nonzero(true & guess) / union


def location_error_px(true: np.ndarray, guess: np.ndarray) -> float:
    """Distance of the mean points of the largest outlines, px; both masks must hold something."""
    return float(np.linalg.norm(_outline_mean(true) - _outline_mean(guess)))


def _outline_mean(mask: np.ndarray) -> np.ndarray:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(outlines, key=cv2.contourArea).reshape(-1, 2).mean(axis=0)


def box_error_px(true: np.ndarray, guess: np.ndarray) -> float:
    """Distance of the bounding boxes' centres, each rounded down to a whole pixel, px."""
    return float(np.linalg.norm(_box_centre(true) - _box_centre(guess)))


def _box_centre(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([(columns.min() + columns.max()) // 2, (rows.min() + rows.max()) // 2])


def contour_accuracy(true: np.ndarray, guess: np.ndarray) -> float:
    """F-measure of boundary pixels that have one of the other mask within the bound; 1 where both
    have none."""
    return boundary_f(
        boundary(true), boundary(guess), int(np.ceil(BOUND * np.linalg.norm(true.shape)))
    )


def boundary_f(true: np.ndarray, guess: np.ndarray, radius: int) -> float:
    """F-measure of boundary pixels ([H, W] bool each) that have one of the other within ``radius``
    px; 1 of none."""
    row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (row**2 + column**2 <= radius**2).astype(np.uint8)
    near_true, near_guess = (cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in (true, guess))
    true_count, guess_count = int(true.sum()), int(guess.sum())
    precision = (guess & near_true).sum() / guess_count if guess_count else 1.0
    recall = (true & near_guess).sum() / true_count if true_count else 1.0
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def boundary(mask: np.ndarray) -> np.ndarray:
    """[H, W] bool: pixels that differ from the one to the right, below, or right below (as DAVIS
    draws it)."""
    grown = np.pad(mask.astype(bool), ((0, 1), (0, 1)), mode="edge")
    own, right, below, across = grown[:-1, :-1], grown[:-1, 1:], grown[1:, :-1], grown[1:, 1:]
    return (own != right) | (own != below) | (own != across)


def moved_onto(mask: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``mask`` moved by whole pixels so that its centroid is on ``target``'s; what leaves the
    picture is cut."""
    rows, columns = np.nonzero(mask)
    down, right = (
        round(float(t.mean() - m.mean()))
        for t, m in zip(np.nonzero(target), (rows, columns), strict=True)
    )
    out = np.zeros_like(mask)
    rows, columns = rows + down, columns + right
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    out[rows[inside], columns[inside]] = True
    return out


def balanced_accuracy(
    present: np.ndarray,  # [N, T] bool
    detected: np.ndarray,  # [N, T] bool
) -> float | None:
    """Mean of two shares: of present objects that were detected, and of absent ones that were not;
    one of them where the other doesn't occur."""
    shares = [
        float((detected == present)[present == value].mean())
        for value in (True, False)
        if (present == value).any()
    ]
    return _mean(shares)


def colour_rows(
    masks: ObjectMasks,
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> dict[str, float | None]:
    """Share of object frames whose colour is the object's own: of all that are judged, and of those
    seen from exo."""
    hits = colour_hits(masks, generated, truth)
    judged = ~np.isnan(hits)
    rows = {"colours_right": _mean(hits[judged].tolist()), "colour_frames": float(judged.sum())}
    if masks.seen is not None:
        rows["colours_right_seen"] = _mean(hits[judged & (masks.seen >= SEEN_SHARE)].tolist())
    return rows


def colour_hits(
    masks: ObjectMasks,
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> np.ndarray:  # [N, T] float
    """1 where the object's mean colour inside its true mask is nearer to its own in the true
    picture than to its surroundings' there, 0 where it isn't, NaN where the mask is under 2 % of
    the picture or fills it."""
    pictures, shown = truth.double().cpu().numpy(), generated.double().cpu().numpy()
    height, width = masks.truth.shape[2:]
    hits = np.full(masks.truth.shape[:2], np.nan)
    for number, frame in zip(
        *np.nonzero(masks.truth.sum(axis=(2, 3)) >= MIN_OBJECT * height * width), strict=True
    ):
        mask = masks.truth[number, frame]
        ring = ring_of(mask)
        if not ring.any():
            continue
        own, around, got = (
            pictures[frame][mask].mean(0),
            pictures[frame][ring].mean(0),
            shown[frame][mask].mean(0),
        )
        hits[number, frame] = float(np.linalg.norm(got - own) < np.linalg.norm(got - around))
    return hits


def ring_of(mask: np.ndarray) -> np.ndarray:
    """[H, W] bool: the surroundings of a mask."""
    size = 2 * max(1, round(RING * len(mask))) + 1
    return (cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0) & ~mask


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
