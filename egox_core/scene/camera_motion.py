"""Motion of an exo camera that is given one pose: the background's flow over the clip."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..arrays import as_uint8
from ..errors import EgoXInputError, in_words
from ..frozen import frozen
from ..sizes import REFERENCE_EXO_SIZE
from ..video import decode_frames, probe_video, resize_picture

LOOKS = 13  # frames that are looked at, spread over the clip
CORNERS, LEAST_CORNERS = 400, 30  # that are followed, and that must agree
AGREE_PX = 1.0  # with the common motion
SURROUNDS = 0.5  # of the picture, between the corners that agree: a walker fills less
MOVED = 0.004  # of the picture's width, 3 px of 784
STANDING = 0.1  # of the corners, in their places: fewer, and the camera doesn't stand
LOST = 1 / 3  # of the looks: somebody who passes close by hides the background for fewer
LEAST_ZOOM = 1.05  # less changes depth by less than a network errs, and a hand's shake has it
ZOOMED = 2 / 3  # of the motion, that a zoom about the middle explains: the rest is a hand's


@frozen
class BackgroundMotion:
    """The farthest that the background has gone since frame 0."""

    pixels: float | None  # mean over the picture's corners; None: it is no longer found
    frame: int
    zoom: float = 1.0  # by which a lens would have done it

    def text(self) -> str:
        """Describe the fault of one pose and one focal length, and the remedy."""
        if self.zoom != 1:
            return (
                f"the lens zooms (x {self.zoom:.2f} from frame 0 to frame {self.frame}), or the camera "
                "is carried straight ahead: depth and scene have one focal length, so the scene smears; "
                "use a part of the clip without a zoom"
            )
        how = (
            f"it moves, how far isn't known (at frame {self.frame} the background of frame 0 is no "
            "longer found)"
            if self.pixels is None
            else f"the background has moved by {self.pixels:.0f} px from frame 0 to frame "
            f"{self.frame}"
        )
        fix = (
            "estimate its motion (estimate_exo_motion), or use a part of the clip in which it stays in "
            "place"
        )
        smears = f"the exo camera is given one pose, but {how}: the static scene smears; "
        return smears + in_words(fix)


def camera_moves(video: Path) -> bool | None:
    """Check whether a video's camera moves, as one on a head does, None if unreadable."""
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
) -> BackgroundMotion | None:
    """Find the farthest that the background has gone since frame 0, None if it stood or is unknown.

    Corners of frame 0 are followed to the others, and the shift, turn and zoom that most of
    them share is the camera's. Pixels None: in many looks, the first of them at that frame,
    corners neither share a motion nor are in their places, as when somebody walks with the
    camera. How far it moves isn't known then.
    """
    picked = np.unique(np.linspace(0, len(exo_frames) - 1, LOOKS).round().astype(int)).tolist()
    first = grey(exo_frames[0])
    height, width = first.shape
    free = None if masks is None else (~masks[0].numpy()).astype(np.uint8)
    start = cv2.goodFeaturesToTrack(first, CORNERS, 0.01, 0.015 * width, mask=free)
    if start is None or len(start) < LEAST_CORNERS:
        return None
    rim = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=float)
    common, farthest, best, lost = np.eye(2, 3), 0.0, None, []
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
            if gone > max(farthest, MOVED * width):
                farthest = gone
                best = BackgroundMotion(pixels=gone, frame=t, zoom=_zoom(common, rim))
        else:
            off = np.linalg.norm(now - start, axis=-1)[:, 0]
            if (there & (off < MOVED * width)).mean() < STANDING:
                lost.append(t)
    zooms = best is not None and best.zoom != 1
    if len(lost) > LOST * (len(picked) - 1) and not zooms:  # a lens zooms too far to be followed
        return BackgroundMotion(pixels=None, frame=lost[0])
    return best


def _zoom(
    common: np.ndarray,  # [2, 3]
    rim: np.ndarray,  # [4, 2] px, corners of the picture
) -> float:
    """Find the zoom about the picture's middle that makes nearly all of a motion, 1 without one."""
    zoom, middle = float(np.hypot(*common[:, 0])), rim.mean(0)
    gone = rim @ common[:, :2].T + common[:, 2]
    rest = np.linalg.norm(middle + zoom * (rim - middle) - gone, axis=1).mean()
    whole = np.linalg.norm(gone - rim, axis=1).mean()
    explains = rest < (1 - ZOOMED) * whole and max(zoom, 1 / zoom) > LEAST_ZOOM
    return zoom if explains else 1.0


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
