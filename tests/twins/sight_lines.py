"""Measure sight lines one by one, as a plain form of ``egox_core/prior/sight_lines.py``."""

import torch
from torch import Tensor

from egox_core.cameras.poses import compose
from egox_core.prior.sight_lines import (
    BODY_M,
    END_SHARE,
    LINE_NOISES,
    NEAR_M,
    STEPS,
    TOLERANCE_M,
    DepthBound,
)


def hidden_length_reference(
    points: Tensor, now: list[DepthBound], ever: list[DepthBound]
) -> Tensor:
    """Measure hidden lengths like :func:`sight_lines.hidden_length`."""
    return torch.tensor([_of_line(point, now, ever) for point in points])


def _of_line(point: Tensor, now: list[DepthBound], ever: list[DepthBound]) -> float:
    length, hidden = float(point.norm()), 0.0
    start = min(NEAR_M / length, END_SHARE)
    growth = (END_SHARE / start) ** (1 / STEPS)
    for step in range(1, STEPS + 1):
        place = point * start * growth**step
        seen = [behind for picture in now if (behind := _behind(place, picture)) is not None]
        if not any(off > 0 for off, _ in seen) or any(off <= 0 for off, _ in seen):
            continue
        filled = any(moves and 0 < off < BODY_M for off, moves in seen)
        passed = (_behind(place, picture) for picture in ever)
        if filled or not any(p is not None and p[0] <= 0 for p in passed):
            hidden += length * start * (growth**step - growth ** (step - 1))
    return hidden


def _behind(place: Tensor, picture: DepthBound) -> tuple[float, bool] | None:
    """Measure how far a place is behind a depth picture, and whether the thing in front moves."""
    exo_from_ego = compose(picture.exo.at(0), picture.scene_from_ego).float()
    at = exo_from_ego[:, :3] @ place + exo_from_ego[:, 3]
    uv, valid = picture.exo.camera.project(at)
    if not valid or not picture.exo.camera.inside(uv) or at[2] <= 1e-3:
        return None
    column, row = (round(float(x)) for x in uv)
    tolerance = TOLERANCE_M + LINE_NOISES * picture.noise * float(at[2])
    return float(at[2] - picture.depth_m[row, column]) - tolerance, bool(picture.moves[row, column])
