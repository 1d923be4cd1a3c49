"""Turn an ego video back to its camera path, or its path to the video.

The picture is only turned where that pays: from a few degrees on, which must be more than the
turn's own interval, and while the lens' rim, which has nothing to show, stays narrow. There the old
pixels stay, feathered.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from ..cameras import CameraModel, compose, is_aria, sensor_from_upright
from ..errors import EgoXInputError
from ..frame_store import store_frames
from ..prior import aria_shading
from ..progress import Progress, no_progress
from ..sizes import REFERENCE_SIZE
from ..types import CameraTrajectory
from .clip_turn import ClipTurn

LEAST_DEG, MOST_DEG = 5.0, 10.0
"""Of real outputs, turning back less gains nothing, and beyond the rim's old pixels show doubled
arms and windows."""
MOST_RIM, DISK = 0.08, 200 / 224
"""Share of the disk that may keep its old pixels, and the disk's part of the lens' circle: what is
beyond is dark."""
DARKEST_RIM = 0.3
"""Least brightness that is divided out: what is darker holds no more than noise."""
FEATHER_PX = 14.0
"""Width of the seam towards the rim, of a picture of REFERENCE_SIZE."""


def straighten_picture(
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    turn: ClipTurn,
    camera: CameraModel,
    *,
    progress: Progress = no_progress,
) -> tuple[Tensor, str]:
    """Turn a video's pictures back to the ordered path, if that pays.

    Returns:
        The video [T, H, W, 3], the same object if it stays as it is, and what was done, in words.

    Raises:
        EgoXInputError: frames of another size than the camera's.
    """
    height, width = video.shape[1:3]
    camera.check_size("ego camera", width, height)
    if not turn.judged:
        return video, f"Not straightened: {turn.reason}"
    if turn.angle_deg < max(LEAST_DEG, turn.interval_deg):
        return video, (
            f"Not straightened: a turn of {turn.angle_deg:.0f}° ± {turn.interval_deg:.0f} is too "
            "small to gain anything"
        )
    positions, shown_mask = turned_positions(turn, camera)
    disk_mask = camera.axis_distance_px() < DISK * min(width, height) / 2
    rim_share = 1 - float((shown_mask & disk_mask).sum() / disk_mask.sum())
    if turn.angle_deg > MOST_DEG or rim_share > MOST_RIM:
        return video, (
            f"Not straightened: a turn of {turn.angle_deg:.0f}° leaves {rim_share:.0%} of the "
            "picture empty. The camera path can be corrected instead"
        )
    weight = _feather(shown_mask.numpy(), FEATHER_PX * height / REFERENCE_SIZE)[..., None]
    lens_light = np.ones((height, width, 1), np.float32)
    if is_aria(camera):  # whose shading stays where it is
        lens_light = aria_shading(camera).clamp_min(DARKEST_RIM).numpy()[..., None]

    def straightened():
        for number, frame in enumerate(video):
            progress(number, len(video), "straighten")
            drawn = frame.float().numpy()
            # OpenCV takes None for the second map, which its stubs don't know.
            turned = cv2.remap(  # ty: ignore[no-matching-overload]
                drawn / lens_light, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            )
            yield torch.from_numpy(drawn + weight * ((turned * lens_light).clip(0, 1) - drawn))

    words = f"Straightened by {turn.angle_deg:.0f}° ± {turn.interval_deg:.0f}"
    return store_frames(straightened(), len(video)), words


def turned_positions(
    turn: ClipTurn, camera: CameraModel
) -> tuple[np.ndarray, Tensor]:  # [H, W, 2] float32, [H, W] bool
    """Find where each pixel of the ordered camera lies in the drawn picture, and if it's there."""
    rays, in_lens = camera.pixel_rays(torch.float64)
    uv, valid = camera.project(rays @ _sensor_rotation(turn, camera).T)
    circle = camera.circle()
    width, height = camera.stored_size
    column = uv[..., 0].round().long().clamp(0, width - 1)
    row = uv[..., 1].round().long().clamp(0, height - 1)
    shown_mask = in_lens & valid & camera.inside(uv) & circle[row, column]
    return uv.float().numpy(), shown_mask


def correct_path(
    trajectory: CameraTrajectory,
    turn: ClipTurn,
) -> CameraTrajectory:
    """Turn a camera path to what the video shows.

    Raises:
        EgoXInputError: a turn that isn't judged.
    """
    if not turn.judged:
        raise EgoXInputError(
            "turn of the view",
            got=turn.reason,
            expected="a turn that could be measured",
            fix="leave the camera path as it is",
        )
    ego = trajectory.ego
    rotation = _sensor_rotation(turn, ego.camera).to(ego.w2c)
    target_from_source = torch.cat((rotation, rotation.new_zeros(3, 1)), 1)[None]
    return replace(trajectory, ego=replace(ego, w2c=compose(target_from_source, ego.w2c)))


def _sensor_rotation(turn: ClipTurn, camera: CameraModel) -> Tensor:  # [3, 3] float64
    """Express a turn in the sensor's axes, which the stored picture may be turned against."""
    axes = sensor_from_upright(camera.quarter_turns).double()
    return axes @ turn.rotation @ axes.T


def _feather(mask: np.ndarray, width_px: float) -> np.ndarray:  # [H, W] float32 0...1
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return np.clip(distance / max(width_px, 1.0), 0, 1).astype(np.float32)
