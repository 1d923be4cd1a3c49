"""Motion of an exo camera that is given one pose: the background's flow over the clip."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..arrays import as_uint8
from ..errors import EgoXInputError
from ..sizes import REFERENCE_EXO_SIZE
from ..video import decode_frames, probe_video, resize_picture

LOOKS = 13  # frames that are looked at, spread over the clip
CORNERS, LEAST_CORNERS = 400, 30  # that are followed, and that must agree
AGREE_PX = 1.0  # with the common motion
SURROUNDS = 0.5  # of the picture, between the corners that agree: a walker fills less
MOVED = 0.004  # of the picture's width, 3 px of 784
STANDING = 0.1  # of the corners, in their places: fewer, and the camera doesn't stand
LOST = 1 / 3  # of the looks: somebody who passes close by hides the background for fewer


def camera_moves(video: Path) -> bool | None:
    """Check whether a video's camera moves, as one on a head does, or give None for a video that
    can't be read."""
    pictures = []
    try:
        info = probe_video(video)
        looks = np.unique(np.linspace(0, info.frame_count - 1, LOOKS).round().astype(int)).tolist()
        shrink = min(1.0, REFERENCE_EXO_SIZE[0] / info.width)
        size = round(shrink * info.width), round(shrink * info.height)
        for _, picture in decode_frames(video, info, looks):
            pictures.append(torch.from_numpy(resize_picture(picture, *size)))
    except EgoXInputError:
        return None
    return camera_motion(pictures, None) is not None


def camera_motion(
    exo_frames: Sequence[Tensor] | Tensor,  # [T, H, W, 3] 0...1 or uint8
    masks: Sequence[Tensor] | None,  # T of [H, W] bool, what moves or is sky
) -> tuple[float | None, int] | None:  # (pixels, frame)
    """Find the farthest that the background has gone since frame 0, None if it stood, or nobody
    knows.

    Corners of frame 0 are followed to the others, and the shift, turn and zoom that most of
    them share is the camera's. Its pixels are the mean over the picture's corners. Pixels None:
    in many looks, the first of them at that frame, corners neither share a motion nor are in
    their places, as when somebody walks with the camera. How far it moves isn't known then.
    """
    picked = np.unique(np.linspace(0, len(exo_frames) - 1, LOOKS).round().astype(int)).tolist()
    first = grey(exo_frames[0])
    height, width = first.shape
    free = None if masks is None else (~masks[0].numpy()).astype(np.uint8)
    start = cv2.goodFeaturesToTrack(first, CORNERS, 0.01, 0.015 * width, mask=free)
    if start is None or len(start) < LEAST_CORNERS:
        return None
    rim = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=float)
    common, best, lost = np.eye(2, 3), (0.0, 0), []
    for t in picked[1:]:
        # Looked for where the camera's last motion puts them: hidden corners are found again.
        now, found, _ = cv2.calcOpticalFlowPyrLK(
            first,
            grey(exo_frames[t]),
            start,
            cv2.transform(start, common).astype(np.float32),
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        there = found[:, 0] > 0
        fitted = _common_motion(start[there], now[there], SURROUNDS * width * height)
        if fitted is not None:
            common = fitted
            gone = float(np.linalg.norm(rim @ common[:, :2].T + common[:, 2] - rim, axis=1).mean())
            best = max(best, (gone, t))
        else:
            off = np.linalg.norm(now - start, axis=-1)[:, 0]
            if (there & (off < MOVED * width)).mean() < STANDING:
                lost.append(t)
    if len(lost) > LOST * (len(picked) - 1):
        return None, lost[0]
    return best if best[0] > MOVED * width else None


def _common_motion(
    start: np.ndarray,  # [N, 1, 2] px
    now: np.ndarray,  # [N, 1, 2] px
    area: float,  # px², least between the corners that agree
) -> np.ndarray | None:  # [2, 3]
    if len(start) < LEAST_CORNERS:
        return None
    fitted, agree = cv2.estimateAffinePartial2D(start, now, ransacReprojThreshold=AGREE_PX)
    if fitted is None or agree.sum() < LEAST_CORNERS:
        return None
    return fitted if cv2.contourArea(cv2.convexHull(start[agree[:, 0] > 0])) >= area else None


def grey(frame: Tensor) -> np.ndarray:  # [H, W, 3] -> [H, W] uint8
    """Convert the frame to grey."""
    return cv2.cvtColor(as_uint8(frame).contiguous().numpy(), cv2.COLOR_RGB2GRAY)
