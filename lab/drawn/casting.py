"""Find the first hit of many rays among many solids. Rays are grouped in tiles, so that most solids
needn't be tested."""

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
    """Division of a picture into square tiles, each with the cone that contains its rays (camera
    frame)."""

    of_pixel: Tensor  # [H * W] int64, tile of a pixel
    axes: Tensor  # [M, 3] unit
    angles: Tensor  # [M] half opening, radians


def tile_picture(
    rays: Tensor,  # [H, W, 3] unit
) -> Tiling:
    """Divide a picture into tiles of ``TILE_SIDE`` px, and compute the cone of each tile's rays."""
    height, width = rays.shape[:2]
    across = -(-width // TILE_SIDE)
    rows = torch.arange(height, device=rays.device) // TILE_SIDE
    columns = torch.arange(width, device=rays.device) // TILE_SIDE
    of_pixel = (rows[:, None] * across + columns[None, :]).reshape(-1)
    count = int(of_pixel.max()) + 1
    flat = rays.reshape(-1, 3)
    axes = torch.zeros(count, 3, dtype=rays.dtype, device=rays.device).index_add_(0, of_pixel, flat)
    axes = axes / axes.norm(dim=-1, keepdim=True)
    off = (flat * axes[of_pixel]).sum(-1).clamp(-1, 1).acos()
    angles = torch.zeros(count, dtype=rays.dtype, device=rays.device).scatter_reduce_(
        0, of_pixel, off, "amax"
    )
    # Sub-rays of the outermost pixels reach half a pixel further, which is less than the tile's own
    # pixel pitch.
    return Tiling(of_pixel=of_pixel, axes=axes, angles=angles * (1 + 2.0 / TILE_SIDE) + 1e-3)


@frozen
class Bounds:
    """Bounding spheres of several solids, each in the frame of its solid."""

    centres: Tensor  # [K, 3] metres
    radii: Tensor  # [K]
    row: Tensor  # [K] int64, position of the sphere's solid in ``indices``
    indices: Tensor  # [S] int64, the solids

    @staticmethod
    def of(solids: tuple[Solid, ...], indices: list[int], device: torch.device) -> Bounds:
        spheres = [solids[i].bounding_spheres() for i in indices]
        rows = [row for row, some in enumerate(spheres) for _ in some]
        row = torch.tensor(rows, dtype=torch.int64, device=device)
        joined = torch.tensor(
            [sphere for some in spheres for sphere in some], device=device
        ).reshape(-1, 4)
        return Bounds(
            centres=joined[:, :3],
            radii=joined[:, 3],
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
    """Compute which solids each tile may see: those with a bounding sphere that the tile's cone
    meets."""
    pose = poses[:, bounds.indices[bounds.row]]  # [F, K, 3, 4]
    away = (
        (pose[..., :3] @ bounds.centres.unsqueeze(-1)).squeeze(-1) + pose[..., 3] - origin[:, None]
    )
    far = away.norm(dim=-1).clamp_min(1e-9)
    axes = tiling.axes @ camera_from_world  # [F, M, 3]
    apart = ((away / far.unsqueeze(-1)) @ axes.transpose(1, 2)).clamp(-1, 1).acos()
    swell = torch.where(far > bounds.radii, torch.asin((bounds.radii / far).clamp(max=1)), math.pi)
    meets = apart <= swell.unsqueeze(-1) + tiling.angles
    count = far.new_zeros(len(bounds.indices), *meets.shape[::2]).index_add_(
        0, bounds.row, meets.transpose(0, 1).float()
    )
    return (count > 0).flatten(1)


def rotate_back(
    vectors: Tensor,  # [N, 3]
    rotation: Tensor,  # [3, 3] shared, or [N, 3, 3] one for each
) -> Tensor:  # [N, 3]
    """Apply the inverse of a rotation to each vector (v R)."""
    return (
        vectors @ rotation if rotation.ndim == 2 else (vectors.unsqueeze(1) @ rotation).squeeze(1)
    )


@frozen
class RayBundle:
    """Rays of one or several frames, and the poses of all solids in these frames."""

    rays: Tensor  # [N, 3] unit, world
    origin: Tensor  # [F, 3] camera centres, metres, world
    frame: Tensor | None  # [N] int64, 0...F-1; None: there is one frame
    poses: Tensor  # [F, S, 3, 4] world_from_solid

    def places(
        self,
        of_ray: Tensor,  # [n] int64, rays
        of_solid: Tensor,  # [n] int64, the solid that each may meet
    ) -> tuple[Tensor, Tensor, Tensor]:  # rotations [n, 3, 3], centres [n, 3], origins [n, 3]
        """Look up the pose of a solid and the origin of a ray, for pairs of rays and solids."""
        place, origin = of_solid, self.origin
        if self.frame is not None:
            frame = self.frame.index_select(0, of_ray)
            place = frame * self.poses.shape[1] + of_solid
            origin = origin.index_select(0, frame)
        # Rows are selected, which is several times as fast as indexing.
        pose = self.poses.flatten(0, 1).index_select(0, place)
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
    for kind in KINDS:
        rows = [row for row, i in enumerate(indices) if solids[i].kind == kind]
        if not rows:
            continue
        sizes = torch.tensor([solids[i].size for i in indices], dtype=torch.float64, device=device)
        numbers = torch.tensor(indices, device=device)
        for row, ray in _pairs(visible, torch.tensor(rows, device=device), tile_of_ray):
            rotation, centre, origin = bundle.places(ray, numbers[row])
            hit = intersect(
                kind,
                sizes.index_select(0, row),
                rotate_back(origin - centre, rotation),
                rotate_back(rays.index_select(0, ray), rotation),
            )
            before = depth.clone()
            depth.scatter_reduce_(0, ray, hit, "amin")
            index = torch.where(depth < before, len(solids), index)
            first = torch.where(hit <= depth[ray], numbers[row], len(solids))
            index.scatter_reduce_(0, ray, first, "amin")
    return depth, torch.where(depth.isinf(), MISS, index)


def _pairs(
    visible: Tensor,  # [S, F * M] bool
    rows: Tensor,  # [R] int64, of ``visible``
    tile_of_ray: Tensor,  # [N] int64
) -> Iterator[tuple[Tensor, Tensor]]:  # rows [p], rays [p]
    """Yield pairs of a solid and a ray that may meet, about ``PAIRS_AT_ONCE`` at a time."""
    at_once = max(1, 16 * PAIRS_AT_ONCE // max(1, len(tile_of_ray)))
    for some in rows.split(at_once):
        row, ray = visible[some][:, tile_of_ray].nonzero(as_tuple=True)
        yield from zip(some[row].split(PAIRS_AT_ONCE), ray.split(PAIRS_AT_ONCE), strict=True)
