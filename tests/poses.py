"""Poses that tests of many rooms use."""

from typing import Any

import torch

from egox_core.cameras.model import CameraModel
from egox_core.types import CameraTrajectory


def still(count: int) -> torch.Tensor:  # [T, 3, 4] float64
    """A camera that stays in the world's origin, along its axes."""
    return torch.eye(3, 4, dtype=torch.float64).repeat(count, 1, 1)


def path_of(
    w2c: torch.Tensor,  # [T, 3, 4]
    camera: CameraModel,
    fps: float = 1.0,
    **more: Any,  # other fields
) -> CameraTrajectory:
    """Poses one after the other, ``fps`` of them a second."""
    times_s = torch.arange(len(w2c)).double() / fps
    return CameraTrajectory(w2c=w2c, camera=camera, times_s=times_s, **more)
