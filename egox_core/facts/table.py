"""List the facts that a user can declare, with their values and the order of their sources."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..cameras import FARTHEST, by_rows, rotation_of_angles, validate_w2c
from ..errors import NO_NUMBERS, EgoXInputError
from ..frozen import frozen

UNITS_M: Mapping[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
"""Metres of each unit that has a name."""
AXIS_SIGNS: Mapping[str, tuple[float, float, float]] = {
    "opencv": (1.0, 1.0, 1.0),
    "opengl": (1.0, -1.0, -1.0),
    "unity": (1.0, -1.0, 1.0),
}
"""Factors of x, y and z from each camera's axes to OpenCV's, x right, y down, z forward.

Unity's, of which y alone is turned, are left-handed."""
AXES = tuple(AXIS_SIGNS)
WORLD_AXES = ("stored", "turned")
"""Axes of a world: left as the file has them, or turned in the same way as those of its cameras."""
DIRECTIONS = ("c2w", "w2c")
"""Directions of a pose: from the camera to the world, so that its last column is the camera's
place, or from the world to the camera."""
QUATERNIONS = ("xyzw", "wxyz")
"""Orders of a quaternion's numbers in a file."""
WORLDS = ("take", "exo")
"""Worlds of a path: that of the scene and of meta.json, or the exo camera's own in frame 0."""
EXO_PICTURES = ("shown", "stored")
"""Pictures of the exo video to which its lens and poses belong: as a player shows it, or before the
container's display matrix turns it."""
EXO_PARTS = ("whole", "left", "right", "mirrored")
"""Parts of the exo video's picture that are the exo camera's: all, half of a stereo pair, or all as
a mirror shows it."""
FRAMES = ("source", "in use")
"""Frames of a video to which the entries of a file or array belong."""
SCALES = ("as is", "wearer", "wearer where seen")
"""Scales of depth maps without a number: none, or by the wearer's body."""
DEPTH_KINDS = ("z", "ray", "inverse")
"""Kinds of metric depth: along the optical axis, from the camera's centre, one over the first."""

MOST_MOUNT_M = 3
"""Farthest place of a tracker from its wearer's camera: on a stretched arm it is 1 m away."""
JOINTS = 21
"""Joints of a hand."""
FORMS_OF_POSE = (
    "x, y, z in metres, or with yaw, pitch, roll in degrees, or 12 numbers [R|t] by rows, or 16"
)


@frozen
class Fact:
    """Describe one fact: what it is, which values it has, and whose word counts first."""

    meaning: str
    expected: str = ""  # its values, in an error
    # raises ValueError or TypeError at a wrong value
    parse: Callable[[object], object] = lambda value: value
    show: Callable[[Any], str] = str
    same: Callable[[Any, Any], bool] = operator.eq
    # kinds of statements, the first one wins; "declared" precedes them all
    sources: tuple[str, ...] = ("file", "name", "form")


