"""The point of the scene that an exo pixel shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras import project, unproject
from .coarse_prior import CoarsePoints
from .poses import invert, transform
from .types import CameraModel

REACH_PX = 12.0
"""How far from the click a point may lie; a thinned cloud of a 784 x 448 picture has one within 2 px on surfaces."""
SAME_SURFACE = 0.03
"""Relative depth within which points near the click belong to one surface."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A point of the scene under an exo pixel."""

    point: Tensor  # [3] float64, metres, scene frame
    depth_m: float  # z depth in the exo camera
    off_px: float  # from the click to the nearest point


def pick_point(points: CoarsePoints, camera: CameraModel, exo_from_scene: Tensor, pixel: tuple[float, float],
               reach_px: float = REACH_PX) -> Pick | None:
    """The surface at a stored exo pixel; None where no point is near.

    The points around the click that lie on the front surface there give the depth; the place is on the pixel's own ray,
    so that a click is exact however thin the cloud.

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
    off, z = off[near], xyz[near, 2]
    # The closest ones in the picture decide which surface; of those the front one is seen.
    closest = off <= float(off.min()) + 2.0
    front = float(z[closest].min())
    surface = closest & (z <= front * (1 + SAME_SURFACE))
    weight = torch.exp(-0.5 * off[surface].square())
    depth = float((weight * z[surface]).sum() / weight.sum()) if float(weight.sum()) > 0 else front
    ray = unproject(camera, torch.tensor([pixel], dtype=torch.float64))[0][0]
    place = ray * (depth / float(ray[2])) if float(ray[2]) > 1e-3 else ray * depth
    return Pick(point=transform(invert(exo_from_scene.double()), place[None])[0], depth_m=depth,
                off_px=float(off.min()))

