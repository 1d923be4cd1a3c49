"""Tables and the like behind what stands on them: planes of the standing scene, continued where exo does not see them.

A table that a box hides in part goes on behind the box. Without that part the ego camera, which looks over the box,
would see the floor through the table. A plane is continued as far as the convex hull of what exo sees of it, and only
where something in front hides it: where exo looks past the plane, there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from .depth_edges import depth_noise
from .poses import transform
from .surface_lift import no_points, surface_steps
from .types import PointSet

STRIDE_PX, SEED_STRIDE_PX = 8, 24
"""Samples that planes are looked for with, and those that propose one, px of a picture 448 high."""
MAX_PLANES = 12
MIN_SHARE = 0.004
"""Share of the picture that a plane takes at least: for smaller ones a hull of noise is as likely."""
TOLERANCE = 0.004
"""Distance of a sample from its plane, as a share of its distance from the camera."""
SAME_WAY, ROUGHLY_SAME_WAY = 0.97, 0.95
"""Cosine of a sample's normal to that of its plane, for finding and for belonging."""
SLANT = 0.05
"""Cosine of normal and ray under which a surface is seen too edge-on to have a normal."""
MIN_PART_PX = 300
"""Smaller patches of a plane (a box of the same height as the table) don't widen its hull, px of a picture 448 high."""
BEHIND_M, BEHIND_SHARE = 0.1, 0.002
"""A plane that no more than this share of the scene lies behind, by this far, has nothing to hide: floor, walls."""
SUNK_M = 0.01
"""Continued planes lie this much deeper, metres: what lies on the plane itself is not hidden by it."""
CELL_M, MAX_CELLS = 0.01, 2000
MAX_NOISE = 5e-4
"""Relative depth noise above which planes are not told from what is nearly flat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Points x with normal . x = offset, exo frame; the normal points away from the camera."""

    normal: Tensor  # [3] unit
    offset: float  # metres, > 0
    members: Tensor  # [H, W] bool, pixels that show it


