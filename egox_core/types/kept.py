"""Define the base of payloads that a host may keep for another version of this code."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from typing_extensions import TypeIs

from ..arrays import as_tensor
from ..cameras import CameraPath
from ..errors import EgoXInputError
from ..frames import Frames

T = TypeVar("T")


@dataclass(frozen=True)
class Kept:
    """Base class of payloads that a host may cache, and pass to another version of this code."""

    @staticmethod
    def version() -> str:
        """Return the version of this copy of the code."""
        from .. import __version__  # which imports this module

        return __version__

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {MADE_BY: self.version()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made_by = state.pop(MADE_BY, "1.1 or older")
        vars(self).update(state)
        _check_version(self, type(self), made_by)


MADE_BY = "egox_core"


def _check_version(value: object, kind: type[Kept], made_by: str) -> None:
    cameras = [part for part in vars(value).values() if type(part).__name__ == CameraPath.__name__]
    has_old_camera = any(
        type(getattr(camera, "frames", None)).__name__ != Frames.__name__ for camera in cameras
    )
    if has_old_camera or any(not hasattr(value, field.name) for field in fields(kind)):
        version = Kept.version()
        raise EgoXInputError(
            f"kept {kind.__name__}",
            got=f"one that EgoX {made_by} made",
            expected=f"one of {version}" + (" in its present state" if made_by == version else ""),
            fix="empty the cache that kept it, so that it is made again",
        )


def is_a(value: object, kind: type[T]) -> TypeIs[T]:
    """Check the type of a payload by its name, since two copies of the code may be loaded.

    Raises:
        EgoXInputError: it is of a version that has other fields.
    """
    matching_type = next(
        (base for base in type(value).__mro__ if base.__name__ == kind.__name__), None
    )
    if matching_type is not None and issubclass(kind, Kept):
        made_by = getattr(matching_type, "version", lambda: "1.1 or older")
        _check_version(value, kind, made_by())
    return matching_type is not None


def convert_arrays(payload: Kept, camera: CameraPath, label: str) -> None:
    """Check the camera of a payload, and turn its numpy arrays into tensors.

    Raises:
        EgoXInputError: a camera that is none.
    """
    if not is_a(camera, CameraPath):
        raise EgoXInputError(
            f"camera of the {label}",
            got=type(camera).__name__,
            expected="a CameraPath",
            fix="make one of lens and poses: CameraPath.of_exo",
        )
    for name, value in vars(payload).items():
        if isinstance(value, np.ndarray):
            tensor = as_tensor(value, f"{name} of the {label}", *[None] * value.ndim)
            object.__setattr__(payload, name, tensor)
