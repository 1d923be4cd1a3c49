"""Lambertian shading of ray hits: filtered albedo, one lamp, surrounding light, darker creases near
other solids.

Nothing depends on the direction of view, so exo and ego see the same colour at the same point, and
a prior from exact depth can be compared with the ego picture."""

import torch
from torch import Tensor

from egox_core.frozen import frozen

from .casting import RayBundle, rotate_back
from .scene import Scene
from .solids import Solid, distance, normals
from .textures import albedo_at

LAMP_REACH_M = 4.0  # at this distance the lamp has half its strength
CREASE_REACH_M = 0.22  # creases darken within this distance of another standing solid
CREASE_DEPTH = 0.45


@frozen
class Hits:
    """Hits of a bundle's N rays in the scene."""

    bundle: RayBundle
    frames: list[int]  # the scene's frames that the bundle's F stand for
    step_x: Tensor  # [N, 3] change of the ray for one pixel to the right, world
    step_y: Tensor  # [N, 3] for one pixel down
    depth: Tensor  # [N] ray depth, metres; infinite for a miss
    index: Tensor  # [N] int64 solid, -1 for a miss


def crease_neighbours(scene: Scene) -> dict[int, tuple[int, ...]]:
    """For each standing solid the standing ones that darken it: those within reach of spots all
    over either of them."""
    standing = scene.indices(moving=False)
    poses = scene.world_from_solid[0, standing]
    spots = torch.stack([_spots(scene.solids[i]) for i in standing]) @ poses[..., :3].transpose(
        1, 2
    )
    spots = spots + poses[:, None, :, 3]
    near = torch.zeros(len(standing), len(standing), dtype=torch.bool)
    for row, i in enumerate(standing):
        solid, pose = scene.solids[i], poses[row]
        far = distance(solid.kind, solid.size, (spots.reshape(-1, 3) - pose[:, 3]) @ pose[:, :3])
        near[row] = (far.reshape(len(standing), -1) < CREASE_REACH_M).any(-1)
    near = (near | near.T).fill_diagonal_(False)
    return {
        i: tuple(standing[c] for c in near[row].nonzero().squeeze(1).tolist())
        for row, i in enumerate(standing)
    }


def _spots(solid: Solid) -> Tensor:
    """A grid of 5 x 5 x 5 spots [125, 3] over the solid's bounding box, in its frame."""
    a, b, _ = solid.size
    half = torch.tensor(
        solid.size if solid.kind == "box" else (a, a, a if solid.kind == "sphere" else b)
    )
    steps = torch.linspace(-1, 1, 5)
    return torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) * half


def shade(
    scene: Scene, hits: Hits, neighbours: dict[int, tuple[int, ...]]
) -> tuple[Tensor, Tensor]:
    """(colours [N, 3] 0...1, world normals [N, 3]); zero where a ray missed."""
    colours, world_normals = torch.zeros_like(hits.step_x), torch.zeros_like(hits.step_x)
    order = hits.index.argsort()
    counts = torch.bincount(hits.index + 1, minlength=len(scene.solids) + 1).tolist()
    start = counts[0]
    for solid_index, count in enumerate(counts[1:]):
        if not count:
            continue
        subset = order[start : start + count]
        start += count
        colour, normal = _shade_one(
            scene, hits, subset, solid_index, neighbours.get(solid_index, ())
        )
        colours[subset], world_normals[subset] = colour, normal
    return colours, world_normals


def _shade_one(
    scene: Scene, hits: Hits, subset: Tensor, solid_index: int, neighbours: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """(colours [n, 3], world normals [n, 3]) of the hits ``subset`` [n] on one solid."""
    solid, bundle = scene.solids[solid_index], hits.bundle
    rotation, centre = bundle.pose_of(solid_index, solid, subset)
    rays, depth = bundle.rays[subset], hits.depth[subset].unsqueeze(-1)
    points = bundle.start_of(subset) + depth * rays
    local = rotate_back(points - centre, rotation)
    normal = rotate_back(normals(solid.kind, solid.size, local), rotation.transpose(-1, -2))
    facing = (rays * normal).sum(-1, keepdim=True)
    facing = torch.where(facing.abs() < 0.02, torch.full_like(facing, -0.02), facing)
    steps = []
    for step in (hits.step_x[subset], hits.step_y[subset]):
        # The neighbour ray meets the tangent plane: o + (t + dt)(d + step), dt from staying in the
        # plane.
        slide = depth * (step - rays * (step * normal).sum(-1, keepdim=True) / facing)
        steps.append(rotate_back(slide, rotation))
    albedo = albedo_at(solid.material, local, steps[0], steps[1])
    to_lamp = scene.light.position - points
    far = to_lamp.norm(dim=-1, keepdim=True)
    lambert = ((to_lamp / far) * normal).sum(-1, keepdim=True).clamp_min(0)
    lamp = scene.light.strength * lambert / (1 + (far / LAMP_REACH_M).square())
    light = scene.light.ambient * (0.8 + 0.2 * normal[:, 2:]) + lamp
    if neighbours:
        light = light * _creases(scene, neighbours, points, normal).unsqueeze(-1)
    return (albedo * light).clamp(0, 1), normal


def _creases(scene: Scene, neighbours: tuple[int, ...], points: Tensor, normal: Tensor) -> Tensor:
    """Share [N] of light that is left near other standing solids; smooth, so that it adds no detail
    finer than textures."""
    probe = points + 0.02 * normal
    left = torch.ones_like(points[:, 0])
    for j in neighbours:
        other, pose = scene.solids[j], scene.world_from_solid[0, j]
        radius = other.bounding_radius
        weight = CREASE_DEPTH * min(1.0, radius / 0.15)  # a cup darkens less than a wardrobe
        # A slab is large along two axes only: its thin axis alone excludes most points.
        thin = min(range(3), key=lambda axis: other.size[axis]) if other.kind == "box" else 0
        direction, bound = pose[:, thin], other.size[thin] if other.kind == "box" else radius
        close = (
            ((probe @ direction - pose[:, 3] @ direction).abs() < bound + CREASE_REACH_M)
            .nonzero()
            .squeeze(1)
        )
        if len(close) == 0:
            continue
        far = distance(other.kind, other.size, (probe[close] - pose[:, 3]) @ pose[:, :3])
        left[close] *= 1 - weight * (1 - far / CREASE_REACH_M).clamp_min(0).square()
    return left