def _choice(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError(word)
        return word

    return parse


def _number(value: object) -> float:
    number = float(str(value))
    if not abs(number) <= FARTHEST:
        raise ValueError(value)
    return number


def _positive(value: object) -> float:
    number = _number(value)
    if not number > 0:
        raise ValueError(value)
    return number


def _step(value: object) -> int:
    step = int(str(value))
    if step == 0:
        raise ValueError(value)
    return step


def _scale(value: object) -> float | str:
    word = str(value).strip().lower()
    return word if word in SCALES else _positive(value)


def _unit(value: object) -> float:
    """Parse a unit's name, or metres per unit as a number."""
    return UNITS_M.get(str(value).strip().lower()) or _positive(value)


def _unit_text(value: object) -> str:
    return next((name for name, metres in UNITS_M.items() if metres == value), f"{value:g} m")


def _names(value: object) -> tuple[str, ...]:
    """Parse the names of a hand's joints, as a list or a text."""
    names = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or len({*map(str, names)}) != JOINTS:
        raise ValueError(value)
    return tuple(map(str, names))


def _names_text(names: Any) -> str:
    return f"{', '.join(names[:3])} and so on"


def _pose(value: object) -> tuple[float, ...]:
    """Parse a rigid transform to the 12 numbers of [R|t]."""
    if isinstance(value, str):
        value = [float(word) for word in re.sub(r"[\[\],]", " ", value).split()]
    numbers = torch.as_tensor(value).double().reshape(-1)
    if len(numbers) == 16:
        numbers = by_rows(numbers.reshape(1, 4, 4), "camera_from_tracker").flatten()
    if len(numbers) == 12:
        pose = validate_w2c(numbers.reshape(3, 4), "camera_from_tracker")
    elif len(numbers) in (3, 6) and bool(torch.isfinite(numbers).all()):
        angles_deg = numbers[3:].tolist() or [0.0, 0.0, 0.0]
        pose = torch.cat((rotation_of_angles(*angles_deg), numbers[:3, None]), 1)
    else:
        raise ValueError(value)
    distance_m = float(pose[:, 3].norm())
    if distance_m > MOST_MOUNT_M:
        raise EgoXInputError(
            "camera_from_tracker",
            got=f"a place {distance_m:.3g} m off the camera",
            expected=f"one on the same person, within {MOST_MOUNT_M} m",
            fix="give its place in metres, a thousandth of millimetres",
        )
    return tuple(pose.flatten().tolist())


def _pose_text(value: object) -> str:
    pose = torch.as_tensor(value).reshape(3, 4)
    cosine = float((pose[:, :3].trace() - 1) / 2)
    angle_deg = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    return f"{100 * float(pose[:, 3].norm()):.3g} cm and {angle_deg:.3g} degrees off the camera"


def _one_of(meaning: str, *choices: str) -> Fact:
    return Fact(meaning=meaning, expected=", ".join(choices), parse=_choice(*choices))


def _unit_of(meaning: str) -> Fact:
    words = f"{', '.join(UNITS_M)}, or metres per unit as a number"
    return Fact(meaning=meaning, expected=words, parse=_unit, show=_unit_text)


def _camera_facts(name: str) -> dict[str, Fact]:
    facts = {
        "axes": _one_of(f"axes of the {name} poses' cameras", *AXES),
        "world_axes": _one_of(
            f"whether the {name} poses' world is turned as their cameras are", *WORLD_AXES
        ),
        "direction": _one_of(
            f"direction of the {name} poses, camera to world or world to camera", *DIRECTIONS
        ),
        "quaternion": _one_of(f"order of the {name} poses' quaternions", *QUATERNIONS),
        "unit": _unit_of(f"unit of the places of the {name} poses"),
        "frames": _one_of(f"frames to which the {name} poses belong", *FRAMES),
        "every_nth": Fact(
            meaning=f"frames from one picture of another program to the next, of the {name} poses",
            expected="a whole number, negative if the pictures' numbers begin at 0",
            parse=_step,
        ),
    }
    return {f"{name}.{fact}": description for fact, description in facts.items()}


FACTS: Mapping[str, Fact] = {
    "depth.kind": _one_of("what the numbers of depth maps are", *DEPTH_KINDS),
    "depth.unit": _unit_of("unit of depth maps (of inverse depth: of its reciprocal)"),
    "depth.metric": _one_of("whether depth maps have a scale", "yes", "no"),
    "depth.far_m": Fact(
        meaning="depth in metres from which on a map says 'sky' or 'nothing'",
        expected="a positive number of metres",
        parse=_positive,
        show=lambda value: f"{value:g} m",
    ),
    "depth.frames": _one_of("frames to which depth maps belong", *FRAMES),
    "depth.scale": Fact(
        meaning="factor of depth maps beside their unit",
        expected=f"{', '.join(SCALES)}, or a positive number",
        parse=_scale,
        show=lambda value: value if isinstance(value, str) else f"{value:g}",
    ),
    "exo.fov_deg": Fact(
        meaning="width of the exo camera's view where nothing gives its lens",
        expected="a positive number of degrees",
        parse=_positive,
        show=lambda value: f"{value:g} degrees",
    ),
    **_camera_facts("ego"),
    **_camera_facts("exo"),
    "exo.part": _one_of("part of the exo video's picture that is the exo camera's", *EXO_PARTS),
    "exo.picture": _one_of(
        "picture of the exo video to which its lens and poses belong", *EXO_PICTURES
    ),
    "ego.world": _one_of("world of the ego poses", *WORLDS),
    "ego.time_offset_s": Fact(
        meaning="time in the exo video, in seconds, at which the path's first pose was taken",
        expected="seconds; 0 if both began together, negative if the path began earlier",
        parse=_number,
        show=lambda value: f"{value:g} s",
    ),
    "ego.time_factor": Fact(
        meaning="seconds of the video per unit of the path's times",
        expected="a positive number, such as 1e-9 for nanoseconds",
        parse=_positive,
        show=lambda value: f"{value:g}",
    ),
    "ego.camera_from_tracker": Fact(
        meaning="place of the tracker (hat, ring, controller) in the upright ego camera's axes",
        expected=FORMS_OF_POSE,
        parse=_pose,
        show=_pose_text,
    ),
    "ego.sensor_from_tracker": Fact(
        meaning="place of the tracker in the axes of Aria's raw sensor, whose picture is upright "
        "after a quarter turn clockwise",
        expected=FORMS_OF_POSE,
        parse=_pose,
        show=_pose_text,
    ),
    "hands.axes": Fact(
        meaning="axes of the exo camera in which the hands' joints are, as their signs",
        expected=", ".join(AXES),
        parse=lambda value: AXIS_SIGNS[_choice(*AXES)(value)],
        show=lambda signs: next(name for name in AXES if AXIS_SIGNS[name] == signs),
    ),
    "hands.frames": _one_of("frames to which the hands belong", *FRAMES),
    "hands.unit": _unit_of("unit of the hands' joints"),
    "hands.names": Fact(
        meaning="names of the hands' joints in the file's order",
        expected=f"{JOINTS} names, each once",
        parse=_names,
        show=_names_text,
    ),
}
"""Every fact that can be declared."""


def parse_fact(name: str, value: object, by: str) -> object:
    """Parse the value of a fact.

    Raises:
        EgoXInputError: no such fact, no such value.
    """
    if name not in FACTS:
        raise EgoXInputError(
            f"{by}: fact {name!r}",
            got="no fact of a take",
            expected=f"one of {', '.join(FACTS)}",
            fix="correct its name",
        )
    fact = FACTS[name]
    try:
        return fact.parse(value)
    except NO_NUMBERS as error:
        raise EgoXInputError(
            f"{by}: {name}, the {fact.meaning}".replace("the what", "what"),
            got=repr(value),
            expected=fact.expected,
            fix=getattr(error, "fix", "correct its value"),
        ) from error
