"""Read ego poses that a person has written: keyframes, or one constant pose.

A keyframe is an object with ``time_s`` or ``frame``, and either ``w2c`` (3x4, sensor axes, as in
meta.json) or ``position`` (x, y, z, metres, world) with one of

- ``look_at`` (x, y, z) and optionally ``roll_deg``,
- ``yaw_deg``, ``pitch_deg``, ``roll_deg`` (0, 0, 0 looks along the world's z; yaw rightwards, pitch
  upwards, roll clockwise).

Positions and angles describe the upright picture; the camera's quarter turns are worked in here.
How the camera goes on from a keyframe to the next is the document's ``interpolation``, or the
keyframe's own: ``spline`` (smooth), ``linear`` or ``hold``; before the first keyframe and after the
last one it stands still.

``looks`` of a document, ``[{"frame": 24, "point": [x, y, z]}, ...]`` (or ``time_s``), says what the
wearer looks at: the path looks there at these moments, without roll, and in between it keeps its
own change of turn, bent to both ends (:func:`.path.apply_look_turns`).

``made_on`` of a document names the video that it was made on, ``{"video": file name, "id": its
video_mark}``: a path places a head in a room, so :func:`check_made_on` refuses it for another one.

This is also the value of the page's pose editor, which has the same mathematics in
``web/js/editor/model/pose.mjs``."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from ..arrays import as_tensor
from ..cameras import (
    FARTHEST,
    CameraModel,
    camera_centre,
    look_at,
    rotation_of_angles,
    sensor_from_upright,
    validate_w2c,
)
from ..errors import EgoXInputError, check_choice
from ..frames import Clock
from .path import Between, PoseTrack, turns_to_looks

DOCUMENT_KEYS = frozenset({"keyframes", "up", "interpolation", "made_on", "looks"})
MOMENT_KEYS = frozenset({"time_s", "frame"})
ANGLE_KEYS = frozenset({"yaw_deg", "pitch_deg", "roll_deg"})
DEFAULT_UP = (0.0, -1.0, 0.0)
OWN_BODY_M = 0.3
"""Surfaces so near to the head are the wearer's own, and not what the wearer looks at."""


def keyframe_track(
    content: object,
    camera: CameraModel,
    name: str = "keyframes",
    rest: Tensor | None = None,  # [3, 4] w2c, upright camera axes
) -> PoseTrack:
    """Make the camera track that keyframes describe.

    Args:
        content: a list of keyframes, or ``{"keyframes": [...], "up": [x, y, z], "interpolation":
            "spline|linear|hold"}``; ``up`` is the world's upward direction, default (0, -1, 0);
            spline is the default.
        rest: where the camera stands while there is no keyframe; None: at the world's origin,
            looking along its z.

    Raises:
        EgoXInputError: wrong or unknown keys, mixed clocks, times that do not rise, no rotation.
    """
    document = {"keyframes": content} if isinstance(content, list) else content
    if not isinstance(document, dict) or not {"keyframes"} <= document.keys() <= DOCUMENT_KEYS:
        content_text = sorted(document) if isinstance(document, dict) else type(document).__name__
        raise EgoXInputError(
            name,
            got=content_text,
            expected=f"a list of keyframes, or an object with {sorted(DOCUMENT_KEYS)}",
            fix='for example [{"time_s": 0, "position": [0, 0, 1], "look_at": [0, 0, 3]}]',
        )
    keyframes = document["keyframes"]
    default_mode = document.get("interpolation", "spline")
    if not isinstance(keyframes, list) or not all(
        isinstance(keyframe, dict) for keyframe in keyframes
    ):
        raise EgoXInputError(
            name, got="no list of objects", expected="a list of keyframes", fix="add a keyframe"
        )
    gap_modes = tuple(keyframe.get("interpolation", default_mode) for keyframe in keyframes)
    for mode in (default_mode, *gap_modes):
        check_choice(f"interpolation of {name}", mode, get_args(Between))
    up = direction(document.get("up"), f"up of {name}")
    track = _track_of_keyframes(keyframes, gap_modes, camera, up, name, rest)
    return turn_to_looks(track, document.get("looks") or [], up, camera.quarter_turns)


def _track_of_keyframes(
    keyframes: list[dict],
    gap_modes: tuple[Between, ...],
    camera: CameraModel,
    up: Tensor,
    name: str,
    rest_pose: Tensor | None,
) -> PoseTrack:
    if not keyframes:
        rest_pose = torch.eye(3, 4, dtype=torch.float64) if rest_pose is None else rest_pose
        return PoseTrack.numbered(sensor_pose(rest_pose, camera.quarter_turns)[None], name)
    poses = torch.stack(
        [
            _pose(keyframe, camera, up, f"{name} {number}")
            for number, keyframe in enumerate(keyframes)
        ]
    )
    if len(keyframes) == 1:
        for clock in MOMENT_KEYS & keyframes[0].keys():
            _vector([keyframes[0][clock]], f"{clock} of {name} 0", 1)
        return PoseTrack.numbered(poses, name)
    clock, moments = _moments(keyframes, name)
    return PoseTrack(
        w2c=poses,
        moments=moments,
        clock=clock,
        name=name,
        between=gap_modes[:-1],
        ends_hold=True,
    )


