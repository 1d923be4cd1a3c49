"""Adjust exo camera poses and 3-D points to agree with tracked points and depth (bundle
adjustment)."""

from __future__ import annotations

import numpy as np
import scipy

from ..frozen import frozen
from .exo_tracks import FloatArray, Tracks

DEPTH_SIGMA, NOISE_PX = 0.08, 0.7  # of the logarithm of a point's depth; of a sighting
CAUCHY = 2.5  # times the noise, where a sighting or a depth counts half
DERIVATIVE_STEP = 1e-6
MAX_STEPS, MIN_GAIN = 25, 1e-4  # relative change of the cost at which it is done
State = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Rotations, places, logarithms of the points' depth, and of the camera [4]: the logarithm by which
the lens is longer, the share of a frame's time by which the last column and the last row are read
after the first (rolling shutter), and the logarithm by which all places are farther."""


@frozen
class AdjustmentResult:
    """Result of a bundle adjustment: refined poses and points."""

    rotation: FloatArray  # [T, 3, 3] of frame t from frame 0
    place: FloatArray  # [T, 3] metres; zero where only rotations were allowed
    depth_m: FloatArray  # [N] of the points in their key frames
    seen_m: FloatArray  # [M] z depth of each sighting
    off_px: FloatArray  # [M]
    log_focal_change: float  # logarithm of the focal length over the one given
    log_scale_change: float  # and of the places, which have it
    cost: float


def adjust(
    tracks: Tracks,
    *,
    turns: bool,  # rotations alone, and points stay where they are
    held: bool = False,  # the poses are known
    scale: bool = False,  # but how far the held ones are isn't
    lens: bool = False,  # the focal length isn't
) -> AdjustmentResult:
    """Refine camera poses and points by bundle adjustment with the Levenberg-Marquardt method.

    Rotations alone may be sheared by a rolling shutter: travel would explain that, too."""
    frame_count = tracks.place.shape[0]
    point_count = len(tracks.depth_m)
    is_free_pose = np.tile([not held] * 3 + [not held and not turns] * 3, frame_count)
    is_free_pose[:6] = False
    has_shutter = turns and not held
    is_free_camera = [lens, has_shutter, has_shutter, scale]
    free_columns = np.flatnonzero(
        np.r_[np.full(point_count, not turns), is_free_pose, is_free_camera]
    )
    place = np.zeros_like(tracks.place) if turns else tracks.place
    state = tracks.rotation, place, np.log(tracks.depth_m), np.zeros(4)
    cost = _total_cost(tracks, state)
    damping = 1e-4
    for _ in range(MAX_STEPS if len(free_columns) else 0):
        slopes, residuals = _linearise(tracks, state, np.flatnonzero(is_free_camera))
        free_slopes = slopes[:, free_columns]
        normal_matrix, gradient = free_slopes.T @ free_slopes, free_slopes.T @ residuals
        while damping < 1e3:
            step = np.zeros(slopes.shape[1])
            damped_matrix = normal_matrix + scipy.sparse.diags(
                damping * normal_matrix.diagonal() + 1e-9
            )
            # Points stand before the poses: eliminated in this order they leave little behind.
            solver = scipy.sparse.linalg.splu(
                damped_matrix.tocsc(), "NATURAL", 0.0, options={"SymmetricMode": True}
            )
            step[free_columns] = -solver.solve(gradient)
            trial_state = _take_step(state, step)
            new_cost = _total_cost(tracks, trial_state)
            if new_cost < cost:
                break
            damping *= 10
        else:
            break
        state = trial_state
        gain = cost - new_cost
        cost = new_cost
        damping = max(damping / 5, 1e-7)
        if gain < MIN_GAIN * cost:
            break
    *_, seen_points, residuals, _ = _compute_residuals(tracks, state)
    return AdjustmentResult(
        rotation=state[0],
        place=state[1] * np.exp(state[3][3]),
        depth_m=np.exp(state[2]),
        seen_m=np.maximum(seen_points[:, 2], 1e-3),
        off_px=NOISE_PX * np.linalg.norm(residuals, axis=1),
        log_focal_change=state[3][0],
        log_scale_change=state[3][3],
        cost=cost,
    )


def _compute_residuals(tracks: Tracks, state: State) -> tuple[FloatArray, ...]:
    """Compute rotations from the key frames, points, and the residuals of sightings and depth.

    Turns [M, 3, 3]; points in the key frame and in the sighting's frame [M, 3]; their distances
    from the sightings [M, 2] and from their depths [N], in units of the noise.
    """
    rotation, place, depth, (log_focal, *shutter, log_distance) = state
    home_frames = tracks.key_frame[tracks.point]
    scale = np.exp(log_focal)
    place = place * np.exp(log_distance)
    frame_from_home = rotation[tracks.frame] @ rotation[home_frames].transpose(0, 2, 1)
    rotation_per_frame = scipy.spatial.transform.Rotation.from_matrix(
        rotation[1:] @ rotation[:-1].transpose(0, 2, 1)
    ).as_rotvec()
    rotation_per_frame = np.r_[
        rotation_per_frame[:1],
        (rotation_per_frame[1:] + rotation_per_frame[:-1]) / 2,
        rotation_per_frame[-1:],
    ]  # in a frame's time

    def shutter_shift(
        points: FloatArray, uv: FloatArray, frame: FloatArray, sign: int
    ) -> FloatArray:
        delay = ((uv + 0.5) / tracks.size - 0.5) @ shutter
        return scipy.spatial.transform.Rotation.from_rotvec(
            sign * delay[:, None] * rotation_per_frame[frame]
        ).apply(points)

    rays = shutter_shift(tracks.ray / [scale, scale, 1], tracks.key_uv, tracks.key_frame, -1)
    home_points = (rays * np.exp(depth)[:, None])[tracks.point]
    seen_points = (
        np.einsum("nij,nj->ni", frame_from_home, home_points - place[home_frames])
        + place[tracks.frame]
    )
    seen_points = shutter_shift(seen_points, tracks.uv, tracks.frame, 1)
    plane_points = seen_points[:, :2] / np.maximum(seen_points[:, 2:], 1e-3)
    residuals = (scale * plane_points - tracks.plane_uv) * tracks.px_per_unit[:, None] / NOISE_PX
    return (
        frame_from_home,
        home_points,
        seen_points,
        residuals,
        (depth - np.log(tracks.depth_m)) / DEPTH_SIGMA,
    )


def _total_cost(tracks: Tracks, state: State) -> float:
    """Compute the total Cauchy cost of sightings and depth."""
    *_, residuals, depth_residuals = _compute_residuals(tracks, state)
    cost = CAUCHY**2 * np.log1p((residuals**2).sum(1) / CAUCHY**2).sum()
    return float(cost + CAUCHY**2 * np.log1p(depth_residuals**2 / CAUCHY**2).sum())


def _linearise(
    tracks: Tracks,
    state: State,
    camera: FloatArray,  # int, of its numbers, those that aren't known
) -> tuple[scipy.sparse.csc_matrix, FloatArray]:
    """Compute the weighted residuals [2 M + N] and their sparse Jacobian.

    The derivatives are by [N] depths, [6 T] steps of poses (a turn and a shift in the camera's
    frame, taken after its pose) and [4] numbers of the camera.
    """
    frame_from_home, home_points, seen_points, residuals, depth_residuals = _compute_residuals(
        tracks, state
    )
    camera_slopes = np.zeros((*residuals.shape, 4))
    for number in camera:
        step = DERIVATIVE_STEP * np.eye(4)[number]
        stepped_residuals = _compute_residuals(tracks, (*state[:3], state[3] + step))[3]
        camera_slopes[..., number] = (stepped_residuals - residuals) / DERIVATIVE_STEP
    point_count = len(tracks.depth_m)
    sighting_count = len(residuals)
    robust_weight = 1 / np.sqrt(1 + (residuals**2).sum(1) / CAUCHY**2)
    seen_depth = np.maximum(seen_points[:, 2], 1e-3)
    scale = robust_weight * tracks.px_per_unit / NOISE_PX / seen_depth * np.exp(state[3][0])
    point_slopes = np.zeros((sighting_count, 2, 3))
    point_slopes[:, 0, 0] = point_slopes[:, 1, 1] = scale
    point_slopes[:, :, 2] = -(scale / seen_depth)[:, None] * seen_points[:, :2]
    home_slopes = point_slopes @ frame_from_home
    values = np.concatenate(
        [
            home_slopes @ home_points[:, :, None],
            np.cross(seen_points[:, None], point_slopes),
            point_slopes,
            -np.cross(home_points[:, None], home_slopes),
            -home_slopes,
            camera_slopes * robust_weight[:, None, None],
        ],
        2,
    )  # [M, 2, 17]
    pose_columns = (
        point_count
        + 6 * np.c_[tracks.frame, tracks.key_frame[tracks.point]][..., None]
        + np.arange(6)
    )
    unknown_count = point_count + 6 * len(tracks.place) + 4
    camera_columns = np.full((sighting_count, 4), unknown_count) - [4, 3, 2, 1]
    columns = np.c_[tracks.point, pose_columns.reshape(-1, 12), camera_columns].repeat(2, 0).ravel()
    starts = np.arange(0, values.size + 1, 17)
    rows = scipy.sparse.csr_matrix(
        (values.ravel(), columns, starts), (2 * sighting_count, unknown_count)
    )
    depth_weight = 1 / np.sqrt(1 + depth_residuals**2 / CAUCHY**2)
    depth_rows = scipy.sparse.diags(depth_weight / DEPTH_SIGMA, shape=(point_count, unknown_count))
    weighted = np.r_[(residuals * robust_weight[:, None]).ravel(), depth_residuals * depth_weight]
    return scipy.sparse.vstack([rows, depth_rows]).tocsc(), weighted


def _take_step(state: State, step: FloatArray) -> State:
    rotation, place, depth, camera = state
    poses = step[len(depth) : -4].reshape(-1, 6)
    turn = scipy.spatial.transform.Rotation.from_rotvec(poses[:, :3]).as_matrix()
    place = np.einsum("nij,nj->ni", turn, place) + poses[:, 3:]
    depth = depth + step[: len(depth)].clip(-1, 1)
    return turn @ rotation, place, depth, (camera + step[-4:]).clip(-1, 1)
