"""Cameras: lens, intrinsics, size and turn, and the way between points and pixels.

In: numbers of a calibration (K and a size, JSON, a preset's name), points [..., 3] in metres in the camera frame, or
stored pixels [..., 2]. Out: :class:`CameraModel`, stored pixels, unit rays. Knows no poses, no files, no pictures.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
