"""Settle what the poses of a file are: axes of its cameras and of its world, unit."""

from typing import Literal

import torch
from torch import Tensor

from ..cameras import CameraPath, World, invert, validate_w2c
from ..frozen import frozen
from ..remarks import FactRow
from .declared import Declared
from .settle import Statement, settle

Axes = Literal["opencv", "opengl", "unity"]
CAMERA_SIGNS = {"opencv": (1.0, 1.0, 1.0), "opengl": (1.0, -1.0, -1.0), "unity": (1.0, -1.0, 1.0)}
"""Factors of x, y and z from each camera's axes to OpenCV's."""


@frozen
class StatedPoses:
    """Poses as a file has them, and what it states of them.

    Nothing is converted: axes, unit and world are settled by :func:`settle_poses`.
    """

    name: str  # of the file
    poses: Tensor  # [N, 3, 4], or [3, 4] of a camera that stands
    camera_to_world: bool
    statements: tuple[Statement, ...] = ()
    # where no file and no user says: the form's own axes, and whether its world turns with them
    axes: Axes = "opencv"
    turns_world: bool = True
    world: World = "unknown"
    gravity: bool = True


def settle_poses(
    stated: StatedPoses,
    declared: Declared,
    camera: Literal["ego", "exo"],
) -> tuple[CameraPath, tuple[FactRow, ...]]:
    """Convert a file's poses to w2c in OpenCV's axes and metres, with the facts that were applied.

    Raises:
        EgoXInputError: no rigid ones.
    """
    label = f"path {stated.name}"

    def settled(
        fact: str, default: object, default_by: str = "default", advice: str = ""
    ) -> tuple[object, FactRow]:
        return settle(f"{camera}.{fact}", stated.statements, declared, default, default_by, advice)

    axes, axes_row = settled("axes", stated.axes, f"the form of {stated.name}")
    world_axes, world_axes_row = settled(
        "world_axes",
        "turned" if stated.turns_world else "stored",
        f"the form of {stated.name}",
        f"declare {camera}.world_axes where its world is "
        f"{'left as stored' if stated.turns_world else 'turned with the cameras'}",
    )
    unit_m, unit_row = settled("unit", 1.0)
    rows = [axes_row, unit_row]
    camera_signs = torch.tensor(CAMERA_SIGNS[str(axes)], dtype=torch.float64)
    is_turned = axes != "opencv"
    if is_turned:
        rows.append(world_axes_row)
    # A left-handed world can't stay as it is stored.
    turns_world = world_axes == "turned" or axes == "unity"
    world_signs = camera_signs if turns_world else torch.ones(3, dtype=torch.float64)
    poses = validate_w2c(stated.poses, label)
    if is_turned or unit_m != 1:
        c2w = poses if stated.camera_to_world else invert(poses)
        column_factors = torch.cat((camera_signs, torch.tensor([float(unit_m)]).double()))  # ty: ignore[invalid-argument-type]  parsed
        w2c = invert(c2w * (world_signs[:, None] * column_factors))
    else:
        w2c = invert(poses) if stated.camera_to_world else poses
    path = CameraPath(lens=None, w2c=w2c, world=stated.world, gravity=stated.gravity)
    return path, tuple(rows)
