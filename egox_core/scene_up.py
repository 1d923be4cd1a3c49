"""Which way is up in a scene: what the floor and the tables say, near to what the exo camera says."""

from __future__ import annotations

import torch
from torch import Tensor

from .poses import sensor_from_upright
from .types import PointCloud, PointSet

TILT_DEG = 50.0
"""A camera that films a person is tilted by less: surfaces whose normal differs by more from its up are no floor."""
SAME_DEG = 8.0
SNAP_DEG = {"world": 15.0, "exo": 2.0}
"""Worlds that are aligned with gravity have an axis for it; the exo camera's frame has none, unless it is level."""
SAMPLES, CANDIDATES = 20_000, 256
LEAST_SHARE = 0.08
"""Of all surface that must be level, else the exo camera is believed."""


def scene_up(scene: PointCloud) -> Tensor:
    """[3] float64, unit: the upward direction in the scene's frame."""
    up = camera_up(scene)
    level = level_normal(scene.static, up)
    up = up if level is None else level
    axis = int(up.abs().argmax())
    if float(up[axis].abs()) > torch.cos(torch.deg2rad(torch.tensor(SNAP_DEG[scene.frame]))):
        snapped = torch.zeros(3, dtype=torch.float64)
        snapped[axis] = up[axis].sign()
        return snapped
    return up


def camera_up(scene: PointCloud) -> Tensor:
    """[3] float64: the exo camera's own upward direction, scene frame."""
    upright = sensor_from_upright(scene.exo_camera.quarter_turns)[:, 1]  # its picture's down axis, sensor axes
    if scene.frame == "exo" or scene.exo_w2c is None:
        return -upright
    return -(scene.exo_w2c.reshape(-1, 3, 4)[0, :, :3].double().T @ upright)


def level_normal(points: PointSet, near: Tensor) -> Tensor | None:
    """The commonest direction of surface normals around ``near`` [3], by area; None where hardly any surface is level.

    Normals come from the points' steps to their neighbours in the exo picture, towards the camera.
    """
    count = len(points)
    if count < 100:
        return None
    index = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:SAMPLES]
    steps = points.steps[index].double()
    normal = -torch.linalg.cross(steps[:, :, 0], steps[:, :, 1])  # rightwards x downwards points away from the camera
    area = normal.norm(dim=-1)
    # A far wall seen at a grazing angle has few, huge patches: one patch may not outvote a table.
    area = area.clamp(max=float(area.quantile(0.9)))
    good = (points.edge[index] < 0.1) & (area > 0) & torch.isfinite(area)
    normal, area = normal[good] / normal[good].norm(dim=-1, keepdim=True), area[good]
    floor = normal @ near > torch.cos(torch.deg2rad(torch.tensor(TILT_DEG, dtype=torch.float64)))
    total, normal, area = float(area.sum()), normal[floor], area[floor]
    if not len(normal):
        return None
    same = torch.cos(torch.deg2rad(torch.tensor(SAME_DEG, dtype=torch.float64)))
    candidates = normal[:CANDIDATES]
    votes = ((candidates @ normal.T) > same).double() @ area
    best = candidates[int(votes.argmax())]
    for _ in range(5):
        close = (normal @ best > same) * area
        best = (close[:, None] * normal).sum(0)
        best = best / best.norm()
    return best if float(((normal @ best > same) * area).sum()) > LEAST_SHARE * total else None
