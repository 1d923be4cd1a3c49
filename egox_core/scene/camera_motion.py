"""Detect whether an exo camera with a single pose moves, from the background's optical flow."""

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

SAMPLE_COUNT = 13  # frames that are looked at, spread over the clip
CORNERS, MIN_CORNERS = 400, 30  # that are followed, and that must agree
AGREE_PX = 1.0  # with the common motion
MIN_AREA_SHARE = 0.5  # of the picture, between the corners that agree: a walker fills less
MOVED_SHARE = 0.004  # of the picture's width, 3 px of 784
STANDING_SHARE = 0.1  # of the corners, in their places: fewer, and the camera doesn't stand
LOST_SHARE = 1 / 3  # of the looks: somebody who passes close by hides the background for fewer
MIN_ZOOM = 1.05  # less changes depth by less than a network errs, and a hand's shake has it
ZOOM_SHARE = 2 / 3  # of the motion, that a zoom about the middle explains: the rest is a hand's


@frozen
class BackgroundMotion:
    """Largest motion of the background since frame 0."""

    pixels: float | None  # mean over the picture's corners; None: it is no longer found
    frame: int
    zoom: float = 1.0  # by which a lens would have done it

    def text(self) -> str:
        """Describe the camera motion that one pose and one focal length can't represent, and how to
        fix it."""
        if self.zoom != 1:
            return (
                f"the lens zooms (x {self.zoom:.2f} from frame 0 to frame {self.frame}), or the "
                "camera is carried straight ahead: depth and scene have one focal length, so the "
                "scene smears; use a part of the clip without a zoom"
            )
        motion_text = (
            f"it moves, how far isn't known (at frame {self.frame} the background of frame 0 is no "
            "longer found)"
            if self.pixels is None
            else f"the background has moved by {self.pixels:.0f} px from frame 0 to frame "
            f"{self.frame}"
        )
        advice = (
            "estimate its motion (estimate_exo_motion), or, where that can't be followed, use a "
            "part of the clip in which it stays in place"
        )
        warning_text = (
            f"the exo camera is given one pose, but {motion_text}: the static scene smears; "
        )
        return warning_text + in_words(advice)


def camera_moves(video: Path) -> bool | None:
    """Check whether the camera of a video moves, or return None if the video can't be read."""
    pictures = []
    try:
        info = probe_video(video)
        frame_numbers = np.unique(
            np.linspace(0, info.frame_count - 1, SAMPLE_COUNT).round().astype(int)
        ).tolist()
        scale = min(1.0, REFERENCE_EXO_SIZE[0] / info.width)
        size = round(scale * info.width), round(scale * info.height)
        for _, picture in decode_frames(video, info, frame_numbers):
            pictures.append(torch.from_numpy(resize_picture(picture, *size)))
    except EgoXInputError:
        return None
    return camera_motion(pictures, None) is not None


def camera_motion(
    exo_frames: Sequence[Tensor] | Tensor,  # [T, H, W, 3] 0...1 or uint8
    masks: Sequence[Tensor] | None,  # T of [H, W] bool, what moves or is sky
) -> BackgroundMotion | None:
    """Find the largest background motion since frame 0, or return None if the camera stands.

    Corners of frame 0 are followed to the others, and the shift, turn and zoom that most of
    them share is the camera's. Pixels None: in many looks, the first of them at that frame,
    corners neither share a motion nor are in their places, as when somebody walks with the
    camera. How far it moves isn't known then.
    """
    frame_numbers = np.unique(
        np.linspace(0, len(exo_frames) - 1, SAMPLE_COUNT).round().astype(int)
    ).tolist()
    first_picture = grey(exo_frames[0])
    height, width = first_picture.shape
    static_mask = None if masks is None else (~masks[0].numpy()).astype(np.uint8)
    start_points = cv2.goodFeaturesToTrack(
        first_picture, CORNERS, 0.01, 0.015 * width, mask=static_mask
    )
    if start_points is None or len(start_points) < MIN_CORNERS:
        return None
    picture_corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=float)
    motion = np.eye(2, 3)
    largest_px = 0.0
    largest_motion = None
    lost_frames = []
    for t in frame_numbers[1:]:
        # Looked for where the camera's last motion puts them: hidden corners are found again.
        found_points, status, _ = cv2.calcOpticalFlowPyrLK(
            first_picture,
            grey(exo_frames[t]),
            start_points,
            cv2.transform(start_points, motion).astype(np.float32),
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        found_mask = status[:, 0] > 0
        new_motion = _common_motion(
            start_points[found_mask], found_points[found_mask], MIN_AREA_SHARE * width * height
        )
        if new_motion is not None:
            motion = new_motion
            distance_px = float(
                np.linalg.norm(
                    picture_corners @ motion[:, :2].T + motion[:, 2] - picture_corners, axis=1
                ).mean()
            )
            if distance_px > max(largest_px, MOVED_SHARE * width):
                largest_px = distance_px
                largest_motion = BackgroundMotion(
                    pixels=distance_px, frame=t, zoom=_zoom_of_motion(motion, picture_corners)
                )
        else:
            offsets_px = np.linalg.norm(found_points - start_points, axis=-1)[:, 0]
            if (found_mask & (offsets_px < MOVED_SHARE * width)).mean() < STANDING_SHARE:
                lost_frames.append(t)
    lens_zooms = largest_motion is not None and largest_motion.zoom != 1
    if (
        len(lost_frames) > LOST_SHARE * (len(frame_numbers) - 1) and not lens_zooms
    ):  # a lens zooms too far to be followed
        return BackgroundMotion(pixels=None, frame=lost_frames[0])
    return largest_motion


def _zoom_of_motion(
    motion: np.ndarray,  # [2, 3]
    picture_corners: np.ndarray,  # [4, 2] px, corners of the picture
) -> float:
    """Find the zoom about the picture's centre that explains nearly all of a motion, or return
    1."""
    zoom = float(np.hypot(*motion[:, 0]))
    middle = picture_corners.mean(0)
    moved_corners = picture_corners @ motion[:, :2].T + motion[:, 2]
    remaining_px = np.linalg.norm(
        middle + zoom * (picture_corners - middle) - moved_corners, axis=1
    ).mean()
    total_px = np.linalg.norm(moved_corners - picture_corners, axis=1).mean()
    is_zoom = remaining_px < (1 - ZOOM_SHARE) * total_px and max(zoom, 1 / zoom) > MIN_ZOOM
    return zoom if is_zoom else 1.0


def _common_motion(
    start_points: np.ndarray,  # [N, 1, 2] px
    found_points: np.ndarray,  # [N, 1, 2] px
    area: float,  # px², least between the corners that agree
) -> np.ndarray | None:  # [2, 3]
    if len(start_points) < MIN_CORNERS:
        return None
    motion, inliers = cv2.estimateAffinePartial2D(
        start_points, found_points, ransacReprojThreshold=AGREE_PX
    )
    if motion is None or inliers.sum() < MIN_CORNERS:
        return None
    return (
        motion if cv2.contourArea(cv2.convexHull(start_points[inliers[:, 0] > 0])) >= area else None
    )


def grey(frame: Tensor) -> np.ndarray:  # [H, W, 3] -> [H, W] uint8
    """Convert a frame to grey."""
    return cv2.cvtColor(as_uint8(frame).contiguous().numpy(), cv2.COLOR_RGB2GRAY)
