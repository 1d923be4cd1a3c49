"""Shade the surface points that rays hit, by one lamp and surrounding light.

Nothing depends on the direction of view, so exo and ego see the same colour at the same point, and
a prior from exact depth can be compared with the ego picture."""

from collections.abc import Iterator

import torch
from torch import Tensor

from egox_core.frozen import frozen

from .casting import MISS, PAIRS_AT_ONCE, RayBundle, inverse_rotate
from .scene import Scene
from .solids import KINDS, Kind, Solid, distance, normals
from .textures import albedo_at

LAMP_REACH_M = 4.0  # at this distance the lamp has half its strength
CREASE_REACH_M = 0.22  # creases darken within this distance of another standing solid
CREASE_DEPTH = 0.45


@frozen
class Hits:
    """Surface points of a scene that N rays hit."""

    bundle: RayBundle
    frames: list[int]  # the scene's frames that the bundle's F stand for
    step_x: Tensor  # [N, 3] change of the ray for one pixel to the right, world
    step_y: Tensor  # [N, 3] for one pixel down
    depth: Tensor  # [N] ray depth, metres; infinite for a miss
    index: Tensor  # [N] int64 solid, -1 for a miss


def crease_neighbours(scene: Scene) -> dict[int, tuple[int, ...]]:
    """Find the static solids that are near enough to darken each static solid."""
    static_indices = scene.indices(moving=False)
    poses = scene.world_from_solid[0, static_indices]
    grid_spots = torch.stack([_grid_points(scene.solids[i]) for i in static_indices]) @ poses[
        ..., :3
    ].transpose(1, 2)
    grid_spots = grid_spots + poses[:, None, :, 3]
    near_mask = torch.zeros(len(static_indices), len(static_indices), dtype=torch.bool)
    for row, i in enumerate(static_indices):
        static_solid, pose = scene.solids[i], poses[row]
        spot_distances = distance(
            static_solid.kind,
            static_solid.size,
            (grid_spots.reshape(-1, 3) - pose[:, 3]) @ pose[:, :3],
        )
        near_mask[row] = (spot_distances.reshape(len(static_indices), -1) < CREASE_REACH_M).any(-1)
    near_mask = (near_mask | near_mask.T).fill_diagonal_(False)
    return {
        i: tuple(static_indices[c] for c in near_mask[row].nonzero().squeeze(1).tolist())
        for row, i in enumerate(static_indices)
    }


def _grid_points(solid: Solid) -> Tensor:
    """Place a grid of 5 x 5 x 5 points [125, 3] over a solid's bounding box, in the solid's
    frame."""
    a, b, _ = solid.size
    half_extent = torch.tensor(
        solid.size if solid.kind == "box" else (a, a, a if solid.kind == "sphere" else b)
    )
    steps = torch.linspace(-1, 1, 5)
    return (
        torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        * half_extent
    )


def shade(
    scene: Scene, hits: Hits, neighbours: dict[int, tuple[int, ...]]
) -> tuple[Tensor, Tensor]:
    """Compute the colours [N, 3] and the world normals [N, 3] of the points that rays hit."""
    colours, world_normals = torch.zeros_like(hits.step_x), torch.zeros_like(hits.step_x)
    # Solids of one kind follow each other, and all hits of one solid.
    ranked_solids = sorted(
        range(len(scene.solids)), key=lambda i: KINDS.index(scene.solids[i].kind)
    )
    rank_of_solid = torch.empty(len(ranked_solids) + 1, dtype=torch.int64, device=hits.index.device)
    rank_of_solid[torch.tensor([*ranked_solids, MISS], device=rank_of_solid.device)] = torch.arange(
        len(ranked_solids) + 1, device=rank_of_solid.device
    )
    rank_of_hit = rank_of_solid[hits.index]
    hit_order = rank_of_hit.argsort(stable=True)
    counts = torch.bincount(rank_of_hit, minlength=len(ranked_solids) + 1).tolist()[:-1]
    hit_order = hit_order[: sum(counts)]
    solid_runs = [(i, count) for i, count in zip(ranked_solids, counts, strict=True) if count]
    colours[hit_order], world_normals[hit_order] = _shade_runs(
        scene, hits, hit_order, solid_runs, neighbours
    )
    return colours, world_normals


