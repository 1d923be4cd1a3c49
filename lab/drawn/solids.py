"""Define four kinds of solids with formulas for ray hits, normals and distances.

Every solid is described in its own frame (metres): a ``box`` by its half extents; a ``sphere`` by
(radius, 0, 0); a ``capsule`` and a (capped) ``cylinder`` by (radius, half length, 0) with the axis
along local z."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from egox_core.frozen import frozen

from .textures import Material

Kind = Literal["box", "sphere", "capsule", "cylinder"]
Group = Literal["room", "furniture", "object", "held", "body", "head"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOVING_GROUPS: tuple[Group, ...] = ("body", "head", "held")

LEAST_HIT_DISTANCE_M = 1e-4  # a hit nearer than this is the surface the ray starts on


@frozen
class Solid:
    """Solid of a scene, such as a box or a sphere."""

    name: str
    kind: Kind
    size: tuple[float, float, float]
    group: Group
    material: Material

    @property
    def moving(self) -> bool:
        return self.group in MOVING_GROUPS

    @property
    def bounding_radius(self) -> float:
        """Radius in metres of the sphere around the centre that contains the solid."""
        a, b, _ = self.size
        if self.kind == "box":
            return math.hypot(*self.size)
        if self.kind == "cylinder":
            return math.hypot(a, b)
        return a + b  # sphere: b is 0

    def bounding_spheres(self) -> list[tuple[float, float, float, float]]:
        """Cover the solid with spheres, each with a centre and a radius.

        A slab gets up to 6 x 6 of them: one sphere about a wall would contain the whole room, and
        cull nothing."""
        if self.kind != "box":
            return [(0.0, 0.0, 0.0, self.bounding_radius)]
        edges = [2 * half for half in self.size]
        cell_side = max(max(edges) / 6, min(edges), 0.1)
        counts = [max(1, math.ceil(edge / cell_side)) for edge in edges]
        sphere_centres = [
            [(i + 0.5) / n * edge - edge / 2 for i in range(n)]
            for n, edge in zip(counts, edges, strict=True)
        ]
        radius = 0.5 * math.hypot(*(edge / n for n, edge in zip(counts, edges, strict=True)))
        return [
            (x, y, z, radius)
            for x in sphere_centres[0]
            for y in sphere_centres[1]
            for z in sphere_centres[2]
        ]


Sizes = tuple[float, float, float] | Tensor
"""Size of one solid, or sizes [N, 3] float64 of the solid that each ray or point belongs to."""


def intersect(
    kind: Kind,
    size: Sizes,
    origin: Tensor,  # [3] or [N, 3] metres, the solid's frame
    rays: Tensor,  # [N, 3] unit directions, the solid's frame
) -> Tensor:  # [N] ray depth, metres
    """Compute the depth at which each ray first hits the solid, infinite for a miss."""
    solid_sizes = torch.as_tensor(size, dtype=torch.float64, device=rays.device)
    if kind == "box":
        depth = _box_depth(solid_sizes.to(rays.dtype), origin, rays)
    else:
        # Squared in float64, as numbers are.
        radius_square = solid_sizes[..., 0].square().to(rays.dtype)
        half_length = solid_sizes[..., 1].to(rays.dtype)
        depth = {"sphere": _sphere_depth, "capsule": _capsule, "cylinder": _cylinder}[kind](
            radius_square, half_length, origin, rays
        )
    return torch.where(
        depth > LEAST_HIT_DISTANCE_M, depth, math.inf
    )  # NaN compares false, hence infinite too


def _box_depth(extent: Tensor, origin: Tensor, rays: Tensor) -> Tensor:
    inverse_rays = 1.0 / rays
    middle_depth, half_span = -origin * inverse_rays, extent * inverse_rays.abs()
    enter_depth = (middle_depth - half_span).amax(-1)
    leave_depth = (middle_depth + half_span).amin(-1)
    return torch.where(leave_depth >= enter_depth, enter_depth, math.inf)


def _sphere_depth(radius_square: Tensor, _: Tensor, origin: Tensor, rays: Tensor) -> Tensor:
    closest_depth = -(origin * rays).sum(-1)
    # Distance of the ray to the centre, rather than b² - c: the difference of two large squares
    # loses small radii.
    closest_point = origin + closest_depth.unsqueeze(-1) * rays
    half_chord_square = radius_square - closest_point.square().sum(-1)
    return torch.where(
        half_chord_square >= 0, closest_depth - half_chord_square.clamp_min(0).sqrt(), math.inf
    )


def _cylinder_side(radius_square: Tensor, origin: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Intersect rays with an infinite cylinder around z."""
    ox, oy = origin[..., 0], origin[..., 1]
    dx, dy = rays[..., 0], rays[..., 1]
    a = (dx * dx + dy * dy).clamp_min(1e-12)
    cross_product = ox * dy - oy * dx
    discriminant = a * radius_square - cross_product * cross_product
    return (-(ox * dx + oy * dy) - discriminant.clamp_min(0).sqrt()) / a, discriminant >= 0