def _moments(entries: list[dict], name: str) -> tuple[Clock, Tensor]:
    """Read the moments [N] float64 of keyframes or look points, and their clock (frames or
    seconds)."""
    clocks = {next(iter(MOMENT_KEYS & entry.keys()), None) for entry in entries}
    moments = [
        _vector([entry[clock]], f"{clock} of {name} {number}", 1)
        for number, entry in enumerate(entries)
        for clock in MOMENT_KEYS & entry.keys()
    ]
    if len(clocks) != 1 or None in clocks or len(moments) != len(entries):
        raise EgoXInputError(
            name,
            got=f"moments given as {sorted(str(key) for key in clocks)}",
            expected="time_s in all of them, or frame in all",
            fix="use one of them throughout",
        )
    return "index" if clocks.pop() == "frame" else "seconds", torch.cat(moments)


def turn_to_looks(track: PoseTrack, looks: object, up: Tensor, quarter_turns: int) -> PoseTrack:
    """Turn the track's camera towards look points, ``[{"frame" or "time_s", "point"}, ...]``.

    Raises:
        EgoXInputError: another form, a clock that is not the track's, a point that can't be looked
            at, moments that do not rise.
    """
    name = f"looks of {track.name}"
    allowed_keys = ({"frame", "point"}, {"time_s", "point"})
    if not isinstance(looks, list) or not all(
        isinstance(look, dict) and look.keys() in allowed_keys for look in looks
    ):
        raise EgoXInputError(
            name,
            got=repr(looks)[:60],
            expected="a list of objects with point, and frame or time_s",
            fix='for example [{"frame": 24, "point": [0.2, 0.4, 1.5]}]',
        )
    if not looks:
        return track
    clock, moments = _moments(looks, name)
    if track.constant:
        track = replace(track, clock=clock, constant=False, ends_hold=True)
    if clock != track.clock or (moments.diff() <= 0).any():
        raise EgoXInputError(
            name,
            got=f"{'frame' if clock == 'index' else 'time_s'}: {moments.tolist()[:8]}",
            expected="rising moments on the clock of the path's own",
            fix="sort them, one per moment, and use frame or time_s as the path does",
        )
    points = torch.stack([_vector(look["point"], f"point of {name}") for look in looks])
    return replace(
        track, bends=turns_to_looks(track.at(moments), moments, points, up, quarter_turns)
    )


def has_w2c(content: object) -> bool:
    """Check whether a document has keyframes given as matrices of a camera's sensor."""
    keyframes = content.get("keyframes") if isinstance(content, dict) else content
    return isinstance(keyframes, list) and any("w2c" in key for key in keyframes)


def of_any_sensor(content: object, camera: CameraModel) -> object:
    """Replace matrices in keyframes by position and angles, which hold for every camera."""
    if not has_w2c(content):
        return content
    document = dict(content) if isinstance(content, dict) else {"keyframes": content}
    up = document.get("up", DEFAULT_UP)
    from_sensor = sensor_from_upright(camera.quarter_turns).mT

    def with_angles(keyframe: dict) -> dict:
        if "w2c" not in keyframe:
            return keyframe
        pose = from_sensor @ validate_w2c(keyframe["w2c"], "w2c of a keyframe")
        angles = zip(("yaw_deg", "pitch_deg", "roll_deg"), pose_angles(pose, up), strict=True)
        other_keys = {name: value for name, value in keyframe.items() if name != "w2c"}
        return other_keys | {"position": camera_centre(pose).tolist()} | dict(angles)

    return document | {"keyframes": [with_angles(keyframe) for keyframe in document["keyframes"]]}


def check_made_on(content: object, video: Mapping[str, str] | None) -> None:
    """Refuse keyframes that were made on another video than the one in use.

    Args:
        content: as :func:`keyframe_track`; one that names no video passes.
        video: the mark of the video in use (``video`` and ``id``); None: not known.

    Raises:
        EgoXInputError: another video, or a ``made_on`` that can't be read.
    """
    made_on = content.get("made_on") if isinstance(content, dict) else None
    if made_on is None:
        return
    if not isinstance(made_on, dict) or not all(
        isinstance(made_on.get(key), str) for key in ("video", "id")
    ):
        raise EgoXInputError(
            "made_on of keyframes",
            got=repr(made_on)[:60],
            expected="video and id, both texts",
            fix="delete made_on",
        )
    if video is not None and made_on["id"] != video["id"]:
        raise EgoXInputError(
            "ego poses",
            got=f"keyframes made on {made_on['video']}, while the video in use is {video['video']}",
            expected="a path of the video in use",
            fix=(
                f"make a path of this video; or choose {made_on['video']} again; to use them here "
                'all the same, delete "made_on" from the keyframes'
            ),
        )


