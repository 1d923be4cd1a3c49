"""The plain twin of ``egox_core/metrics/redrawn.py``: one pixel and one move at a time."""

import numpy as np

from egox_core.metrics.redrawn import (
    COLOUR,
    COLOUR_BLUR_PX,
    EDGE_BLUR_PX,
    FEATHER_PX,
    FEWEST,
    FRAME_GAIN,
    GREY,
    LEAST,
    LOW_PX,
    MARGIN_PX,
    NEAR,
    PLACE,
    PLACE_GAIN,
    REACH,
)


def departs_reference(video: np.ndarray, prior: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """As :func:`redrawn.departs`, for even sides."""
    height, width = (side // 2 for side in observed.shape)

    def half(picture: np.ndarray) -> np.ndarray:
        return picture.reshape(height, 2, width, 2, -1).mean((1, 3))

    a, b, on = half(video), half(prior), half(observed)[..., 0] == 1
    places = [tuple(place) for place in np.argwhere(on)]
    off = _blur(a, on, COLOUR_BLUR_PX) - _blur(b, on, COLOUR_BLUR_PX)
    off -= np.median(off[on], 0)
    marks = np.sqrt((off**2).mean(2)) > COLOUR
    grey = [(_blur(picture, on, EDGE_BLUR_PX) * GREY).sum(2) for picture in (a, b)]
    grey[0] -= np.median((grey[0] - grey[1])[on])
    reach = range(-REACH, REACH + 1)
    moves = [(i, j) for i in reach for j in reach if (i, j) == (0, 0) or np.hypot(i, j) >= NEAR]
    square = {  # of each move, where both are observed
        (i, j): {
            (y, x): (grey[0][y, x] - grey[1][y + i, x + j]) ** 2
            for y, x in places
            if 0 <= y + i < height and 0 <= x + j < width and on[y + i, x + j]
        }
        for i, j in moves
    }
    still = np.mean([*square[0, 0].values()])
    whole = [np.mean([*s.values()]) for s in square.values() if len(s) > len(places) / 2]
    all_moved = min(whole) < FRAME_GAIN * still and still > LEAST
    side = max(3, height // PLACE | 1)
    for y, x in np.ndindex(height, width):
        errors = {}
        for move, values in square.items():
            near = [v for p, v in values.items() if max(abs(p[0] - y), abs(p[1] - x)) <= side // 2]
            if len(near) > FEWEST * side**2:
                errors[move] = np.mean(near)
        here = errors.get((0, 0), np.inf)
        best = min(errors.values(), default=np.inf)
        marks[y, x] |= all_moved or (best < PLACE_GAIN * here and here > LEAST)
    return marks.repeat(2, 0).repeat(2, 1) & observed


def put_back_reference(
    video: np.ndarray, prior: np.ndarray, observed: np.ndarray, redrawn: np.ndarray, keep: float
) -> np.ndarray:
    """One frame of :func:`redrawn.put_back`, its squares 5, 3, 5 and 3 px wide."""
    height, width = observed.shape

    def around(picture: np.ndarray, y: int, x: int, side: int) -> np.ndarray:
        r = side // 2
        return picture[max(y - r, 0) : y + r + 1, max(x - r, 0) : x + r + 1]

    def each(rule) -> np.ndarray:
        return np.array([[rule(y, x) for x in range(width)] for y in range(height)])

    free = each(lambda y, x: observed[y, x] and not around(redrawn, y, x, MARGIN_PX).any())
    whole = np.pad(free, 1)  # nothing is known beyond the border
    inner = each(lambda y, x: whole[y : y + 3, x : x + 3].all())
    core = each(lambda y, x: around(inner, y, x, 5).all())
    kept = each(lambda y, x: around(core, y, x, 5).any())
    mirrored = np.pad(kept.astype(float), 1, mode="reflect")
    share = each(lambda y, x: mirrored[y : y + FEATHER_PX, x : x + FEATHER_PX].mean())
    off = prior - video
    off = off - _blur(off, share > 0, LOW_PX)
    return (video + keep * share[..., None] * off).clip(0, 1)


def _blur(picture: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Of a Gaussian, within the mask alone; mirrored at the borders."""
    radius = round(8 * sigma + 1) // 2
    steps = np.arange(-radius, radius + 1)
    weight = np.exp(-(steps**2) / (2 * sigma**2))
    weight /= weight.sum()

    def smooth(values: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            length = values.shape[axis]
            fold = np.abs(np.arange(length)[:, None] + steps) % (2 * length - 2)
            fold = np.where(fold < length, fold, 2 * length - 2 - fold)
            values = np.moveaxis(
                np.einsum("k,ik...->i...", weight, np.moveaxis(values, axis, 0)[fold]), 0, axis
            )
        return values

    on = mask[..., None].astype(float)
    return smooth(picture * on) / np.maximum(smooth(on), 1e-3)
