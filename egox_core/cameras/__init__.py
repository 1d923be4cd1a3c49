"""Cameras: lens, intrinsics, size and turn, and the way between points and pixels.

In: numbers of a calibration (K and a size, JSON, a preset's name), points [..., 3] in metres in the camera frame, or
stored pixels [..., 2]. Out: :class:`CameraModel`, stored pixels, unit rays. Knows no poses, no files, no pictures.
"""

from typing import TYPE_CHECKING

from ..doors import door

if TYPE_CHECKING:
    from .gopro import (
        GOPRO_DISTORTION as GOPRO_DISTORTION,
        MAX_ANGLE_DEG as MAX_ANGLE_DEG,
        raw_gopro as raw_gopro,
        raw_gopro_of as raw_gopro_of,
    )
    from .lenses import LENSES as LENSES, PINHOLE as PINHOLE
    from .model import (
        CameraModel as CameraModel,
        camera_from_intrinsics as camera_from_intrinsics,
        camera_from_json as camera_from_json,
        camera_to_json as camera_to_json,
        centred_pinhole as centred_pinhole,
        crop as crop,
        inside_picture as inside_picture,
        intrinsics_matrix as intrinsics_matrix,
        number_matrix as number_matrix,
        pixel_grid as pixel_grid,
        pixel_rays as pixel_rays,
        project as project,
        rescale as rescale,
        unproject as unproject,
        upright_camera as upright_camera,
    )
    from .presets import (
        ARIA_DISTORTION as ARIA_DISTORTION,
        CAMERA_PRESETS as CAMERA_PRESETS,
        preset_camera as preset_camera,
    )

__getattr__, __dir__ = door(__name__, __file__)
