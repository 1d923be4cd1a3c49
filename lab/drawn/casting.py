"""Find the first solid that each of many rays hits."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from egox_core.frozen import frozen

from .solids import KINDS, Solid, intersect

MISS = -1
TILE_SIDE = 16  # px
PAIRS_AT_ONCE = 1_000_000
"""Pairs of a solid and a ray handled together: some 100 MB."""


@frozen
class Tiling:
    """Division of a picture into square tiles, each with a cone that contains the tile's rays."""

    tile_of_pixel: Tensor  # [H * W] int64, tile of a pixel
    axes: Tensor  # [M, 3] unit
    angles: Tensor  # [M] half opening, radians


def tile_picture(
    rays: Tensor,  # [H, W, 3] unit
) -> Tiling:
    """Divide a picture into square tiles, and compute the cone of each tile's rays."""
    height, width = rays.shape[:2]
    tiles_across = -(-width // TILE_SIDE)
    rows = torch.arange(height, device=rays.device) // TILE_SIDE
    columns = torch.arange(width, device=rays.device) // TILE_SIDE
    tile_of_pixel = (rows[:, None] * tiles_across + columns[None, :]).reshape(-1)
    count = int(tile_of_pixel.max()) + 1
    flat_rays = rays.reshape(-1, 3)
    axes = torch.zeros(count, 3, dtype=rays.dtype, device=rays.device).index_add_(
        0, tile_of_pixel, flat_rays
    )
    axes = axes / axes.norm(dim=-1, keepdim=True)
    angles_to_axis = (flat_rays * axes[tile_of_pixel]).sum(-1).clamp(-1, 1).acos()
    angles = torch.zeros(count, dtype=rays.dtype, device=rays.device).scatter_reduce_(
        0, tile_of_pixel, angles_to_axis, "amax"
    )
    # Sub-rays of the outermost pixels reach half a pixel further, which is less than the tile's own
    # pixel pitch.
    return Tiling(
        tile_of_pixel=tile_of_pixel, axes=axes, angles=angles * (1 + 2.0 / TILE_SIDE) + 1e-3
    )


@frozen
class Bounds:
    """Bounding spheres of several solids."""

    centres: Tensor  # [K, 3] metres
    radii: Tensor  # [K]
    row: Tensor  # [K] int64, position of the sphere's solid in ``indices``
    indices: Tensor  # [S] int64, the solids

    @staticmethod
    def of(solids: tuple[Solid, ...], indices: list[int], device: torch.device) -> Bounds:
        spheres = [solids[i].bounding_spheres() for i in indices]
        rows = [row for row, solid_spheres in enumerate(spheres) for _ in solid_spheres]
        row = torch.tensor(rows, dtype=torch.int64, device=device)
        sphere_rows = torch.tensor(
            [sphere for solid_spheres in spheres for sphere in solid_spheres], device=device
        ).reshape(-1, 4)
        return Bounds(
            centres=sphere_rows[:, :3],
            radii=sphere_rows[:, 3],
            row=row,
            indices=torch.tensor(indices, dtype=torch.int64, device=device),
        )


def visible_tiles(
    tiling: Tiling,
    camera_from_world: Tensor,  # [F, 3, 3] rotations
    origin: Tensor,  # [F, 3] camera centres, metres, world
    # Bounds of S solids.
    bounds: Bounds,
    poses: Tensor,  # [F, all solids, 3, 4] world_from_solid
) -> Tensor:  # [S, F * M] bool
    """Compute which solids may be visible in each tile."""
    pose = poses[:, bounds.indices[bounds.row]]  # [F, K, 3, 4]
    to_sphere = (
        (pose[..., :3] @ bounds.centres.unsqueeze(-1)).squeeze(-1) + pose[..., 3] - origin[:, None]
    )
    sphere_distance = to_sphere.norm(dim=-1).clamp_min(1e-9)
    axes = tiling.axes @ camera_from_world  # [F, M, 3]
    angle_to_axis = (
        ((to_sphere / sphere_distance.unsqueeze(-1)) @ axes.transpose(1, 2)).clamp(-1, 1).acos()
    )
    sphere_half_angle = torch.where(
        sphere_distance > bounds.radii,
        torch.asin((bounds.radii / sphere_distance).clamp(max=1)),
        math.pi,
    )
    is_sphere_met = angle_to_axis <= sphere_half_angle.unsqueeze(-1) + tiling.angles
    met_counts = sphere_distance.new_zeros(
        len(bounds.indices), *is_sphere_met.shape[::2]
    ).index_add_(0, bounds.row, is_sphere_met.transpose(0, 1).float())
    return (met_counts > 0).flatten(1)


def inverse_rotate(
    vectors: Tensor,  # [N, 3]
    rotation: Tensor,  # [3, 3] shared, or [N, 3, 3] one for each
) -> Tensor:  # [N, 3]
    """Apply the inverse of a rotation matrix to each vector."""
    return (
        vectors @ rotation if rotation.ndim == 2 else (vectors.unsqueeze(1) @ rotation).squeeze(1)
    )


@frozen
class RayBundle:
    """Rays of one or several frames, with the poses of all solids in these frames."""

    rays: Tensor  # [N, 3] unit, world
    origin: Tensor  # [F, 3] camera centres, metres, world
    frame: Tensor | None  # [N] int64, 0...F-1; None: there is one frame
    poses: Tensor  # [F, S, 3, 4] world_from_solid

    def solid_poses(
        self,
        ray_indices: Tensor,  # [n] int64, rays
        solid_indices: Tensor,  # [n] int64, the solid that each may meet
    ) -> tuple[Tensor, Tensor, Tensor]:  # rotations [n, 3, 3], centres [n, 3], origins [n, 3]
        """Look up the pose of the solid and the origin of the ray for pairs of both."""
        pose_index, origin = solid_indices, self.origin
        if self.frame is not None:
            frame = self.frame.index_select(0, ray_indices)
            pose_index = frame * self.poses.shape[1] + solid_indices
            origin = origin.index_select(0, frame)
        # Rows are selected, which is several times as fast as indexing.
        pose = self.poses.flatten(0, 1).index_select(0, pose_index)
        return pose[..., :3], pose[..., 3], origin


def first_hits(
    solids: tuple[Solid, ...],
    # The solids to try.
    indices: list[int],
    bundle: RayBundle,
    tile_of_ray: Tensor | None = None,  # [N] int64, frame * M + tile
    visible: Tensor | None = None,  # [len(indices), F * M] of :func:`visible_tiles`
) -> tuple[
    Tensor, Tensor
]:  # ray depth [N] metres, infinite for a miss; index [N] int64 of the solid, MISS for none
    """Find the nearest solid that each ray hits.

    Without tiles every solid is tried on every ray: the plain twin of the culled cast. Of two
    solids that are met at the same depth the first one counts.
    """
    rays, device = bundle.rays, bundle.rays.device
    depth = torch.full((len(rays),), math.inf, dtype=rays.dtype, device=device)
    index = torch.full((len(rays),), len(solids), dtype=torch.int64, device=device)
    if visible is None or tile_of_ray is None:
        visible = torch.ones(len(indices), 1, dtype=torch.bool, device=device)
        tile_of_ray = torch.zeros(len(rays), dtype=torch.int64, device=device)
    rays_by_tile = tile_of_ray.argsort()
    ray_counts = torch.bincount(tile_of_ray, minlength=visible.shape[1])
    for solid_kind in KINDS:
        rows = [row for row, i in enumerate(indices) if solids[i].kind == solid_kind]
        if not rows:
            continue
        solid_sizes = torch.tensor(
            [solids[i].size for i in indices], dtype=torch.float64, device=device
        )
        solid_numbers = torch.tensor(indices, device=device)
        row_numbers = torch.tensor(rows, device=device)
        for row, ray in _candidate_pairs(visible, row_numbers, rays_by_tile, ray_counts):
            rotation, centre, origin = bundle.solid_poses(ray, solid_numbers[row])
            hit_depth = intersect(
                solid_kind,
                solid_sizes.index_select(0, row),
                inverse_rotate(origin - centre, rotation),
                inverse_rotate(rays.index_select(0, ray), rotation),
            )
            earlier_depth = depth.clone()
            depth.scatter_reduce_(0, ray, hit_depth, "amin")
            index = torch.where(depth < earlier_depth, len(solids), index)
            first_solid = torch.where(hit_depth <= depth[ray], solid_numbers[row], len(solids))
            index.scatter_reduce_(0, ray, first_solid, "amin")
    return depth, torch.where(depth.isinf(), MISS, index)


def _candidate_pairs(
    visible: Tensor,  # [S, F * M] bool
    rows: Tensor,  # [R] int64, of ``visible``
    rays_by_tile: Tensor,  # [N] int64, rays sorted by their tile
    ray_counts: Tensor,  # [F * M] int64, of each tile
) -> Iterator[tuple[Tensor, Tensor]]:  # rows [p], rays [p]
    """Yield pairs of a solid and a ray that may meet, in chunks."""
    first_positions = ray_counts.cumsum(0) - ray_counts
    row, tile = visible[rows].nonzero(as_tuple=True)
    chunk_of_tile = torch.div(ray_counts[tile].cumsum(0), PAIRS_AT_ONCE, rounding_mode="floor")
    chunk_lengths = chunk_of_tile.unique_consecutive(return_counts=True)[1].tolist()
    for chunk_rows, tiles in zip(row.split(chunk_lengths), tile.split(chunk_lengths), strict=True):
        pair_counts = ray_counts[tiles]
        offsets = first_positions[tiles] - (pair_counts.cumsum(0) - pair_counts)
        positions = offsets.repeat_interleave(pair_counts)
        positions += torch.arange(len(positions), device=positions.device)
        yield rows[chunk_rows].repeat_interleave(pair_counts), rays_by_tile[positions]
