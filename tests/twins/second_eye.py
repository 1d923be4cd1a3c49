"""Warp a picture to a second eye by a simple reference implementation."""

import torch
from torch import Tensor

from egox_core.cameras import CameraModel
from egox_core.stereo.warp import OFFSETS, RIM_PX, STEP


def move_reference(camera: CameraModel, nearness: Tensor, eye_offset: Tensor) -> Tensor:
    """Find the source pixel of each pixel of the second eye, as a simple reference."""
    grid, (rays, inside_mask) = camera.pixel_grid(), camera.pixel_rays()
    moved_pixels, seen_mask = camera.project(rays - nearness[..., None] * eye_offset)
    nearest_so_far, source = torch.zeros_like(nearness), torch.full_like(moved_pixels, torch.nan)
    for row, column in (inside_mask & seen_mask).nonzero().tolist():
        pixel_nearness = nearness[row, column]
        if (1 - STEP) * nearness[row, max(column - RIM_PX, 0) : column + 1].max() > pixel_nearness:
            continue
        for offset in OFFSETS:
            target_pixel = moved_pixels[row, column] + torch.tensor(offset)
            x, y = target_pixel.round().int().tolist()
            if camera.inside(target_pixel) and pixel_nearness >= nearest_so_far[y, x]:
                nearest_so_far[y, x] = pixel_nearness
                source[y, x] = grid[y, x] - (moved_pixels - grid)[row, column]
    return source
