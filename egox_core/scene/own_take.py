"""A check that depth belongs to the frames: its steps lie on their edges, and it changes where they do.

Both are compared with the same frames shifted, in the picture and in time. Depth of another take, or
of another moment, fits a shifted clip as well as the one that it is given with.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from ..remarks import Remark, RemarkKind

SIDE = 112
"""px of the compared pictures' shorter side; half of it for what moves."""
REACH, NEAR = 24, 8
"""Largest and smallest shift in the picture, px."""
LOOKED_AT, LONGEST = 5, 49
"""Frames whose edges are compared, and frames in a row for what moves."""
MOVING = 0.0005
"""Least share of pixels that change, in frames and in depth, for a clip to tell its moment."""
GREYS, STEP = 15.0, 0.05
"""Change of a pixel that counts: of 255, and relative depth."""
WARNING = Remark(
    "the depth doesn't fit this video: its steps lie no better on the frames' edges than on the same "
    "frames shifted. Is it of another take?",
    RemarkKind.STRANGE_DEPTH,
)
WARNING_TIME = Remark(
    "the depth doesn't fit this video in time: where it changes is not where the frames do. Is it of "
    "another moment, or of a part of the video?",
    RemarkKind.STRANGE_DEPTH,
)


def strange_depth(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Tensor,  # [T, H, W] metres, NaN invalid
) -> tuple[Remark, ...]:
    """Reasons why depth and frames may not be of one take; empty where nothing says so, and where a
    clip is too small or too still to tell."""
    if min(depth_m.shape[1:]) <= 2 * REACH:
        return ()
    picked = np.linspace(0, len(depth_m) - 1, LOOKED_AT).round().astype(int)
    maps = [
        _shift_scores(_edges(_small(frames[t], SIDE)), _steps(_small(depth_m[t], SIDE)))
        for t in map(int, picked)
    ]
    scores = np.mean(maps, axis=0)
    away = np.abs(np.arange(-REACH, REACH + 1))
    far = np.maximum(away[:, None], away[None]) >= NEAR
    if not scores.any():
        return ()  # no edges or no steps
    if scores[REACH - 1 : REACH + 2, REACH - 1 : REACH + 2].max() <= scores[far].max():
        return (WARNING,)
    first = max(0, (len(depth_m) - LONGEST) // 2)
    row = range(first, min(first + LONGEST, len(depth_m)))
    gap = max(1, len(row) // 12)
    if len(row) <= gap:
        return ()  # a single frame has no moment
    grey = np.stack([_small(frames[t], SIDE // 2).mean(-1) for t in row])
    log = np.log(np.stack([_small(depth_m[t], SIDE // 2) for t in row]))
    seen, moved = (_changes(each, gap) for each in (grey, log))
    if min((seen > GREYS).mean(), (moved > STEP).mean()) < MOVING:
        return ()
    lags = _lag_scores(np.minimum(seen, 2 * GREYS), np.minimum(moved, 6 * STEP))
    middle = len(lags) // 2
    return () if abs(int(np.argmax(lags)) - middle) <= 1 else (WARNING_TIME,)


def _small(picture: Tensor, side: int) -> np.ndarray:  # [H, W(, 3)] -> [h, w(, 3)] float32
    """The picture with that shorter side; colours as 0...255, depth without means of two surfaces."""
    array = picture.float().cpu().numpy()
    if picture.is_floating_point() and array.ndim == 3:
        array = array * 255
    scale = side / min(array.shape[:2])
    size = (round(array.shape[1] * scale), round(array.shape[0] * scale))
    how = cv2.INTER_AREA if array.ndim == 3 else cv2.INTER_NEAREST
    return cv2.resize(array, size, interpolation=how)


def _edges(picture: np.ndarray) -> np.ndarray:  # [h, w, 3] -> [h, w]
    """Strength of the edges against their surroundings: a busy carpet counts no more than a wall."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    slopes = [cv2.Sobel(smooth, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1))]
    edges = np.sqrt(np.square(slopes).sum((0, -1)))
    return np.minimum(edges / (cv2.GaussianBlur(edges, (0, 0), SIDE / 9) + 1), 4)


def _steps(depth_m: np.ndarray) -> np.ndarray:  # [h, w] -> [h, w]
    """Relative step of depth to the neighbours, 0 beside what is unknown."""
    log = np.log(depth_m)
    steps = np.zeros_like(log)
    for axis in (0, 1):
        change = np.nan_to_num(np.abs(np.diff(log, axis=axis)))
        for side in (slice(1, None), slice(None, -1)):
            part = steps[side] if axis == 0 else steps[:, side]
            np.maximum(part, change, out=part)
    return np.minimum(steps, 0.15)


def _shift_scores(edges: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """[2 REACH + 1, 2 REACH + 1]: correlation at each shift of the frame."""
    inner = steps[REACH:-REACH, REACH:-REACH]
    scores = cv2.matchTemplate(edges, np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED)
    return np.nan_to_num(scores, posinf=0, neginf=0)


def _changes(pictures: np.ndarray, gap: int) -> np.ndarray:  # [t, h, w] -> [t - gap, h, w]
    """How far each pixel changes, without what all do: exposure, scale of a depth model."""
    changes = pictures[gap:] - pictures[:-gap]
    return np.abs(np.nan_to_num(changes - np.nanmedian(changes, axis=(1, 2), keepdims=True)))


def _lag_scores(seen: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Correlation of two [t, h, w] at each lag up to half of t, what always changes left out."""
    seen, moved, count = seen - seen.mean(0), moved - moved.mean(0), len(seen)
    scores = []
    for lag in range(-(count // 2), count // 2 + 1):
        a = seen[max(0, lag) : count + min(0, lag)]
        b = moved[max(0, -lag) : count + min(0, -lag)]
        scores.append((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum() + 1e-9))
    return np.array(scores)
