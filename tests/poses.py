"""Build camera poses and paths for the tests."""

from dataclasses import replace
from typing import Any

import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.frames import Frames
from egox_core.types import CameraTrajectory, DepthVideo


def still_poses(count: int) -> torch.Tensor:  # [T, 3, 4] float64
    """Build poses of a camera that stays at the world's origin, along its axes."""
    return torch.eye(3, 4, dtype=torch.float64).repeat(count, 1, 1)


def make_path(
    w2c: torch.Tensor,  # [T, 3, 4]
    camera: CameraModel,
    fps: float | None = None,
    *,
    exo_w2c: torch.Tensor | None = None,  # [3, 4] or [T, 3, 4]
    exo_camera: CameraModel | None = None,
    # Other fields.
    **more_fields: Any,
) -> CameraTrajectory:
    """Build a camera path from poses at ``fps`` frames a second."""
    frames = Frames.of_count(len(w2c))
    if fps is not None:
        frames = Frames.timed(frames.indices.double() / fps)
    exo = CameraPath.of_exo(exo_camera, exo_w2c, frames)
    ego = CameraPath(lens=camera, w2c=w2c, frames=frames, world=exo.world)
    return CameraTrajectory(ego=ego, exo=exo, **more_fields)


def replace_ego(path: CameraTrajectory, **changes: Any) -> CameraTrajectory:
    """Copy a camera trajectory with changed fields of its ego camera."""
    return replace(path, ego=replace(path.ego, **changes))


def replace_exo_pose(
    depth: DepthVideo,
    w2c: torch.Tensor | None,  # [3, 4] or [T, 3, 4]
) -> DepthVideo:
    """Copy a depth video with another exo camera pose."""
    return replace(depth, exo=CameraPath.of_exo(depth.exo.lens, w2c, depth.frames))