def _capsule(radius_square: Tensor, half: Tensor, origin: Tensor, rays: Tensor) -> Tensor:
    depth, meets_side = _cylinder_side(radius_square, origin, rays)
    z = origin[..., 2] + depth * rays[..., 2]
    cap_centre_z = torch.where(z > 0, half, -half)
    shifted_origin = torch.stack(
        (origin[..., 0].expand_as(z), origin[..., 1].expand_as(z), origin[..., 2] - cap_centre_z),
        -1,
    )
    depth = torch.where(
        z.abs() <= half, depth, _sphere_depth(radius_square, half, shifted_origin, rays)
    )
    return torch.where(meets_side, depth, math.inf)


def _cylinder(radius_square: Tensor, half: Tensor, origin: Tensor, rays: Tensor) -> Tensor:
    side_depth, meets_side = _cylinder_side(radius_square, origin, rays)
    z = origin[..., 2] + side_depth * rays[..., 2]
    side_depth = torch.where(meets_side & (z.abs() <= half), side_depth, math.inf)
    lid_depth = (-half * rays[..., 2].sign() - origin[..., 2]) / rays[..., 2]
    x, y = origin[..., 0] + lid_depth * rays[..., 0], origin[..., 1] + lid_depth * rays[..., 1]
    lid_depth = torch.where(x * x + y * y <= radius_square, lid_depth, math.inf)
    return torch.minimum(side_depth, lid_depth)


def normals(
    kind: Kind,
    size: Sizes,
    points: Tensor,  # [N, 3] on the surface, the solid's frame
) -> Tensor:  # [N, 3]
    """Compute outward unit normals of a solid at surface points, in the solid's frame."""
    solid_sizes = torch.as_tensor(size, dtype=points.dtype, device=points.device)
    radius, half_length = solid_sizes[..., :1], solid_sizes[..., 1:2]
    if kind == "sphere":
        return points / radius
    if kind == "capsule":
        z = points[:, 2:]
        return (
            torch.cat((points[:, :2], z - torch.clamp(z, -half_length, half_length)), -1) / radius
        )
    if kind == "box":
        # The face is the one whose plane the point is nearest to, in metres: rounding can't choose
        # a far face.
        axis = (points.abs() - solid_sizes).argmax(-1, keepdim=True)
        return torch.zeros_like(points).scatter_(-1, axis, points.gather(-1, axis).sign())
    radial_distance = points[:, :2].norm(dim=-1, keepdim=True)
    lid_mask = (points[:, 2:].abs() - half_length) > (radial_distance - radius)
    side_normal = torch.cat(
        (points[:, :2] / radial_distance.clamp_min(1e-9), torch.zeros_like(radial_distance)), -1
    )
    lid_normal = torch.cat((torch.zeros_like(points[:, :2]), points[:, 2:].sign()), -1)
    return torch.where(lid_mask, lid_normal, side_normal)


def distance(
    kind: Kind,
    size: Sizes,
    points: Tensor,  # [N, 3] the solid's frame
) -> Tensor:  # [N] metres
    """Measure the distance from points to the solid's surface, 0 inside the solid."""
    solid_sizes = torch.as_tensor(size, dtype=points.dtype, device=points.device)
    radius, half_length = solid_sizes[..., 0], solid_sizes[..., 1]
    if kind == "box":
        return (points.abs() - solid_sizes).clamp_min(0).norm(dim=-1)
    if kind == "sphere":
        return (points.norm(dim=-1) - radius).clamp_min(0)
    z = points[:, 2]
    if kind == "capsule":
        distance_vector = torch.stack(
            (points[:, 0], points[:, 1], z - torch.clamp(z, -half_length, half_length)), -1
        )
        return (distance_vector.norm(dim=-1) - radius).clamp_min(0)
    distance_vector = torch.stack((points[:, :2].norm(dim=-1) - radius, z.abs() - half_length), -1)
    return distance_vector.clamp_min(0).norm(dim=-1)
