"""The ego camera that Ego Pose Input's widgets stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from ..egox_core.cameras.model import CameraModel, Lens
from ..egox_core.cameras.presets import preset_camera
from ..egox_core.errors import EgoXInputError

AUTO, CUSTOM = "auto", "custom"
DEFAULT_PRESET = "aria_released"
NUMBERS = ("size", "focal", "centre_x", "centre_y")


def chosen_camera(name: str, size: int, lens: Lens, focal: float, centre_x: float,
                  centre_y: float) -> CameraModel | None:
    """The ego camera that the user asked for; None for "auto".

    Raises:
        EgoXInputError: a centre outside the picture, unknown preset.
    """
    if name == AUTO:
        return None
    if name != CUSTOM:
        return preset_camera(name, size)
    if not (0 <= centre_x < size and 0 <= centre_y < size):
        raise EgoXInputError("custom camera", got=f"centre ({centre_x:g}, {centre_y:g})",
                             expected=f"inside the {size}x{size} picture", fix="give the principal point at this size")
    return CameraModel(lens=lens, width=size, height=size, fx=focal, fy=focal, cx=centre_x, cy=centre_y,
                       quarter_turns=1 if lens == "aria_fisheye" else 0)


def camera_of_widgets(values: Mapping[str, object]) -> CameraModel:
    """The camera that keyframes are drawn with, from the widgets' values as a page sends them.

    Raises:
        EgoXInputError: values missing or of the wrong type, what :func:`chosen_camera` raises.
    """
    numbers = [values.get(key) for key in NUMBERS]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers):
        raise EgoXInputError("camera widgets", got=dict(zip(NUMBERS, numbers, strict=True)),
                             expected="numbers", fix="send the node's widgets")
    size, focal, centre_x, centre_y = numbers
    if not 16 <= size <= 8192 or values.get("lens") not in get_args(Lens):
        raise EgoXInputError("camera widgets", got=f"size {size}, lens {values.get('lens')!r}",
                             expected=f"16 to 8192 px, a lens of {get_args(Lens)}", fix="send the node's widgets")
    chosen = chosen_camera(str(values.get("camera")), int(size), values["lens"], focal, centre_x, centre_y)
    return chosen or preset_camera(DEFAULT_PRESET, int(size))
