"""The point of the scene that an exo pixel shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras.model import CameraModel, project, unproject
from .coarse_prior import CoarsePoints
from .poses import invert, transform

REACH_PX = 12.0
"""How far from the click a point may lie; a thinned cloud of a 784 x 448 picture has one within 2 px on surfaces."""
SAME_SURFACE, ROUGHLY = 0.03, 0.2
"""Relative depth from a surface within which a point belongs to it; and before the surface's slope is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A point of the scene under an exo pixel."""

    point: Tensor  # [3] float64, metres, scene frame
    depth_m: float  # z depth in the exo camera
    off_px: float  # from the click to the nearest point


def pick_point(points: CoarsePoints, camera: CameraModel, exo_from_scene: Tensor, pixel: tuple[float, float],
               reach_px: float = REACH_PX) -> Pick | None:
    """The surface at a stored exo pixel; None where no point is near.

    The points around the click that lie on the surface there give the depth; the place is on the pixel's own ray, so
    that a click is exact however thin the cloud.

    Args:
        exo_from_scene: [3, 4] float64.
        pixel: (u, v), stored px of ``camera``.
    """
    xyz = transform(exo_from_scene.float(), points.xyz)
    uv, valid = project(camera, xyz)
    off = (uv - uv.new_tensor(pixel)).norm(dim=-1)
    near = (valid & (xyz[:, 2] > 0) & (off <= reach_px)).nonzero()[:, 0]
    if not len(near):
        return None
    depth = _surface_depth(uv[near] - uv.new_tensor(pixel), xyz[near, 2])
    ray = unproject(camera, torch.tensor([pixel], dtype=torch.float64))[0][0]
    place = ray * (depth / float(ray[2])) if float(ray[2]) > 1e-3 else ray * depth
    return Pick(point=transform(invert(exo_from_scene.double()), place[None])[0], depth_m=depth,
                off_px=float(off[near].min()))


def _surface_depth(off: Tensor, z: Tensor) -> float:
    """z depth at the click of the surface that the closest points lie on: inverse depth of a plane is linear in px.

    Args:
        off: [N, 2] px from the click.
        z: [N] metres.
    """
    distance = off.norm(dim=-1)
    # Of the closest few the front one is what is seen there.
    start = float(z[distance.argsort()[:3]].min())
    weight = torch.exp(-0.5 * (distance / (float(distance.min()) + 2)).square())
    terms = torch.cat((torch.ones_like(z)[:, None], off), dim=-1).double()
    plane = torch.tensor([1 / start, 0, 0], dtype=torch.float64)
    for tolerance in (ROUGHLY, SAME_SURFACE, SAME_SURFACE):
        belongs = ((terms @ plane) * z - 1).abs() < tolerance
        if int(belongs.sum()) < 6:
            break
        root = (weight * belongs).sqrt().double()[:, None]
        plane = torch.linalg.lstsq(root * terms, root / z.double()[:, None], driver="gelsd").solution[:, 0]
    depth = 1 / float(plane[0]) if float(plane[0]) > 0 else start
    return depth if abs(depth / start - 1) < ROUGHLY else start