def _shade_runs(
    scene: Scene,
    hits: Hits,
    order: Tensor,  # [n] int64, hits
    # Solid and number of its hits, in the order of ``order``.
    runs: list[tuple[int, int]],
    neighbours: dict[int, tuple[int, ...]],
) -> tuple[Tensor, Tensor]:
    """Compute the colours and normals of hits that are sorted by solid."""
    ray_bundle, hit_counts = hits.bundle, [count for _, count in runs]
    rays = ray_bundle.rays.index_select(0, order)
    hit_depth = hits.depth.index_select(0, order).unsqueeze(-1)
    solid_indices = hits.index[order]
    rotation, centre, origin = ray_bundle.solid_poses(order, solid_indices)
    points = origin + hit_depth * rays
    local_points = inverse_rotate(points - centre, rotation)
    solid_sizes = torch.tensor([s.size for s in scene.solids], dtype=rays.dtype, device=rays.device)
    local_normals = [
        normals(solid_kind, size, hit_slice)
        for solid_kind, size, hit_slice in _hits_by_kind(
            scene, runs, solid_sizes.index_select(0, solid_indices), local_points
        )
    ]
    world_normal = inverse_rotate(
        torch.cat([local_points[:0], *local_normals]), rotation.transpose(-1, -2)
    )
    facing_cosine = (rays * world_normal).sum(-1, keepdim=True)
    facing_cosine = torch.where(
        facing_cosine.abs() < 0.02, torch.full_like(facing_cosine, -0.02), facing_cosine
    )
    steps = []
    for step in (hits.step_x, hits.step_y):
        step = step.index_select(0, order)
        # The neighbour ray meets the tangent plane: o + (t + dt)(d + step), dt from staying in the
        # plane.
        footprint_step = hit_depth * (
            step - rays * (step * world_normal).sum(-1, keepdim=True) / facing_cosine
        )
        steps.append(inverse_rotate(footprint_step, rotation))
    hit_albedo = torch.cat(
        [
            local_points[:0],
            *(
                albedo_at(scene.solids[i].material, *local_normals)
                for (i, _), *local_normals in zip(
                    runs, *(x.split(hit_counts) for x in (local_points, *steps)), strict=True
                )
            ),
        ]
    )
    lamp_offset = scene.light.position - points
    lamp_distance = lamp_offset.norm(dim=-1, keepdim=True)
    lambert_cosine = (
        ((lamp_offset / lamp_distance) * world_normal).sum(-1, keepdim=True).clamp_min(0)
    )
    lamp_light = (
        scene.light.strength * lambert_cosine / (1 + (lamp_distance / LAMP_REACH_M).square())
    )
    total_light = scene.light.ambient * (0.8 + 0.2 * world_normal[:, 2:]) + lamp_light
    total_light = total_light * _crease_light(
        scene, runs, neighbours, points + 0.02 * world_normal
    ).unsqueeze(-1)
    return (hit_albedo * total_light).clamp(0, 1), world_normal


def _hits_by_kind(
    scene: Scene,
    runs: list[tuple[int, int]],
    sizes: Tensor,  # [n, 3] of hits sorted by solid
    local: Tensor,  # [n, 3]
) -> Iterator[tuple[Kind, Tensor, Tensor]]:
    """Yield each kind of solid with the hits on it."""
    solid_kinds = [scene.solids[i].kind for i, _ in runs]
    start = 0
    for solid_kind in KINDS:
        count = sum(
            n for run_kind, (_, n) in zip(solid_kinds, runs, strict=True) if run_kind == solid_kind
        )
        if count:
            yield solid_kind, sizes[start : start + count], local[start : start + count]
        start += count


