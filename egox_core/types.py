"""Frozen payloads that pass between the stages, each documented once, here.

World: whatever the take's JSON uses; for in-the-wild clips the exo camera. ``w2c`` is [R|t] with
X_cam = R X_world + t, OpenCV axes, metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .cameras import CameraModel

DepthKind = Literal["metric z", "relative z", "disparity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSelection:
    """Which frames of a source video are in use, and how its picture was cropped and scaled.

    Depth from files is taken by ``source_indices``; poses are interpolated at ``times_s``.
    """

    source_indices: Tensor  # [T] int64, index into the source video
    times_s: Tensor  # [T] float64, time of each chosen frame in the source video, seconds
    source_fps: float
    fps: float  # of the chosen frames
    source_size: tuple[int, int]  # (width, height) of the source video, px
    size: tuple[int, int]  # (width, height) of the frames handed on, px
    resize: Literal["crop", "pad"]  # how the aspect difference was taken up


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthVideo:
    """Depth of the exo video, one map a frame. Invalid pixels are NaN, never 0."""

    depth_m: Tensor  # [T, H, W] float32, z depth along the optical axis, metres (or the unit of ``kind``)
    camera: CameraModel  # exo camera, in depth pixels
    kind: DepthKind = "metric z"
    dynamic: Tensor | None = None  # [T, H, W] bool, moving objects
    sky: Tensor | None = None  # [T, H, W] bool
    trust: Tensor | None = None  # [T, H, W] float32 0...1, how far a pixel's depth is to be believed; None: fully
    exo_w2c: Tensor | None = None  # [3, 4] or [T, 3, 4] float64; None: the world is the exo camera frame
    source_indices: Tensor | None = None  # [T] int64, as in FrameSelection
    times_s: Tensor | None = None  # [T] float64, seconds

    @property
    def valid(self) -> Tensor:  # [T, H, W] bool
        """Where depth is known."""
        return torch.isfinite(self.depth_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraTrajectory:
    """The ego camera over time, and what the take's file says about the exo camera."""

    w2c: Tensor  # [T, 3, 4] float64, ego_from_world
    camera: CameraModel  # ego camera that the prior is drawn with
    times_s: Tensor  # [T] float64, seconds
    exo_w2c: Tensor | None = None  # [3, 4] or [T, 3, 4] float64, exo_from_world; None: the world is the exo camera
    exo_camera: CameraModel | None = None
    meta_intrinsics: Tensor | None = None  # [3, 3] float64, K as meta.json carries it (released GGA rays use it)
    prompt: str = ""
    source: str = ""  # where it came from, for messages


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoPrior:
    """render(X, D^f, φ): what the exo points look like from the ego camera (paper, section 3.1)."""

    rgb: Tensor  # [T, H, W, 3] float32 0...1, stored (upright) orientation, black where nothing landed
    coverage: Tensor  # [T, H, W] bool, exactly where a point (or a filled gap) landed
    depth_m: Tensor  # [T, H, W] float32, z depth in the ego camera frame, metres; NaN where nothing landed
    trajectory: CameraTrajectory
