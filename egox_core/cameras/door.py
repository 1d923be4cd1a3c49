"""The names that cameras hands out."""

from .gopro import (
    MAX_ANGLE_DEG as MAX_ANGLE_DEG,
    raw_gopro as raw_gopro,
    raw_gopro_of as raw_gopro_of,
)
from .lenses import LENSES as LENSES
from .model import (
    CameraModel as CameraModel,
    one_camera as one_camera,
    sensor_from_upright as sensor_from_upright,
)
from .presets import CAMERA_PRESETS as CAMERA_PRESETS, preset_camera as preset_camera
