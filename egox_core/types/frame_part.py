"""Select some frames of a payload."""

from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from ..cameras import CameraPath
from .depth_video import DepthVideo
from .kept import is_a
from .trajectory import CameraTrajectory

PayloadOfFrames = TypeVar("PayloadOfFrames", DepthVideo, CameraTrajectory)
OF_FRAMES = ("depth_m", "dynamic", "sky", "trust", "guessed")
"""Fields of these payloads with an entry per frame, beside their cameras."""


def of_frames(
    payload: PayloadOfFrames,
    frames: slice | Tensor,  # [N] int64
) -> PayloadOfFrames:
    """Select some frames of a depth video or trajectory."""
    selected_fields: dict[str, Any] = {
        name: value[frames]
        for name, value in vars(payload).items()
        if name in OF_FRAMES and value is not None
    }
    cameras = {
        name: value.select(frames)
        for name, value in vars(payload).items()
        if is_a(value, CameraPath)
    }
    return replace(payload, **selected_fields, **cameras)