def _crease_light(
    scene: Scene,
    runs: list[tuple[int, int]],
    neighbours: dict[int, tuple[int, ...]],
    probes: Tensor,  # [n, 3] metres, world, just off the surface; sorted by solid
) -> Tensor:
    """Compute how much of the surrounding light [n] nearby solids leave at each hit.

    It is smooth, so that it adds no detail finer than textures."""
    light_share = torch.ones_like(probes[:, 0])
    directions, offsets_m, reach_m = _thin_slabs(scene)
    start, pair_count, pairs = 0, 0, []
    for i, count in runs:
        solids = torch.tensor(neighbours.get(i, ()), dtype=torch.int64, device=probes.device)
        for chunk in probes[start : start + count].split(PAIRS_AT_ONCE // max(1, len(solids))):
            distance_along = directions[solids] @ chunk.T - offsets_m[solids]
            row, hit = (distance_along.abs() < reach_m[solids]).nonzero(as_tuple=True)
            pairs.append((solids[row], hit + start))
            start, pair_count = start + len(chunk), pair_count + len(row)
        if pair_count > PAIRS_AT_ONCE or start == len(probes):
            solid_indices, hit_indices = map(torch.cat, zip(*pairs, strict=True))
            crease_factor = _crease_factors(scene, probes, solid_indices, hit_indices)
            light_share.scatter_reduce_(0, hit_indices, crease_factor, "prod")
            pair_count, pairs = 0, []
    return light_share


def _thin_slabs(scene: Scene) -> tuple[Tensor, Tensor, Tensor]:  # [S, 3], [S, 1], [S, 1]
    """Bound what each of S solids darkens between two planes.

    A slab is large along two axes only: its thin axis alone excludes most points. Returned are the
    planes' normal, the solid's offset along it and how far either plane is from there, in
    metres."""
    poses = scene.world_from_solid[0]
    thin_axes = [
        min(range(3), key=solid.size.__getitem__) if solid.kind == "box" else 0
        for solid in scene.solids
    ]
    half_widths_m = [
        solid.size[axis] if solid.kind == "box" else solid.bounding_radius
        for solid, axis in zip(scene.solids, thin_axes, strict=True)
    ]
    directions = poses[range(len(poses)), :, thin_axes]
    offsets_m = (directions * poses[..., 3]).sum(-1, keepdim=True)
    # A tenth of a millimetre more than they reach, so that rounding leaves out none.
    reach_m = CREASE_REACH_M + 1e-4 + poses.new_tensor(half_widths_m).unsqueeze(-1)
    return directions, offsets_m, reach_m


def _crease_factors(
    scene: Scene,
    probes: Tensor,  # [n, 3] metres, world
    solid_indices: Tensor,  # [m] int64, the neighbour of each pair
    hit_indices: Tensor,  # [m] int64, the probe that it may darken
) -> Tensor:  # [m]
    """Compute how much light a neighbouring solid leaves at each hit."""
    # A cup darkens less than a wardrobe.
    crease_weights = probes.new_tensor(
        [CREASE_DEPTH * min(1.0, solid.bounding_radius / 0.15) for solid in scene.solids]
    )
    size = torch.tensor(
        [solid.size for solid in scene.solids], dtype=torch.float64, device=probes.device
    )
    poses = scene.world_from_solid[0].index_select(0, solid_indices)
    local_probes = inverse_rotate(
        probes.index_select(0, hit_indices) - poses[..., 3], poses[..., :3]
    )
    kinds = torch.tensor([KINDS.index(solid.kind) for solid in scene.solids], device=probes.device)
    kind_of_pair = kinds[solid_indices]
    solid_distance = torch.empty_like(local_probes[:, 0])
    for number, solid_kind in enumerate(KINDS):
        pairs = (kind_of_pair == number).nonzero()[:, 0]
        if len(pairs):
            sizes = size.index_select(0, solid_indices[pairs])
            solid_distance[pairs] = distance(solid_kind, sizes, local_probes[pairs])
    nearness = (1 - solid_distance / CREASE_REACH_M).clamp_min(0)
    return 1 - crease_weights[solid_indices] * nearness.square()
