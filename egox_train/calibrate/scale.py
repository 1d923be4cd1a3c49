"""Which way is up in a world of pictures, and how long a metre is there."""

import numpy as np

from egox_core.frozen import frozen

STANDING_EYES_M = 1.6
FLOOR_SD = 0.03
"""Share: the floor under a standing wearer's eyes, by the highest places of the path."""
LEVEL = 0.01
"""Mean square by which the cameras' x axes may leave one plane, for the plane to be level."""
TILT = np.radians(25)
THICK = 0.025  # of the depth under the eyes, by which points of the floor are off it
LOW_SHARE = 0.06
"""Of the points, how many may be below the floor: what was triangulated wrongly."""


@frozen
class Scale:
    """Metres of the world's unit, and up."""

    metres: float | None
    sd: float  # share
    up: np.ndarray  # [3] unit
    how: str


def upwards(x_axes: np.ndarray, y_axes: np.ndarray) -> np.ndarray:  # each [N, 3], world -> [3]
    """Find up: cameras lean back and forth more than sideways, so their x axes are level."""
    values, vectors = np.linalg.eigh(x_axes.T @ x_axes / len(x_axes))
    mean_up = -y_axes.mean(axis=0)
    mean_up /= np.linalg.norm(mean_up)
    up = vectors[:, 0] * np.sign(vectors[:, 0] @ mean_up)
    # Of a head that never turned to a side, all x axes are one.
    known = values[1] > 0.03 and values[0] < max(LEVEL, 0.2 * values[1])
    return up if known else mean_up


def floor_scale(
    points: np.ndarray,  # [P, 3]
    centres: np.ndarray,  # [N, 3] of the head camera
    up: np.ndarray,
    eyes_m: float = STANDING_EYES_M,
    seed: int = 0,
) -> Scale:
    """Find the floor among the points under the path, and the unit from the eyes' height."""
    eyes = float(np.quantile(centres @ up, 0.9))
    below = points[points @ up < np.quantile(centres @ up, 0.1)]
    unknown = Scale(metres=None, sd=1.0, up=up, how="not known: no floor was found")
    if len(below) < 100:
        return unknown
    depth = eyes - below @ up
    reach = float(np.quantile(depth, 1 - LOW_SHARE / 2))
    near = THICK * reach
    generator = np.random.default_rng(seed)
    best = (0.0, up, 0.0)
    for _ in range(2000):
        a, b, c = below[generator.choice(len(below), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length < 1e-9:
            continue
        normal *= np.sign(normal @ up) / length
        if normal @ up < np.cos(TILT):
            continue
        heights = below @ normal
        level = float(a @ normal)
        inside = np.abs(heights - level) < near
        under = float((heights < level - 4 * near).mean())
        # A table has the floor's points under it.
        score = float(inside.mean()) * max(0.0, 1 - under / LOW_SHARE)
        if score > best[0]:
            best = score, normal, level
    score, normal, level = best
    if score < 0.05:
        return unknown
    own = below[np.abs(below @ normal - level) < near]
    middle = own.mean(axis=0)
    refined = np.linalg.svd(own - middle, full_matrices=False)[2][2]
    refined *= np.sign(refined @ normal)
    height = float(np.quantile(centres @ refined, 0.9) - middle @ refined)
    return Scale(
        metres=eyes_m / height,
        sd=FLOOR_SD,
        up=refined,
        how=f"floor {eyes_m:g} m under the eyes ({len(own)} of {len(below)} points)",
    )


def similarity(
    source: np.ndarray,  # [N, 3]
    target: np.ndarray,  # [N, 3]
) -> tuple[float, np.ndarray, np.ndarray]:  # scale, [3, 3], [3]
    """Fit target = scale turn source + shift (Umeyama)."""
    from_middle, to_middle = source - source.mean(0), target - target.mean(0)
    left, sizes, right = np.linalg.svd(to_middle.T @ from_middle)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    turn = left @ sign @ right
    scale = float((sizes * np.diag(sign)).sum() / (from_middle**2).sum())
    return scale, turn, target.mean(0) - scale * turn @ source.mean(0)


def robust_similarity(
    source: np.ndarray,  # [N, 3]
    target: np.ndarray,  # [N, 3]
) -> tuple[float, np.ndarray, np.ndarray]:  # scale, [3, 3], [3]
    """Fit a similarity to the half of the points that it fits best, some of which are far off."""
    far = np.linalg.norm(source - np.median(source, axis=0), axis=1)
    chosen = far <= np.median(far)
    for _ in range(5):
        scale, turn, shift = similarity(source[chosen], target[chosen])
        off = np.linalg.norm(scale * source @ turn.T + shift - target, axis=1)
        chosen = off <= np.median(off)
    return scale, turn, shift
