"""Compare a head camera's rotations in its video with those of its stated poses, to find a time lag
or wrong poses."""

import math
from collections.abc import Iterable

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from egox_core.cameras import CameraModel
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress

from .frames import track_points

SIDE = 448
"""Longest side, px, of the pictures that are compared."""
MOST_TRACKED_POINTS, FEWEST_TRACKED_POINTS = 250, 20
ROUNDS = 6
STEP_FRAMES = 0.25
LONGEST_LAG_S, LONGEST_LAG_SHARE = 1.0, 0.25
"""Lags that are tried, to both sides: seconds, and share of the clip."""
FEWEST_TURNS = 8
LEAST_ROTATION_TO_NOISE = 4.0
"""The turns of a clip against their own noise, below which they tell nothing."""
LEAST_EXPLAINED_SHARE, LEAST_MISMATCH_SIGMAS = 0.7, 4.0
"""Share of the pictures' turns that poses explain if they are theirs, and what others leave of them
against the noise (``benchmarks/results/constants.md``)."""
LAG_FLOOR_FRAMES = 0.25
"""A head that turns also moves, and a shutter rolls: both look like a turn."""
MIRROR_SIGNS = (1.0, -1.0, -1.0)
"""Signs of a turn's axes (right, down, ahead) where left and right are exchanged in pictures or
poses."""


@frozen
class CameraRotations:
    """Rotations of the upright camera between consecutive frames, measured from its pictures."""

    vectors: np.ndarray  # [T - 1, 3] rotation vectors, radians, NaN where they aren't known
    # [T - 1] radians, of each axis: what the picture's upper and lower half tell apart. Hands and
    # what else moves near the camera are in the lower one.
    noise: np.ndarray


@frozen
class Motion:
    """Result of comparing the video's rotations with those of the stated poses."""

    lag_s: float  # the poses that belong to a picture are stated so much later
    lag_sd_s: float
    frame_s: float
    explained_share: float  # share of the pictures' turns, at that lag
    rotation_to_noise: float  # the pictures' turns against their noise
    is_mirrored: bool  # what is stated so, explains them
    mismatch_sigmas: float  # what the poses as stated leave of the turns, against their noise

    @property
    def has_enough_rotation(self) -> bool:
        """True if the head rotated enough to compare video and poses."""
        return self.rotation_to_noise >= LEAST_ROTATION_TO_NOISE

    @property
    def is_other_recording(self) -> bool:
        """True if the stated poses belong to another recording than the video."""
        return (
            self.has_enough_rotation
            and self.explained_share < LEAST_EXPLAINED_SHARE
            and self.mismatch_sigmas >= LEAST_MISMATCH_SIGMAS
        )

    @property
    def is_lag_known(self) -> bool:
        """True if video and poses rotate alike, so that their time lag can be measured."""
        return (
            self.has_enough_rotation
            and self.explained_share >= LEAST_EXPLAINED_SHARE
            and math.isfinite(self.lag_sd_s)
        )

    @property
    def lag_sigmas(self) -> float:
        """Size of the time lag of the poses in standard deviations."""
        return abs(self.lag_s) / self.lag_sd_s


def picture_turns(
    pictures: Iterable[np.ndarray],  # [H, W, 3] uint8 RGB, upright
    camera: CameraModel,  # upright, of these pictures
    progress: Progress = no_progress,
) -> CameraRotations:
    """Measure the camera's rotation from each picture to the next by tracking points and fitting
    their rays."""
    scale_factor = min(1.0, SIDE / max(camera.width, camera.height))
    size = round(camera.width * scale_factor), round(camera.height * scale_factor)
    small_camera = camera.rescale(*size)
    rotation_vectors, noise, earlier_picture = [], [], None
    for picture_index, picture in enumerate(pictures):
        grey_picture = cv2.cvtColor(
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )
        if earlier_picture is not None:
            rotation_vector, halves_difference = _measure_turn(
                earlier_picture, grey_picture, small_camera
            )
            rotation_vectors.append(rotation_vector)
            noise.append(halves_difference)
        earlier_picture = grey_picture
        progress(picture_index + 1, 0, "turns of the head camera")
    return CameraRotations(vectors=np.array(rotation_vectors).reshape(-1, 3), noise=np.array(noise))


