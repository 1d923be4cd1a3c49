"""Adjust exo camera motion with scipy, as a plain form of ``egox_core/scene/exo_adjust.py``."""

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from egox_core.scene.exo_adjust import CAUCHY, DEPTH_SIGMA, NOISE_PX, Adjusted
from egox_core.scene.exo_tracks import Tracks


def adjust_reference(tracks: Tracks, start_at: Adjusted, *, turns: bool) -> float:  # the cost
    """Adjust like :func:`exo_adjust.adjust`, from a given start."""
    later = len(tracks.rotation) - 1
    places, points = (0, 0) if turns else (3 * later, len(tracks.depth_m))

    def robust(off: np.ndarray, width: float) -> np.ndarray:
        size = max(np.linalg.norm(off), 1e-9)
        return width * np.sqrt(np.log1p((size / width) ** 2)) * off / size

    def residuals(values: np.ndarray) -> np.ndarray:
        turn, place, depth, shutter = np.split(values, np.cumsum([3 * later, places, points]))
        rotation = np.r_[np.eye(3)[None], Rotation.from_rotvec(turn.reshape(-1, 3)).as_matrix()]
        place = np.r_[np.zeros((1, 3)), place.reshape(-1, 3) if places else np.zeros((later, 3))]
        z = np.exp(depth) if points else tracks.depth_m

        def late(frame: int, uv: np.ndarray) -> np.ndarray:
            if not turns:
                return np.eye(3)
            before, after = max(frame - 1, 0), min(frame + 1, later)
            spin = Rotation.from_matrix(rotation[after] @ rotation[before].T).as_rotvec()
            share = ((uv + 0.5) / tracks.size - 0.5) @ shutter / (after - before)
            return Rotation.from_rotvec(share * spin).as_matrix()

        pulls = (depth - np.log(tracks.depth_m[:points])) / DEPTH_SIGMA
        result = [robust(own, CAUCHY) for own in pulls[:, None]]
        for point, frame, plane, uv, px in zip(
            tracks.point, tracks.frame, tracks.plane, tracks.uv, tracks.px, strict=True
        ):
            home = tracks.home[point]
            here = late(home, tracks.home_uv[point]).T @ tracks.ray[point] * z[point]
            world = rotation[home].T @ (here - place[home])
            there = late(frame, uv) @ (rotation[frame] @ world + place[frame])
            result.append(robust((there[:2] / there[2] - plane) * px / NOISE_PX, CAUCHY))
        return np.concatenate(result)

    start = Rotation.from_matrix(start_at.rotation[1:]).as_rotvec().ravel()
    rest = np.full(2, 0.1)
    if not turns:
        rest = np.r_[start_at.place[1:].ravel(), np.log(start_at.depth_m)]
    return 2 * least_squares(residuals, np.r_[start, rest], ftol=1e-6, x_scale="jac").cost
