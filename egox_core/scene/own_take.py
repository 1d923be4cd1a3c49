"""Check that a depth video belongs to the exo video, by comparing depth steps with picture edges.

They are compared with the same frames shifted in the picture: depth of another take fits them at
any shift, the own one where it lies.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from ..remarks import Remark, RemarkKind

SIDE = 112
"""px of the compared pictures' shorter side."""
REACH = 24
"""Largest shift in the picture, px, each way."""
SAMPLE_COUNT = 5
"""Frames whose edges are compared."""
BEST_SHARE = 0.05
"""Share of all shifts that fit best: own depth is among them without one."""
WARNING = Remark(
    "the depth doesn't fit this video: its steps lie better on the edges of the same frames "
    "shifted. Is it of another take?",
    RemarkKind.STRANGE_DEPTH,
)
HEAD_VIDEO = Remark(
    "this looks like a head camera's video: its camera moves, the depth's stands, and the two "
    "don't fit. Choose the video of the third-person camera",
    RemarkKind.HEAD_VIDEO,
)


def strange_depth(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Tensor,  # [T, H, W] metres, NaN invalid
) -> tuple[Remark, ...]:
    """Warn if the depth seems to belong to another video than the frames.

    Nothing is said of a clip that is too small or too even to tell.
    """
    if min(depth_m.shape[1:]) <= 2 * REACH:
        return ()
    frame_numbers = np.linspace(0, len(depth_m) - 1, SAMPLE_COUNT).round().astype(int)
    score_maps = [
        _shift_scores(_picture_edges(_shrink(frames[t])), _depth_steps(_shrink(depth_m[t])))
        for t in map(int, frame_numbers)
    ]
    scores = np.mean(score_maps, axis=0)
    better_share = float((scores > scores[REACH, REACH]).mean())
    return (WARNING,) if better_share > BEST_SHARE else ()


def _shrink(picture: Tensor) -> np.ndarray:  # [H, W(, 3)] -> [h, w(, 3)] float32
    """Resize a picture or depth map so that its shorter side is ``SIDE``.

    Colours become 0...255.
    """
    picture_array = picture.float().cpu().numpy()
    if picture.is_floating_point() and picture_array.ndim == 3:
        picture_array = picture_array * 255
    scale = SIDE / min(picture_array.shape[:2])
    size = (round(picture_array.shape[1] * scale), round(picture_array.shape[0] * scale))
    interpolation = cv2.INTER_AREA if picture_array.ndim == 3 else cv2.INTER_NEAREST
    return cv2.resize(picture_array, size, interpolation=interpolation)


def _picture_edges(picture: np.ndarray) -> np.ndarray:  # [h, w, 3] -> [h, w]
    """Compute picture edges relative to the mean edge strength around them."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    gradients = [cv2.Sobel(smooth, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1))]
    edges = np.sqrt(np.square(gradients).sum((0, -1)))
    return np.minimum(edges / (cv2.GaussianBlur(edges, (0, 0), SIDE / 9) + 1), 4)


def _depth_steps(depth_m: np.ndarray) -> np.ndarray:  # [h, w] -> [h, w]
    """Compute the relative depth step to the neighbouring pixels, 0 where depth is unknown."""
    log_depth = np.log(depth_m)
    steps = np.zeros_like(log_depth)
    for axis in (0, 1):
        depth_change = np.nan_to_num(np.abs(np.diff(log_depth, axis=axis)))
        for side in (slice(1, None), slice(None, -1)):
            steps_slice = steps[side] if axis == 0 else steps[:, side]
            np.maximum(steps_slice, depth_change, out=steps_slice)
    return np.minimum(steps, 0.15)


def _shift_scores(edges: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Correlate picture edges with depth steps at each small shift of the picture.

    The result is [2 REACH + 1, 2 REACH + 1]."""
    inner_steps = steps[REACH:-REACH, REACH:-REACH]
    scores = cv2.matchTemplate(edges, np.ascontiguousarray(inner_steps), cv2.TM_CCOEFF_NORMED)
    return np.nan_to_num(scores, posinf=0, neginf=0)