def _measure_turn(
    earlier: np.ndarray, later: np.ndarray, camera: CameraModel
) -> tuple[np.ndarray, float]:
    """Measure the camera's rotation between two pictures by tracking points, with its
    uncertainty."""
    unknown_turn = np.full(3, np.nan), math.nan
    corners = cv2.goodFeaturesToTrack(earlier, MOST_TRACKED_POINTS, 0.01, 5)
    if corners is None:
        return unknown_turn
    start_uv = corners[:, 0].astype(np.float32)
    end_uv, point_rows = track_points(earlier, later, start_uv, np.arange(len(start_uv)))
    rays = []
    for uv in (start_uv[point_rows], end_uv):
        directions, valid_mask = camera.unproject(torch.from_numpy(uv.astype(np.float64)))
        rays.append(np.where(valid_mask.numpy()[:, None], directions.numpy(), np.nan))
    is_finite = np.isfinite(rays[0]).all(1) & np.isfinite(rays[1]).all(1)
    earlier_rays, later_rays = rays[0][is_finite], rays[1][is_finite]
    lower_mask = (
        earlier_rays[:, 1] > np.median(earlier_rays[:, 1])
        if len(earlier_rays)
        else np.zeros(0, bool)
    )
    if len(earlier_rays) < FEWEST_TRACKED_POINTS:
        return unknown_turn
    half_rotations = [
        _fit_rotation(earlier_rays[half_mask], later_rays[half_mask])
        for half_mask in (lower_mask, ~lower_mask)
    ]
    half_difference = (
        float(np.linalg.norm(half_rotations[0] - half_rotations[1])) / 2 / math.sqrt(3)
    )
    return _fit_rotation(earlier_rays, later_rays), half_difference


def _fit_rotation(
    earlier_rays: np.ndarray, later_rays: np.ndarray
) -> np.ndarray:  # [N, 3], [N, 3] -> [3]
    """Fit a camera rotation and a translation to pairs of viewing rays robustly."""
    rotation, point_weights = Rotation.identity(), np.ones(len(earlier_rays))
    for _ in range(ROUNDS):
        turned_rays = rotation.apply(earlier_rays)
        projection_matrices = np.eye(3) - turned_rays[:, :, None] * turned_rays[:, None]
        skew_matrices = np.zeros((len(turned_rays), 3, 3))
        x, y, z = turned_rays.T
        skew_matrices[:, 0, 1], skew_matrices[:, 0, 2], skew_matrices[:, 1, 0] = z, -y, -z
        skew_matrices[:, 1, 2], skew_matrices[:, 2, 0], skew_matrices[:, 2, 1] = x, y, -x
        jacobian = np.concatenate([skew_matrices, projection_matrices], axis=2)
        direction_errors = later_rays - turned_rays
        weighted_jacobian = jacobian * point_weights[:, None, None]
        normal_matrix = np.einsum("nij,nik->jk", weighted_jacobian, jacobian) + 1e-6 * np.eye(6)
        step = np.linalg.solve(
            normal_matrix, np.einsum("nij,ni->j", weighted_jacobian, direction_errors)
        )
        squared_errors = np.square(direction_errors - jacobian @ step).sum(1)
        cauchy_scale = 1.2 * math.sqrt(float(np.median(squared_errors))) + 1e-6
        point_weights = 1 / (1 + squared_errors / (3 * cauchy_scale) ** 2)
        rotation = Rotation.from_rotvec(step[:3]) * rotation
    return rotation.as_rotvec()


