"""Measure how far sight lines are hidden by a simple reference implementation."""

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
    points: Tensor, current_pictures: list[DepthBound], all_pictures: list[DepthBound]
) -> Tensor:
    """Measure how much of each sight line is hidden, as a simple reference."""
    return torch.tensor(
        [_hidden_length_of_line(point, current_pictures, all_pictures) for point in points]
    )


def _hidden_length_of_line(
    point: Tensor, current_pictures: list[DepthBound], all_pictures: list[DepthBound]
) -> float:
    length_m, hidden_m = float(point.norm()), 0.0
    start_share = min(NEAR_M / length_m, END_SHARE)
    growth = (END_SHARE / start_share) ** (1 / STEPS)
    for step in range(1, STEPS + 1):
        line_point = point * start_share * growth**step
        offsets = [
            behind
            for picture in current_pictures
            if (behind := _behind(line_point, picture)) is not None
        ]
        if not any(off > 0 for off, _ in offsets) or any(off <= 0 for off, _ in offsets):
            continue
        is_filled = any(moves and 0 < off < BODY_M for off, moves in offsets)
        past_offsets = (_behind(line_point, picture) for picture in all_pictures)
        if is_filled or not any(p is not None and p[0] <= 0 for p in past_offsets):
            hidden_m += length_m * start_share * (growth**step - growth ** (step - 1))
    return hidden_m


def _behind(line_point: Tensor, picture: DepthBound) -> tuple[float, bool] | None:
    """Measure how far a point is behind the surface in a depth picture."""
    exo_from_ego = compose(picture.exo.at(0), picture.scene_from_ego).float()
    exo_point = exo_from_ego[:, :3] @ line_point + exo_from_ego[:, 3]
    uv, valid = picture.exo.camera.project(exo_point)
    if not valid or not picture.exo.camera.inside(uv) or exo_point[2] <= 1e-3:
        return None
    column, row = (round(float(x)) for x in uv)
    tolerance = TOLERANCE_M + LINE_NOISES * picture.noise * float(exo_point[2])
    return float(exo_point[2] - picture.depth_m[row, column]) - tolerance, bool(
        picture.moves[row, column]
    )
