"""Cameras: lens, intrinsics, size and turn, and the way between points and pixels.

In: numbers of a calibration (K and a size, JSON, a preset's name), points [..., 3] in metres in the camera frame, or
stored pixels [..., 2]. Out: :class:`CameraModel`, stored pixels, unit rays. Knows no poses, no files, no pictures.
"""

from .gopro import raw_gopro
from .lenses import LENSES, Lens
from .model import (
    CameraModel,
    camera_from_intrinsics,
    crop,
    pixel_rays,
    project,
    rescale,
    unproject,
)
from .presets import CAMERA_PRESETS, preset_camera
