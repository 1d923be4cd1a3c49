"""The plain twin of ``egox_core/stereo/warp.py``: one pixel at a time."""

import torch
from torch import Tensor

from egox_core.cameras import CameraModel
from egox_core.stereo.warp import COLOUR, FINE, RIM_PX, SNAP_PX, STAY, STEP, WAY_PX


def snap_edges_reference(nearness: Tensor, observed: Tensor, picture: Tensor) -> Tensor:
    """As :func:`warp.snap_edges`."""
    height, width = nearness.shape

    def around(row: int, column: int, reach: int) -> list[tuple[int, int]]:
        return [
            (min(max(r, 0), height - 1), min(max(c, 0), width - 1))
            for r in range(row - reach, row + reach + 1)
            for c in range(column - reach, column + reach + 1)
        ]

    def on_step(row: int, column: int) -> bool:
        seen = [float(nearness[at]) for at in around(row, column, 1) if observed[at]]
        return bool(seen) and max(seen) - min(seen) > STEP * max(seen)

    step = [[on_step(row, column) for column in range(width)] for row in range(height)]
    unsure = observed.clone()
    for row, column in observed.nonzero().tolist():
        unsure[row, column] = any(step[r][c] for r, c in around(row, column, SNAP_PX - 1))
    snapped = nearness.clone()
    for row, column in unsure.nonzero().tolist():
        own, best = nearness[row, column], torch.inf
        for number, at in enumerate(around(row, column, 2 * SNAP_PX)):
            down, right = divmod(number, 4 * SNAP_PX + 1)
            way = (down - 2 * SNAP_PX) ** 2 + (right - 2 * SNAP_PX) ** 2
            other = bool((nearness[at] - own).abs() > STEP * own)
            like = float(((picture[at] - picture[row, column]) / COLOUR).square().sum())
            cost = like + way / WAY_PX**2 + STAY * other
            if observed[at] and not unsure[at] and cost < best:
                best, snapped[row, column] = cost, nearness[at] if other else own
    return snapped


def move_reference(camera: CameraModel, nearness: Tensor, eye: Tensor) -> Tensor:
    """As :func:`warp.move`: the source alone."""
    height, width = nearness.shape
    rays, inside = camera.pixel_rays()
    place, seen = camera.project(rays - nearness[..., None] * eye)
    way = place - camera.pixel_grid()
    for row in range(height):
        for column in range(width):
            beside = nearness[row, max(column - RIM_PX, 0) : column + 1].max()
            seen[row, column] &= (1 - STEP) * beside <= nearness[row, column]
    front = torch.zeros(height, width)
    source = torch.full((height, width, 2), torch.nan)
    for down in range(FINE * (height - 1) + 1):
        for across in range(FINE * (width - 1) + 1):
            own = (down + FINE // 2) // FINE, (across + FINE // 2) // FINE
            rows = {down // FINE, -(-down // FINE)}
            pixels = [(r, c) for r in rows for c in {across // FINE, -(-across // FINE)}]
            mean = sum(nearness[at] for at in pixels) / len(pixels)
            if abs(mean - nearness[own]) > STEP / FINE * nearness[own]:
                pixels = [own]
            if not all(inside[at] and seen[at] for at in pixels):
                continue
            shift = sum(way[at] for at in pixels) / len(pixels)
            near = sum(nearness[at] for at in pixels) / len(pixels)
            column, row = (torch.tensor((across, down)) / FINE + shift).round().long().tolist()
            if 0 <= column < width and 0 <= row < height and near >= front[row, column]:
                front[row, column] = near
                source[row, column] = torch.tensor((column, row)) - shift
    return source
