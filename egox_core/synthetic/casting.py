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


def tile_picture(rays: Tensor, side: int = 32) -> Tiling:
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


def visible_tiles(tiling: Tiling, world_axes: Tensor, origin: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Which tiles [S, M] may see which solids: the tile's cone meets the solid's bounding sphere.

    Args:
        world_axes: [M, 3] the tiles' axes turned to the world.
        origin: [3] camera centre; centres: [S, 3], radii: [S], metres, world.
    """
    away = centres - origin
    far = away.norm(dim=-1).clamp_min(1e-9)
    apart = ((away / far[:, None]) @ world_axes.T).clamp(-1, 1).acos()
    swell = torch.where(far > radii, torch.asin((radii / far).clamp(max=1)), math.pi)
    return apart <= swell[:, None] + tiling.angles[None, :]


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
