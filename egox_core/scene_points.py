"""Choosing and joining points of a scene."""

from __future__ import annotations

import torch
from torch import Tensor

from .types import PointCloud, PointSet

FIELDS = ("xyz", "rgb", "steps", "edge", "stray", "instance", "coarse")


def select(points: PointSet, keep: Tensor) -> PointSet:
    """The points where ``keep`` [N] bool, or with the numbers ``keep`` [M] int64."""
    return PointSet(**{name: getattr(points, name)[keep] for name in FIELDS})


def join(first: PointSet, second: PointSet) -> PointSet:
    """Both, the first ones first."""
    if not len(first) or not len(second):
        return first if len(first) else second
    return PointSet(**{name: torch.cat((getattr(first, name), getattr(second, name))) for name in FIELDS})


def to_device(points: PointSet, device: torch.device) -> PointSet:
    """The points on a device; themselves where they are there already."""
    if points.xyz.device == device:
        return points
    return PointSet(**{name: getattr(points, name).to(device) for name in FIELDS})


def scene_points(scene: PointCloud, frame: int | None) -> PointSet:
    """The static points and, with a frame number, that frame's moving ones."""
    return scene.static if frame is None else join(scene.static, scene.moving[frame])