def find_planes(depth_m: Tensor, rays: Tensor) -> list[Plane]:
    """The large planes of a depth map, largest first; none where the depth is too rough to tell.

    Every sample of a grid proposes the plane through it; the one with the most samples around it is fitted to them,
    they are taken away, and so on.

    Args:
        depth_m: [H, W] z depth, NaN invalid.
        rays: [H, W, 3] exo rays with z = 1.
    """
    if depth_noise(depth_m) > MAX_NOISE:
        return []
    steps = surface_steps(depth_m, rays)
    xyz, normal = rays * depth_m[..., None], torch.linalg.cross(steps[..., 0], steps[..., 1])
    normal = normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    facing = (normal * rays).sum(-1) / rays.norm(dim=-1)
    good = torch.isfinite(xyz).all(-1) & torch.isfinite(normal).all(-1) & (facing > SLANT)
    stride, seeds = (max(1, round(px * depth_m.shape[0] / 448)) for px in (STRIDE_PX, SEED_STRIDE_PX))
    grid = torch.zeros_like(good)
    grid[::stride, ::stride] = True
    proposes = torch.zeros_like(good)
    proposes[::stride * max(1, seeds // stride), ::stride * max(1, seeds // stride)] = True
    chosen = grid & good
    x, n, first = xyz[chosen], normal[chosen], proposes[chosen]
    if not bool(first.any()):
        return []
    tolerance = TOLERANCE * x.norm(dim=-1)
    near = (x @ n[first].T - (n[first] * x[first]).sum(-1)).abs() < tolerance[:, None]
    votes = (near & (n @ n[first].T > SAME_WAY)).float()
    left, planes = torch.ones(len(x), dtype=torch.bool), []
    for _ in range(MAX_PLANES):
        count = left.float() @ votes
        best = int(count.argmax())
        if float(count[best]) < MIN_SHARE * len(x):
            break
        way, offset = n[first][best], float((n[first][best] * x[first][best]).sum())
        for _ in range(3):
            members = left & ((x @ way - offset).abs() < tolerance) & (n @ way > SAME_WAY)
            if int(members.sum()) < 3:
                break
            way, offset = _fit(x[members], way)
        left &= (x @ way - offset).abs() >= 1.5 * tolerance
        members = ((xyz @ way - offset).abs() < TOLERANCE * xyz.norm(dim=-1)) & (normal @ way > ROUGHLY_SAME_WAY)
        planes.append(Plane(normal=way, offset=offset, members=members & good))
    return planes


def _fit(points: Tensor, way: Tensor) -> tuple[Tensor, float]:
    """Plane of least squared relative distance through points [N, 3]; its normal on the side of ``way``."""
    weight = 1 / points.norm(dim=-1, keepdim=True)
    middle = (points * weight).sum(0) / weight.sum()
    normal = torch.linalg.svd((points - middle) * weight, full_matrices=False)[2][2]
    normal = normal if float(normal @ way) > 0 else -normal
    return normal, float(normal @ middle)


def hidden_parts(planes: list[Plane], depth_m: Tensor, rays: Tensor,
                 frame_from_exo: Tensor | None = None) -> PointSet:
    """Points of the planes where exo does not see them, every second pixel each way.

    Args:
        depth_m: [H, W] of the standing scene, NaN where it was never seen.
        frame_from_exo: [3, 4] float64 from the exo camera into the scene's frame; None: they are the same.
    """
    xyz = rays * depth_m[..., None]
    nearest = torch.full_like(depth_m, float("inf"))
    which = torch.full(depth_m.shape, -1, dtype=torch.int64)
    for number, plane in enumerate(planes):
        if float((xyz @ plane.normal > plane.offset + BEHIND_M).float().mean()) < BEHIND_SHARE:
            continue
        # NaN compares false: where nothing was ever seen, something hides the plane too.
        z = plane.offset / (rays @ plane.normal)
        hidden = _in_hull(plane, xyz, rays * z[..., None]) & (z > 0) & ~(depth_m > z * (1 - 2 * TOLERANCE))
        hidden &= z < nearest
        nearest, which = torch.where(hidden, z, nearest), torch.where(hidden, number, which)
    coarse = torch.zeros_like(which, dtype=torch.bool)
    coarse[::2, ::2] = True
    parts = []
    for number in which[coarse].unique().tolist():
        if number < 0:
            continue
        plane = planes[number]
        surface = rays * (plane.offset / (rays @ plane.normal))[..., None] + SUNK_M * plane.normal
        rows, cols = (coarse & (which == number)).nonzero(as_tuple=True)
        height, width = depth_m.shape
        right = surface[rows, (cols + 1).clamp_max(width - 1)] - surface[rows, (cols - 1).clamp_min(0)]
        down = surface[(rows + 1).clamp_max(height - 1), cols] - surface[(rows - 1).clamp_min(0), cols]
        parts.append((surface[rows, cols], torch.stack((right, down), dim=-1)))  # two pixels each way
    if not parts:
        return no_points()
    points, steps = (torch.cat(values) for values in zip(*parts, strict=True))
    usable = torch.isfinite(points).all(-1) & torch.isfinite(steps).flatten(1).all(-1)
    points, steps = points[usable], steps[usable]
    if frame_from_exo is not None:
        points = transform(frame_from_exo, points.double()).float()
        steps = frame_from_exo[:, :3].float() @ steps
    zero = torch.zeros(len(points))
    return PointSet(xyz=points, rgb=torch.zeros(len(points), 3, dtype=torch.uint8), steps=steps, edge=zero, stray=zero,
                    spread=zero, back=torch.zeros_like(points), back_steps=torch.zeros_like(steps),
                    instance=zero.to(torch.int16), coarse=torch.zeros(len(points), dtype=torch.bool))


def _in_hull(plane: Plane, xyz: Tensor, meets: Tensor) -> Tensor:
    """[H, W] bool: rays that meet the plane, at ``meets`` [H, W, 3], inside the hull of its members."""
    mask = cv2.morphologyEx(plane.members.numpy().astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, label, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(mask, np.ones((5, 5), np.uint8)))
    large = stats[:, cv2.CC_STAT_AREA] > MIN_PART_PX * (mask.shape[0] / 448) ** 2
    large[0] = False
    members = torch.from_numpy(large[label] & (mask > 0))
    if int(members.sum()) < 3:
        return torch.zeros_like(plane.members)
    axis = torch.eye(3)[int(plane.normal.abs().argmin())]
    right = torch.linalg.cross(plane.normal, axis)
    right = right / right.norm()
    flat = torch.stack((right, torch.linalg.cross(plane.normal, right)), dim=-1)  # [3, 2]
    seen = xyz[members] @ flat
    low, high = seen.amin(0) - 2 * CELL_M, seen.amax(0) + 2 * CELL_M
    cell = max(CELL_M, float((high - low).max()) / MAX_CELLS)
    size = ((high - low) / cell).ceil().long() + 1
    board = np.zeros((int(size[1]), int(size[0])), np.uint8)
    hull = cv2.convexHull(((seen - low) / cell).numpy().astype(np.float32))
    cv2.fillConvexPoly(board, np.round(hull[:, 0]).astype(np.int32), 1)
    spot = ((meets @ flat - low) / cell).nan_to_num(-1.0, posinf=-1.0, neginf=-1.0).clamp(-1, 1e6).round().long()
    inside = ((spot >= 0) & (spot < size)).all(-1)
    inside[inside.clone()] = torch.from_numpy(board)[spot[inside][:, 1], spot[inside][:, 0]] > 0
    # Points stand for two pixels each way: those at the hull's border would reach beyond it.
    return torch.from_numpy(cv2.erode(inside.numpy().astype(np.uint8), np.ones((3, 3), np.uint8))).bool()
