"""The plain twin of ``egox_core/stereo/warp.py``: one pixel at a time."""

import torch
from torch import Tensor

from egox_core.cameras import CameraModel
from egox_core.stereo.warp import COLOUR, OFFSETS, RIM_PX, SNAP_PX, STAY, STEP, WAY_PX


def snap_edges_reference(nearness: Tensor, observed: Tensor, picture: Tensor) -> Tensor:
    """As :func:`warp.snap_edges`."""
    height, width = nearness.shape

    def around(at: tuple[int, int], reach: int) -> list[tuple[int, int]]:
        rows, columns = (range(i - reach, i + reach + 1) for i in at)
        return [(r, c) for r in rows for c in columns if 0 <= r < height and 0 <= c < width]

    def on_step(at: tuple[int, int]) -> bool:
        seen = [float(nearness[each]) for each in around(at, 1) if observed[each]]
        return bool(seen) and max(seen) - min(seen) > STEP * max(seen)

    known = list(map(tuple, observed.nonzero().tolist()))
    unsure = {at for at in known if any(map(on_step, around(at, SNAP_PX - 1)))}
    snapped = nearness.clone()
    for at in unsure:
        costs = {}
        for beside in around(at, 2 * SNAP_PX):
            if observed[beside] and beside not in unsure:
                way = (at[0] - beside[0]) ** 2 + (at[1] - beside[1]) ** 2
                other = bool((nearness[beside] - nearness[at]).abs() > STEP * nearness[at])
                unlike = ((picture[beside] - picture[at]) / COLOUR).square().sum()
                cost = float(unlike) + way / WAY_PX**2 + STAY * other
                costs[cost] = nearness[beside if other else at]
        if costs:
            snapped[at] = costs[min(costs)]
    return snapped


def move_reference(camera: CameraModel, nearness: Tensor, eye: Tensor) -> Tensor:
    """As :func:`warp.move`: the places alone."""
    height, width = nearness.shape
    grid, (rays, inside) = camera.pixel_grid(), camera.pixel_rays()
    place, seen = camera.project(rays - nearness[..., None] * eye)
    front, source = torch.zeros_like(nearness), torch.full_like(place, torch.nan)
    for row, column in (inside & seen).nonzero().tolist():
        near = nearness[row, column]
        if (1 - STEP) * nearness[row, max(column - RIM_PX, 0) : column + 1].max() > near:
            continue
        for offset in OFFSETS:
            x, y = (place[row, column] + torch.tensor(offset)).round().long().tolist()
            if 0 <= x < width and 0 <= y < height and near >= front[y, x]:
                front[y, x] = near
                source[y, x] = grid[y, x] - (place - grid)[row, column]
    return source
