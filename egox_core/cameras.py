"""Camera models: pinhole, OpenCV fisheye, Aria fisheye; project, unproject, rescale, crop, turn.

Pixel convention: integer coordinates are pixel centres (no +0.5), u is the column, v the row. A picture of width W
therefore spans -0.5 ... W-0.5. ``K`` and size belong to the unturned sensor; pixels that go in and out of
:func:`project` and :func:`unproject` are those of the stored picture, which is the sensor's turned clockwise by
``quarter_turns`` steps of 90 degrees (Aria: one step; the stored picture is the upright one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .errors import EgoXInputError

Lens = Literal["pinhole", "opencv_fisheye", "aria_fisheye"]

DISTORTION_COUNT: Mapping[str, int] = {"pinhole": 0, "opencv_fisheye": 4, "aria_fisheye": 12}
"""Numbers a lens takes. Aria: k1..k6 radial, p1, p2 tangential, s1..s4 thin prism (all zero: equidistant)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraModel:
    """Intrinsics of one camera. Distances in px of the unturned sensor, angles in degrees.

    Raises:
        EgoXInputError: unknown lens, wrong count of distortion numbers, non-finite or non-positive focal length.
    """

    lens: Lens
    width: int  # sensor columns
    height: int  # sensor rows
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    max_angle_deg: float = 89.0  # incidence angle up to which the model is valid
    quarter_turns: int = 0  # stored = sensor turned clockwise this many times by 90 degrees

    def __post_init__(self) -> None:
        if self.lens not in DISTORTION_COUNT:
            raise EgoXInputError("camera lens", got=repr(self.lens), expected=f"one of {sorted(DISTORTION_COUNT)}",
                                 fix="use one of the named lenses")
        expected = DISTORTION_COUNT[self.lens]
        if len(self.distortion) not in (0, expected):
            raise EgoXInputError(f"distortion of a {self.lens} camera", got=f"{len(self.distortion)} numbers",
                                 expected=f"{expected} numbers, or none", fix="check the calibration's lens model")
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not all(math.isfinite(x) for x in numbers) or self.fx <= 0 or self.fy <= 0:
            raise EgoXInputError("camera intrinsics", got=f"fx {self.fx}, fy {self.fy}, cx {self.cx}, cy {self.cy}",
                                 expected="finite numbers and positive focal lengths", fix="correct the intrinsics")
        if self.width < 1 or self.height < 1:
            raise EgoXInputError("camera size", got=f"{self.width}x{self.height}", expected="at least 1x1 px",
                                 fix="give the size of the picture that the intrinsics belong to")

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of the stored picture."""
        return (self.height, self.width) if self.quarter_turns % 2 else (self.width, self.height)
