"""Shift pixels one by one, as a plain form of ``egox_core/stereo/warp.py``."""

import torch
from torch import Tensor

from egox_core.cameras import CameraModel
from egox_core.stereo.warp import OFFSETS, RIM_PX, STEP


def move_reference(camera: CameraModel, nearness: Tensor, eye: Tensor) -> Tensor:
    """Shift pixels like :func:`warp.move`, and return only their sources."""
    grid, (rays, inside) = camera.pixel_grid(), camera.pixel_rays()
    place, seen = camera.project(rays - nearness[..., None] * eye)
    front, source = torch.zeros_like(nearness), torch.full_like(place, torch.nan)
    for row, column in (inside & seen).nonzero().tolist():
        near = nearness[row, column]
        if (1 - STEP) * nearness[row, max(column - RIM_PX, 0) : column + 1].max() > near:
            continue
        for offset in OFFSETS:
            landing = place[row, column] + torch.tensor(offset)
            x, y = landing.round().int().tolist()
            if camera.inside(landing) and near >= front[y, x]:
                front[y, x] = near
                source[y, x] = grid[y, x] - (place - grid)[row, column]
    return source
