"""Define ego cameras by name, for pictures of any size."""

from collections.abc import Mapping

from ..errors import check_choice
from ..frozen import frozen
from ..sizes import REFERENCE_SIZE
from .model import CameraModel

ARIA_DISTORTION = (
    -0.02340373583137989,
    0.09388021379709244,
    -0.06088035926222801,
    0.0053304750472307205,
    0.003342868760228157,
    -0.0006356257363222539,
    0.0005087381578050554,
    -0.0004747129278257489,
    -0.0011330085108056664,
    -0.00025734835071489215,
    9.328465239377692e-05,
    9.424977179151028e-05,
)
"""k1..k6, p1, p2, s1..s4 that the released code holds as constants (float32 there)."""


@frozen
class CameraPreset:
    """Camera at the picture size that it was calibrated at, with its purpose."""

    camera: CameraModel
    purpose: str


def _square(
    lens: str,
    size: int,
    focal: float,
    centre: tuple[float, float],
    distortion: tuple[float, ...] = (),
    quarter_turns: int = 0,
) -> CameraModel:
    return CameraModel(
        lens=lens,
        width=size,
        height=size,
        fx=focal,
        fy=focal,
        cx=centre[0],
        cy=centre[1],
        distortion=distortion,
        quarter_turns=quarter_turns,
    )


CAMERA_PRESETS: Mapping[str, CameraPreset] = {
    "aria_released": CameraPreset(
        camera=_square(
            "opencv_fisheye",
            REFERENCE_SIZE,
            204.6,
            (224.0, 226.8),
            (0.076, 0.0172, 0.0, 0.0),
            quarter_turns=1,
        ),
        purpose=(
            "the wearer's camera that the released priors were rendered with; the default for takes"
        ),
    ),
    "aria_meta": CameraPreset(
        camera=_square(
            "aria_fisheye", 512, 150.0, (255.5, 255.5), ARIA_DISTORTION, quarter_turns=1
        ),
        purpose=(
            "the values in meta.json and in the released attention code, used as a true Aria lens"
        ),
    ),
    "pinhole": CameraPreset(
        camera=_square("pinhole", REFERENCE_SIZE, 224.0, (223.5, 223.5)),
        purpose="an upright camera without distortion and with a field of view of 90 degrees",
    ),
}


def preset_camera(name: str, size: int) -> CameraModel:
    """Make the camera of a preset for a picture of ``size`` x ``size`` px.

    Raises:
        EgoXInputError: no such preset.
    """
    check_choice("camera preset", name, CAMERA_PRESETS, "choose a named preset")
    return CAMERA_PRESETS[name].camera.rescale(size, size)


def is_aria(camera: CameraModel) -> bool:
    """Check whether a camera has the lens of the Aria glasses, as a calibration or a preset."""
    released = CAMERA_PRESETS["aria_released"].camera
    return camera.lens == "aria_fisheye" or (
        (camera.lens, camera.distortion) == (released.lens, released.distortion)
    )
