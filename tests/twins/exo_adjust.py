"""The plain twin of ``egox_core/scene/exo_adjust.py``: one residual after the other, minimised by
scipy."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from egox_core.scene.exo_adjust import CAUCHY, DEPTH_CAUCHY, DEPTH_SIGMA, NOISE_PX, Adjusted
from egox_core.scene.exo_tracks import Tracks


def adjust_reference(
    tracks: Tracks, start_at: Adjusted, *, turns: bool
) -> tuple[np.ndarray, np.ndarray, float]:  # rotations [T, 3, 3], places [T, 3], the cost
    """As :func:`exo_adjust.adjust` without a shutter, from a start of its own: scipy alone takes
    minutes from afar."""
    later = len(tracks.rotation) - 1

    def poses(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turned = Rotation.from_rotvec(values[: 3 * later].reshape(-1, 3)).as_matrix()
        places = np.zeros((later, 3)) if turns else values[3 * later : 6 * later].reshape(-1, 3)
        return np.r_[np.eye(3)[None], turned], np.r_[np.zeros((1, 3)), places]

    def residuals(values: np.ndarray) -> np.ndarray:
        rotation, place = poses(values)
        result = []
        depth = np.exp(-values[6 * later :])
        for point, frame, plane, px in zip(
            tracks.point, tracks.frame, tracks.plane, tracks.px, strict=True
        ):
            home, here = tracks.home[point], tracks.ray[point]
            if not turns:
                here = here * depth[point] - place[home]
            there = rotation[frame] @ rotation[home].T @ here + place[frame]
            off = (there[:2] / there[2] - plane) * px / NOISE_PX
            result.append(CAUCHY * np.sqrt(np.log1p((off**2).sum() / CAUCHY**2)))
        if not turns:
            pull = (values[6 * later :] + np.log(tracks.depth_m)) / DEPTH_SIGMA
            result += list(DEPTH_CAUCHY * np.sqrt(np.log1p(pull**2 / DEPTH_CAUCHY**2)))
        return np.array(result)

    start = Rotation.from_matrix(start_at.rotation[1:]).as_rotvec().ravel()
    if not turns:
        start = np.r_[start, start_at.place[1:].ravel(), -np.log(start_at.depth_m)]
    found = least_squares(residuals, start, ftol=1e-9, x_scale="jac", max_nfev=40)
    return *poses(found.x), 2 * found.cost
