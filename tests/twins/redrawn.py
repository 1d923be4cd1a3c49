"""Try shifts one by one, as a plain form of ``egox_core/metrics/redrawn.py``."""

import numpy as np

from egox_core.metrics.redrawn import (
    FRAME_GAIN,
    MIN_ERROR,
    MIN_OBSERVED,
    PLACE_FRACTION,
    REACH,
    SHORTEST_MOVE,
)


def move_errors_reference(
    video: np.ndarray, prior: np.ndarray, on: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Measure shift errors like :func:`redrawn.move_errors`."""
    height, width = on.shape
    half, places = max(3, height // PLACE_FRACTION | 1) // 2, np.argwhere(on > 0)
    here, best = np.full((2, height, width), np.inf)
    still, whole, moves = np.inf, [], []
    for down, right in np.ndindex(2 * REACH + 1, 2 * REACH + 1):
        move = np.array((down, right)) - REACH
        far = np.linalg.norm(move)
        if 0 < far < SHORTEST_MOVE:
            continue
        there = places + move
        inside = ((there >= 0) & (there < (height, width))).all(1)
        inside[inside] = on[tuple(there[inside].T)] > 0
        at, to = places[inside], there[inside]
        square = (video[tuple(at.T)] - prior[tuple(to.T)]) ** 2
        if far == 0:
            still = square.mean()
        elif len(at) > len(places) / 2:
            whole.append(square.mean())
            moves.append((down - REACH, right - REACH))
        for y, x in np.ndindex(height, width):
            near = square[np.abs(at - (y, x)).max(1) <= half]
            if len(near) > MIN_OBSERVED * (2 * half + 1) ** 2:
                errors = here if far == 0 else best
                errors[y, x] = min(errors[y, x], near.mean())
    explained = min(whole, default=np.inf) < FRAME_GAIN * still and still > MIN_ERROR
    return here, best, moves[int(np.argmin(whole))] if explained else None