def direction(values: object, name: str) -> Tensor:  # [3] float64
    """Read a direction in the world, by default its upward direction.

    Raises:
        EgoXInputError: no three numbers, no length.
    """
    vector = _vector(DEFAULT_UP if values is None else values, name)
    if float(vector.norm()) < 1e-6:
        raise EgoXInputError(
            name, got=vector.tolist(), expected="a direction", fix="give (0, -1, 0)"
        )
    return vector


def upright_pose(
    position,  # [3] metres, world: list, array or tensor
    yaw_deg: float,
    pitch_deg: float,
    roll_deg: float,
    up=DEFAULT_UP,  # [3] the world's upward direction
) -> Tensor:  # [3, 4] float64, w2c
    """Compute the pose of an upright camera from its position and angles.

    With the default ``up`` the angles turn from the world's own axes (a level exo camera); with
    another one, from the horizontal direction nearest to the world's z (or y, where z is up)."""
    position = torch.as_tensor(position, dtype=torch.float64)
    rotation = rotation_of_angles(yaw_deg, pitch_deg, roll_deg).T @ _level_rotation(up)
    return torch.cat((rotation, -(rotation @ position)[:, None]), dim=-1)


def pose_angles(
    upright_w2c: Tensor,  # [3, 4]
    up=DEFAULT_UP,  # [3]
) -> tuple[float, float, float]:
    """Compute yaw, pitch and roll in degrees of an upright pose, the inverse of
    :func:`upright_pose`."""
    rotation_matrix = _level_rotation(up) @ upright_w2c[:, :3].double().T
    # Written out, since scipy warns of the gimbal lock straight up and down: there yaw takes all of
    # the turn.
    horizontal_length = math.hypot(float(rotation_matrix[0, 2]), float(rotation_matrix[2, 2]))
    pitch = math.atan2(-float(rotation_matrix[1, 2]), horizontal_length)
    if horizontal_length < 1e-9:
        yaw = math.atan2(-float(rotation_matrix[2, 0]), float(rotation_matrix[0, 0]))
        roll = 0.0
    else:
        yaw = math.atan2(float(rotation_matrix[0, 2]), float(rotation_matrix[2, 2]))
        roll = math.atan2(float(rotation_matrix[1, 0]), float(rotation_matrix[1, 1]))
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def sensor_pose(
    upright_w2c: Tensor,  # [3, 4]
    quarter_turns: int,
) -> Tensor:  # [3, 4] float64
    """Rotate an upright pose to the axes of a camera's sensor."""
    return sensor_from_upright(quarter_turns) @ upright_w2c


def _level_rotation(up) -> Tensor:
    """Compute the rotation [3, 3] camera_from_world of a level camera with yaw, pitch and roll of
    0."""
    up = torch.as_tensor(up, dtype=torch.float64)
    up = up / up.norm().clamp_min(1e-12)
    forward = torch.tensor(
        (0.0, 0, 1) if abs(float(up[2])) < 0.9 else (0.0, 1, 0), dtype=torch.float64
    )
    return look_at(torch.zeros(3), forward - (forward @ up) * up, up)[:, :3]


def _pose(keyframe: dict, camera: CameraModel, up: Tensor, name: str) -> Tensor:
    pose_keys = keyframe.keys() - MOMENT_KEYS - {"interpolation"}
    if pose_keys == {"w2c"}:
        pose = validate_w2c(keyframe["w2c"], f"w2c of {name}")
        return as_tensor(pose, f"w2c of {name}", 3, 4)
    if not {"position"} < pose_keys <= {"position", "look_at"} | ANGLE_KEYS:
        raise EgoXInputError(
            name,
            got=f"keys {sorted(keyframe)}",
            expected="w2c; or position with look_at; or position with yaw_deg, pitch_deg, roll_deg",
            fix="correct the keyframe's keys",
        )
    position = _vector(keyframe["position"], f"position of {name}")
    yaw, pitch, roll = (
        float(_vector([keyframe.get(angle_key, 0.0)], f"{angle_key} of {name}", 1))
        for angle_key in ("yaw_deg", "pitch_deg", "roll_deg")
    )
    if "look_at" in keyframe:
        target = _vector(keyframe["look_at"], f"look_at of {name}")
        return sensor_pose(look_at(position, target, up, roll), camera.quarter_turns)
    return sensor_pose(upright_pose(position, yaw, pitch, roll, up), camera.quarter_turns)


def _vector(values: object, name: str, length: int = 3) -> Tensor:
    vector = as_tensor(values, name, length).double()
    if not (vector.abs() <= FARTHEST).all():
        raise EgoXInputError(
            name,
            got=repr(values)[:60],
            expected=f"{length} number(s) up to {FARTHEST:.0e}",
            fix="give plain numbers",
        )
    return vector
