"""Define the parts of a scene, which are solids without textures."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np

from egox_core.frozen import frozen

from .palettes import Colour
from .solids import Group, Kind

LookName = Literal["wall", "floor", "wood", "fabric", "print", "paint", "skin", "window"]


@frozen
class Part:
    """Solid without a texture, metres, z up."""

    name: str
    kind: Kind
    size: tuple[float, float, float]
    group: Group
    colour: Colour
    look: LookName
    pose: np.ndarray  # [3, 4] room_from_solid, or [T, 3, 4] where it moves


def turn_z(angle: float) -> np.ndarray:  # [3, 3]
    """Build the rotation matrix about z for an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def pose_at(centre: Iterable[float], angle: float = 0.0) -> np.ndarray:  # [3, 4]
    """Build a pose with its position at ``centre`` and a rotation about z."""
    return np.concatenate([turn_z(angle), np.asarray(list(centre), dtype=float)[:, None]], axis=1)


def box(
    name: str,
    size: Iterable[float],
    centre: Iterable[float],
    colour: Colour,
    look: LookName,
    group: Group = "furniture",
    angle: float = 0.0,
) -> Part:
    """Build a box from its full edge lengths."""
    x, y, z = (float(edge) / 2 for edge in size)
    return Part(
        name=name,
        kind="box",
        size=(x, y, z),
        group=group,
        colour=colour,
        look=look,
        pose=pose_at(centre, angle),
    )


def pillar(
    name: str,
    radius: float,
    height: float,
    foot: Iterable[float],
    colour: Colour,
    look: LookName,
    group: Group = "furniture",
) -> Part:
    """Build an upright cylinder that stands on ``foot``."""
    x, y, z = foot
    return Part(
        name=name,
        kind="cylinder",
        size=(float(radius), float(height) / 2, 0.0),
        group=group,
        colour=colour,
        look=look,
        pose=pose_at((x, y, z + height / 2)),
    )


def ball(
    name: str,
    radius: float,
    centre: Iterable[float],
    colour: Colour,
    look: LookName,
    group: Group = "furniture",
) -> Part:
    """Build a sphere around ``centre``."""
    return Part(
        name=name,
        kind="sphere",
        size=(float(radius), 0.0, 0.0),
        group=group,
        colour=colour,
        look=look,
        pose=pose_at(centre),
    )


def capsule(
    name: str,
    radius: float,
    begin: np.ndarray,  # [T, 3], or [3] where it stands
    end: np.ndarray,  # [T, 3] or [3], always as far from ``begin``
    colour: Colour,
    look: LookName,
    group: Group,
) -> Part:
    """Build a capsule between two points."""
    begin, end = np.broadcast_arrays(begin, end)
    axis = end - begin
    axis_length = np.linalg.norm(axis, axis=-1)
    return Part(
        name=name,
        kind="capsule",
        size=(float(radius), float(axis_length.mean()) / 2, 0.0),
        group=group,
        colour=colour,
        look=look,
        pose=poses_along(axis, (begin + end) / 2),
    )


def poses_along(
    axis: np.ndarray,  # [..., 3]
    centre: np.ndarray,  # [..., 3]
) -> np.ndarray:  # [..., 3, 4]
    """Compute poses whose z axis has the direction ``axis``."""
    z = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    # Start from the world axis that the mean direction is furthest from, the same for all frames:
    # no flips in time.
    helper_axis = np.eye(3)[np.abs(z.reshape(-1, 3).mean(0)).argmin()]
    x = np.cross(helper_axis, z)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return np.concatenate([np.stack([x, np.cross(z, x), z], axis=-1), centre[..., None]], axis=-1)


def place_parts(parts: Iterable[Part], angle: float, foot: Iterable[float]) -> list[Part]:
    """Rotate the parts of a piece of furniture about z, and move them to ``foot``."""
    z_rotation, foot_position = turn_z(angle), np.asarray(list(foot), dtype=float)
    placed_parts = []
    for part in parts:
        rotation, centre = (
            z_rotation @ part.pose[..., :3],
            part.pose[..., 3] @ z_rotation.T + foot_position,
        )
        placed_parts.append(
            replace(part, pose=np.concatenate([rotation, centre[..., None]], axis=-1))
        )
    return placed_parts
