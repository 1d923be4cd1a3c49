"""Model cameras: lenses, intrinsics, poses, and the mapping between points and pixels.

In: numbers of a calibration (K and a size, JSON, a preset's name), points [..., 3] in metres in the
camera frame, or stored pixels [..., 2]; ``w2c`` [3, 4] or [T, 3, 4] (X_cam = R X_world + t,
metres). Out: :class:`CameraModel`, stored pixels, unit rays; :class:`CameraPath`, a camera that
knows where it is. Knows no files, no pictures.
"""

from .gopro import GOPRO_SIZE, MAX_ANGLE_DEG, raw_gopro, raw_gopro_of
from .lenses import LENSES
from .model import CameraModel, one_camera, sensor_from_upright
from .path import CameraPath, World
from .poses import (
    FARTHEST,
    by_rows,
    camera_centre,
    compose,
    invert,
    look_at,
    rotation_of_angles,
    transform,
    validate_w2c,
)
from .presets import CAMERA_PRESETS, is_aria, preset_camera
