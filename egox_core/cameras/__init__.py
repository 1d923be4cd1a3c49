"""Cameras: lens, intrinsics, size and turn, and the way between points and pixels.

In: numbers of a calibration (K and a size, JSON, a preset's name), points [..., 3] in metres in the camera frame, or
stored pixels [..., 2]. Out: :class:`CameraModel`, stored pixels, unit rays. Knows no poses, no files, no pictures.
"""

from .gopro import MAX_ANGLE_DEG, raw_gopro, raw_gopro_of
from .lenses import LENSES
from .model import CameraModel, one_camera, sensor_from_upright
from .presets import CAMERA_PRESETS, preset_camera
