"""The adjustment of an exo camera's poses: sightings agree, and points stay near their depth."""

from __future__ import annotations

import numpy as np
import scipy

from ..frozen import frozen
from .exo_tracks import FloatArray, Tracks

DEPTH_SIGMA, NOISE_PX = 0.08, 0.7  # of the logarithm of a point's depth; of a sighting
CAUCHY = 2.5  # times the noise, where a sighting or a depth counts half
TINY = 1e-6
MAX_STEPS, ENOUGH = 25, 1e-4  # relative change of the cost at which it is done
State = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Rotations, places, logarithms of the points' depth, and of the camera [4]: the logarithm by which
the lens is longer, the share of a frame's time by which the last column and the last row are read
after the first (rolling shutter), and the logarithm by which all places are farther."""


@frozen
class Adjusted:
    """Poses and points that agree best."""

    rotation: FloatArray  # [T, 3, 3] of frame t from frame 0
    place: FloatArray  # [T, 3] metres; zero where only rotations were allowed
    depth_m: FloatArray  # [N] of the points in their key frames
    seen_m: FloatArray  # [M] z depth of each sighting
    off_px: FloatArray  # [M]
    longer: float  # logarithm of the focal length over the one given
    farther: float  # and of the places, which have it
    cost: float


def adjust(
    tracks: Tracks,
    *,
    turns: bool,  # rotations alone, and points stay where they are
    held: bool = False,  # the poses are known
    scale: bool = False,  # but how far the held ones are isn't
    lens: bool = False,  # the focal length isn't
) -> Adjusted:
    """Adjust poses and points by Levenberg and Marquardt.

    Rotations alone may be sheared by a rolling shutter: travel would explain that, too."""
    count, points = tracks.place.shape[0], len(tracks.depth_m)
    moves = np.tile([not held] * 3 + [not held and not turns] * 3, count)
    moves[:6] = False
    rolls = turns and not held
    camera = [lens, rolls, rolls, scale]
    free_columns = np.flatnonzero(np.r_[np.full(points, not turns), moves, camera])
    place = np.zeros_like(tracks.place) if turns else tracks.place
    state = tracks.rotation, place, np.log(tracks.depth_m), np.zeros(4)
    cost, damping = _cost(tracks, state), 1e-4
    for _ in range(MAX_STEPS if len(free_columns) else 0):
        slopes, residuals = _linear(tracks, state, np.flatnonzero(camera))
        free_slopes = slopes[:, free_columns]
        matrix, gradient = free_slopes.T @ free_slopes, free_slopes.T @ residuals
        while damping < 1e3:
            step = np.zeros(slopes.shape[1])
            damped_matrix = matrix + scipy.sparse.diags(damping * matrix.diagonal() + 1e-9)
            # Points stand before the poses: eliminated in this order they leave little behind.
            solver = scipy.sparse.linalg.splu(
                damped_matrix.tocsc(), "NATURAL", 0.0, options={"SymmetricMode": True}
            )
            step[free_columns] = -solver.solve(gradient)
            trial_state = _take_step(state, step)
            new_cost = _cost(tracks, trial_state)
            if new_cost < cost:
                break
            damping *= 10
        else:
            break
        state, gain, cost = trial_state, cost - new_cost, new_cost
        damping = max(damping / 5, 1e-7)
        if gain < ENOUGH * cost:
            break
    *_, seen_points, residuals, _ = _residuals(tracks, state)
    return Adjusted(
        rotation=state[0],
        place=state[1] * np.exp(state[3][3]),
        depth_m=np.exp(state[2]),
        seen_m=np.maximum(seen_points[:, 2], 1e-3),
        off_px=NOISE_PX * np.linalg.norm(residuals, axis=1),
        longer=state[3][0],
        farther=state[3][3],
        cost=cost,
    )


def _residuals(tracks: Tracks, state: State) -> tuple[FloatArray, ...]:
    """Compute the turns from the key frames, the points, and their residuals.

    Turns [M, 3, 3]; points in the key frame and in the sighting's frame [M, 3]; their distances
    from the sightings [M, 2] and from their depths [N], in units of the noise.
    """
    rotation, place, depth, (log_focal, *shutter, log_distance) = state
    home_frames = tracks.home[tracks.point]
    scale = np.exp(log_focal)
    place = place * np.exp(log_distance)
    frame_from_home = rotation[tracks.frame] @ rotation[home_frames].transpose(0, 2, 1)
    spin = scipy.spatial.transform.Rotation.from_matrix(
        rotation[1:] @ rotation[:-1].transpose(0, 2, 1)
    ).as_rotvec()
    spin = np.r_[spin[:1], (spin[1:] + spin[:-1]) / 2, spin[-1:]]  # in a frame's time

    def read(points: FloatArray, uv: FloatArray, frame: FloatArray, sign: int) -> FloatArray:
        delay = ((uv + 0.5) / tracks.size - 0.5) @ shutter
        return scipy.spatial.transform.Rotation.from_rotvec(
            sign * delay[:, None] * spin[frame]
        ).apply(points)

    ray = read(tracks.ray / [scale, scale, 1], tracks.home_uv, tracks.home, -1)
    home_points = (ray * np.exp(depth)[:, None])[tracks.point]
    seen_points = (
        np.einsum("nij,nj->ni", frame_from_home, home_points - place[home_frames])
        + place[tracks.frame]
    )
    seen_points = read(seen_points, tracks.uv, tracks.frame, 1)
    plane = seen_points[:, :2] / np.maximum(seen_points[:, 2:], 1e-3)
    residuals = (scale * plane - tracks.plane) * tracks.px[:, None] / NOISE_PX
    return (
        frame_from_home,
        home_points,
        seen_points,
        residuals,
        (depth - np.log(tracks.depth_m)) / DEPTH_SIGMA,
    )


def _cost(tracks: Tracks, state: State) -> float:
    """Sum Cauchy's cost of the sightings and of the depth."""
    *_, residuals, pull = _residuals(tracks, state)
    cost = CAUCHY**2 * np.log1p((residuals**2).sum(1) / CAUCHY**2).sum()
    return float(cost + CAUCHY**2 * np.log1p(pull**2 / CAUCHY**2).sum())


