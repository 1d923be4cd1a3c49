"""Cameras: lens, intrinsics, size and turn, and the way between points and pixels.

In: numbers of a calibration (K and a size, JSON, a preset's name), points [..., 3] in metres in the camera frame, or
stored pixels [..., 2]. Out: :class:`CameraModel`, stored pixels, unit rays. Knows no poses, no files, no pictures.
"""

from typing import TYPE_CHECKING

from ..doors import door

if TYPE_CHECKING:
    from .gopro import (
        MAX_ANGLE_DEG as MAX_ANGLE_DEG,
        raw_gopro as raw_gopro,
        raw_gopro_of as raw_gopro_of,
    )
    from .lenses import LENSES as LENSES
    from .model import CameraModel as CameraModel
    from .presets import CAMERA_PRESETS as CAMERA_PRESETS, preset_camera as preset_camera

__getattr__, __dir__ = door(__name__, __file__)
