"""First hits of many rays among many solids; rays are bundled in tiles so that most solids are never tried."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .solids import Solid, intersect

MISS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """A picture cut in square tiles, each with the cone about its rays (camera frame)."""

    of_pixel: Tensor  # [H * W] int64, tile of a pixel
    axes: Tensor  # [M, 3] unit
    angles: Tensor  # [M] half opening, radians


def tile_picture(rays: Tensor, side: int = 16) -> Tiling:
    """Cut a picture of unit rays [H, W, 3] in tiles of ``side`` px."""
    height, width = rays.shape[:2]
    across = -(-width // side)
    rows = torch.arange(height, device=rays.device) // side
    columns = torch.arange(width, device=rays.device) // side
    of_pixel = (rows[:, None] * across + columns[None, :]).reshape(-1)
    count = int(of_pixel.max()) + 1
    flat = rays.reshape(-1, 3)
    axes = torch.zeros(count, 3, dtype=rays.dtype, device=rays.device).index_add_(0, of_pixel, flat)
    axes = axes / axes.norm(dim=-1, keepdim=True)
    off = (flat * axes[of_pixel]).sum(-1).clamp(-1, 1).acos()
    angles = torch.zeros(count, dtype=rays.dtype, device=rays.device).scatter_reduce_(0, of_pixel, off, "amax")
    # Sub-rays of the outermost pixels reach half a pixel further; a tile's own ray pitch bounds that.
    return Tiling(of_pixel=of_pixel, axes=axes, angles=angles * (1 + 2.0 / side) + 1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bounding spheres of some solids, each in its solid's frame."""

    centres: Tensor  # [K, 3] metres
    radii: Tensor  # [K]
    row: Tensor  # [K] int64, position of the solid in ``indices``
    indices: Tensor  # [S] int64, the solids

    @staticmethod
    def of(solids: tuple[Solid, ...], indices: list[int]) -> Bounds:
        spheres = [solids[i].bounding_spheres() for i in indices]
        counts = torch.tensor([len(s) for s in spheres], dtype=torch.int64)
        row = torch.repeat_interleave(torch.arange(len(indices)), counts)
        joined = torch.cat(spheres) if spheres else torch.zeros(0, 4)
        return Bounds(centres=joined[:, :3], radii=joined[:, 3], row=row,
                      indices=torch.tensor(indices, dtype=torch.int64))


def visible_tiles(tiling: Tiling, world_axes: Tensor, origin: Tensor, bounds: Bounds,
                  world_from_solid: Tensor) -> Tensor:
    """Which tiles [S, M] may see which solids: the tile's cone meets one of the solid's bounding spheres.

    Args:
        world_axes: [M, 3] the tiles' axes turned to the world.
        origin: [3] camera centre, metres, world.
        world_from_solid: [all solids, 3, 4].
    """
    pose = world_from_solid[bounds.indices[bounds.row]]
    away = (pose[:, :, :3] @ bounds.centres.unsqueeze(-1)).squeeze(-1) + pose[:, :, 3] - origin
    radii = bounds.radii
    far = away.norm(dim=-1).clamp_min(1e-9)
    apart = ((away / far[:, None]) @ world_axes.T).clamp(-1, 1).acos()
    swell = torch.where(far > radii, torch.asin((radii / far).clamp(max=1)), math.pi)
    meets = apart <= swell[:, None] + tiling.angles[None, :]
    return torch.zeros(len(bounds.indices), meets.shape[1]).index_add_(0, bounds.row, meets.float()) > 0


def first_hits(solids: tuple[Solid, ...], indices: list[int], world_from_solid: Tensor, origin: Tensor, rays: Tensor,
               tile_of_ray: Tensor | None = None, visible: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(ray depth [N] metres, infinite for a miss; index [N] int64 of the solid, MISS for none).

    Args:
        indices: the solids to try; ``visible`` has one row for each of them.
        world_from_solid: [S, 3, 4] of all solids at this frame.
        origin: [3] shared, or [N, 3].
        rays: [N, 3] unit, world.
        tile_of_ray: [N], visible: [len(indices), M]: see :func:`visible_tiles`; None tries every solid on every ray.
    """
    depth = torch.full((len(rays),), math.inf, dtype=rays.dtype, device=rays.device)
    index = torch.full((len(rays),), MISS, dtype=torch.int64, device=rays.device)
    for row, solid_index in enumerate(indices):
        chosen = None
        if visible is not None and tile_of_ray is not None:
            tiles = visible[row]
            if not bool(tiles.any()):
                continue
            if not bool(tiles.all()):
                chosen = tiles[tile_of_ray].nonzero().squeeze(1)
                if len(chosen) == 0:
                    continue
        solid, pose = solids[solid_index], world_from_solid[solid_index]
        own_rays = (rays if chosen is None else rays[chosen]) @ pose[:, :3]
        start = origin if origin.ndim == 1 or chosen is None else origin[chosen]
        hit = intersect(solid.kind, solid.size, (start - pose[:, 3]) @ pose[:, :3], own_rays)
        if chosen is None:
            nearer = hit < depth
            depth = torch.where(nearer, hit, depth)
            index = torch.where(nearer, solid_index, index)
        else:
            before = depth[chosen]
            nearer = hit < before
            depth[chosen] = torch.where(nearer, hit, before)
            index[chosen] = torch.where(nearer, solid_index, index[chosen])
    return depth, index
