"""Adjust exo camera motion by a simple reference implementation with scipy."""

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from egox_core.scene.exo_adjust import CAUCHY, DEPTH_SIGMA, NOISE_PX, AdjustmentResult
from egox_core.scene.exo_tracks import Tracks


def adjust_reference(
    tracks: Tracks, start_at: AdjustmentResult, *, turns: bool
) -> float:  # the cost
    """Adjust the exo camera's motion like :func:`exo_adjust.adjust`, as a simple reference."""
    moved_frames = len(tracks.rotation) - 1
    place_count, point_count = (0, 0) if turns else (3 * moved_frames, len(tracks.depth_m))

    def robust(residual: np.ndarray, width: float) -> np.ndarray:
        residual_norm = max(np.linalg.norm(residual), 1e-9)
        return width * np.sqrt(np.log1p((residual_norm / width) ** 2)) * residual / residual_norm

    def residuals(values: np.ndarray) -> np.ndarray:
        turns_rad, positions, depth, shutter = np.split(
            values, np.cumsum([3 * moved_frames, place_count, point_count])
        )
        rotation = np.r_[
            np.eye(3)[None], Rotation.from_rotvec(turns_rad.reshape(-1, 3)).as_matrix()
        ]
        positions = np.r_[
            np.zeros((1, 3)),
            positions.reshape(-1, 3) if place_count else np.zeros((moved_frames, 3)),
        ]
        depths = np.exp(depth) if point_count else tracks.depth_m

        def shutter_rotation(frame: int, uv: np.ndarray) -> np.ndarray:
            if not turns:
                return np.eye(3)
            frame_before, frame_after = max(frame - 1, 0), min(frame + 1, moved_frames)
            frame_rotation = Rotation.from_matrix(
                rotation[frame_after] @ rotation[frame_before].T
            ).as_rotvec()
            row_share = ((uv + 0.5) / tracks.size - 0.5) @ shutter / (frame_after - frame_before)
            return Rotation.from_rotvec(row_share * frame_rotation).as_matrix()

        depth_residuals = (depth - np.log(tracks.depth_m[:point_count])) / DEPTH_SIGMA
        all_residuals = [
            robust(depth_residual, CAUCHY) for depth_residual in depth_residuals[:, None]
        ]
        for point, frame, plane, uv, px in zip(
            tracks.point, tracks.frame, tracks.plane_uv, tracks.uv, tracks.px_per_unit, strict=True
        ):
            home_frame = tracks.key_frame[point]
            exo_point = (
                shutter_rotation(home_frame, tracks.key_uv[point]).T
                @ tracks.ray[point]
                * depths[point]
            )
            world_point = rotation[home_frame].T @ (exo_point - positions[home_frame])
            moved_point = shutter_rotation(frame, uv) @ (
                rotation[frame] @ world_point + positions[frame]
            )
            all_residuals.append(
                robust((moved_point[:2] / moved_point[2] - plane) * px / NOISE_PX, CAUCHY)
            )
        return np.concatenate(all_residuals)

    start_turns = Rotation.from_matrix(start_at.rotation[1:]).as_rotvec().ravel()
    start_values = np.full(2, 0.1)
    if not turns:
        start_values = np.r_[start_at.place[1:].ravel(), np.log(start_at.depth_m)]
    return (
        2
        * least_squares(residuals, np.r_[start_turns, start_values], ftol=1e-6, x_scale="jac").cost
    )