def _linear(
    tracks: Tracks,
    state: State,
    camera: FloatArray,  # int, of its numbers, those that aren't known
) -> tuple[scipy.sparse.csc_matrix, FloatArray]:
    """Linearise the weighted residuals [2 M + N].

    The derivatives are by [N] depths, [6 T] steps of poses (a turn and a shift in the camera's
    frame, taken after its pose) and [4] numbers of the camera.
    """
    frame_from_home, home_points, seen_points, residuals, pull = _residuals(tracks, state)
    by_camera = np.zeros((*residuals.shape, 4))
    for number in camera:
        step = TINY * np.eye(4)[number]
        stepped_residuals = _residuals(tracks, (*state[:3], state[3] + step))[3]
        by_camera[..., number] = (stepped_residuals - residuals) / TINY
    points, sightings = len(tracks.depth_m), len(residuals)
    robust = 1 / np.sqrt(1 + (residuals**2).sum(1) / CAUCHY**2)
    seen_depth = np.maximum(seen_points[:, 2], 1e-3)
    scale = robust * tracks.px / NOISE_PX / seen_depth * np.exp(state[3][0])
    by_seen = np.zeros((sightings, 2, 3))
    by_seen[:, 0, 0] = by_seen[:, 1, 1] = scale
    by_seen[:, :, 2] = -(scale / seen_depth)[:, None] * seen_points[:, :2]
    by_own = by_seen @ frame_from_home
    values = np.concatenate(
        [
            by_own @ home_points[:, :, None],
            np.cross(seen_points[:, None], by_seen),
            by_seen,
            -np.cross(home_points[:, None], by_own),
            -by_own,
            by_camera * robust[:, None, None],
        ],
        2,
    )  # [M, 2, 17]
    poses = points + 6 * np.c_[tracks.frame, tracks.home[tracks.point]][..., None] + np.arange(6)
    unknown = points + 6 * len(tracks.place) + 4
    last = np.full((sightings, 4), unknown) - [4, 3, 2, 1]
    columns = np.c_[tracks.point, poses.reshape(-1, 12), last].repeat(2, 0).ravel()
    starts = np.arange(0, values.size + 1, 17)
    rows = scipy.sparse.csr_matrix((values.ravel(), columns, starts), (2 * sightings, unknown))
    robust_pull = 1 / np.sqrt(1 + pull**2 / CAUCHY**2)
    depths = scipy.sparse.diags(robust_pull / DEPTH_SIGMA, shape=(points, unknown))
    weighted = np.r_[(residuals * robust[:, None]).ravel(), pull * robust_pull]
    return scipy.sparse.vstack([rows, depths]).tocsc(), weighted


def _take_step(state: State, step: FloatArray) -> State:
    rotation, place, depth, camera = state
    poses = step[len(depth) : -4].reshape(-1, 6)
    turn = scipy.spatial.transform.Rotation.from_rotvec(poses[:, :3]).as_matrix()
    place = np.einsum("nij,nj->ni", turn, place) + poses[:, 3:]
    depth = depth + step[: len(depth)].clip(-1, 1)
    return turn @ rotation, place, depth, (camera + step[-4:]).clip(-1, 1)