def compare_turns(
    turns: CameraRotations,
    times_s: np.ndarray,  # [T] of the pictures
    w2c: np.ndarray,  # [T, 3, 4] upright, as stated for them
) -> Motion | None:
    """Find the time lag at which the stated poses rotate as the video does."""
    known_mask = np.isfinite(w2c).all(axis=(1, 2))
    if known_mask.sum() < FEWEST_TURNS + 1 or len(times_s) != len(turns.vectors) + 1:
        return None
    first_s, last_s = times_s[known_mask][[0, -1]]
    rotation_path = Slerp(times_s[known_mask], Rotation.from_matrix(w2c[known_mask][:, :, :3]))
    frame_s = float(np.median(np.diff(times_s)))
    longest_lag_s = min(LONGEST_LAG_S, LONGEST_LAG_SHARE * (last_s - first_s)) // frame_s * frame_s
    is_inside = (times_s[:-1] - longest_lag_s >= first_s) & (times_s[1:] + longest_lag_s <= last_s)
    is_inside &= np.isfinite(turns.noise)
    if is_inside.sum() < FEWEST_TURNS:
        return None
    picture_vectors = turns.vectors[is_inside]
    start_times, end_times = times_s[:-1][is_inside], times_s[1:][is_inside]

    def stated_vectors(lag: float) -> np.ndarray:  # [N, 3]
        return (rotation_path(end_times + lag) * rotation_path(start_times + lag).inv()).as_rotvec()

    candidate_lags_s = np.arange(-longest_lag_s, longest_lag_s + frame_s / 8, STEP_FRAMES * frame_s)
    mirror_signs, is_mirrored = np.ones(3), False
    lag_costs = np.array([_cost(picture_vectors, stated_vectors(lag)) for lag in candidate_lags_s])
    lag_as_stated = float(candidate_lags_s[lag_costs.argmin()])
    zero_rotation_cost = _cost(picture_vectors, np.zeros(3))
    mirrored_costs = np.array(
        [_cost(picture_vectors, stated_vectors(lag) * MIRROR_SIGNS) for lag in candidate_lags_s]
    )
    if mirrored_costs.min() < min(
        lag_costs.min(), (1 - LEAST_EXPLAINED_SHARE) * zero_rotation_cost
    ):
        mirror_signs, is_mirrored, lag_costs = np.array(MIRROR_SIGNS), True, mirrored_costs
    best_index = int(lag_costs.argmin())
    lag = float(candidate_lags_s[best_index])
    if 0 < best_index < len(candidate_lags_s) - 1:
        cost_before, cost_at_best, cost_after = lag_costs[best_index - 1 : best_index + 2]
        lag += (
            STEP_FRAMES
            * frame_s
            * 0.5
            * (cost_before - cost_after)
            / max(cost_before - 2 * cost_at_best + cost_after, 1e-30)
        )
    residuals = picture_vectors - stated_vectors(lag) * mirror_signs
    lag_gradient = (stated_vectors(lag + frame_s / 2) - stated_vectors(lag - frame_s / 2)) / frame_s
    lag_sd_s = math.inf
    if (gradient_power := float(np.square(lag_gradient).sum())) > 0:
        lag_sd_s = math.sqrt(
            _correlated_frames(residuals)
            * float(np.square(residuals).sum())
            / (3 * len(residuals))
            / gradient_power
        )
    noise = max(math.sqrt(float(np.square(turns.noise[is_inside]).mean())), 1e-9)
    cost_as_stated = _cost(picture_vectors, stated_vectors(lag_as_stated))
    return Motion(
        lag_s=float(lag),
        lag_sd_s=math.hypot(lag_sd_s, LAG_FLOOR_FRAMES * frame_s),
        frame_s=frame_s,
        explained_share=1 - _cost(residuals, np.zeros(3)) / max(zero_rotation_cost, 1e-30),
        rotation_to_noise=math.sqrt(zero_rotation_cost / 3) / noise,
        is_mirrored=is_mirrored,
        mismatch_sigmas=math.sqrt(cost_as_stated / 3) / noise,
    )


def _cost(picture_vectors: np.ndarray, stated_vectors: np.ndarray) -> float:
    return float(np.square(picture_vectors - stated_vectors).sum(1).mean())


def _correlated_frames(residuals: np.ndarray) -> float:
    """Estimate over how many consecutive frames measurement errors [N, 3] are correlated."""
    residual_power = max(float((residuals * residuals).sum()), 1e-30)
    correlated_frames = 1.0
    for step in range(1, max(2, len(residuals) // 3)):
        correlation = float((residuals[step:] * residuals[:-step]).sum()) / residual_power
        if correlation < 0.05:
            break
        correlated_frames += 2 * correlation
    return correlated_frames
