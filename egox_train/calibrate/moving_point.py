"""Find the pose of a fixed camera from a point whose 3D path is known, such as the wearer's
head."""

import math
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from egox_core.cameras import CameraModel
from egox_core.frozen import frozen

MOST_RELATIVE_SD, MOST_ROTATION_SD_DEG = 0.1, 5.0
"""Of the distance, and degrees: a camera with a larger sd is not solved."""
LOSS_SCALE_DEG = 0.7  # an ear's middle is off by so much; more counts less and less
OFFSET_SD_M = 0.04
"""Of where on the head the point is, along each axis: ears' middle against a mount that is not
known."""
LAG_SD_S = 0.5
FEWEST = 12
LEAST_EIGENVALUE = 1e-12
"""Of the normal equations, each number's own weight being 1: below it a point on a line tells no
turn about the line."""
MOST_AXIS_ANGLE_DEG = 80.0  # off the axis: a plane has no place for more


@frozen
class SolvedCamera:
    """Solved pose of a fixed camera, with its uncertainty."""

    w2c: np.ndarray  # [3, 4] camera_from_world
    lag_s: float  # the point's path runs so much later than the pixels say
    offset_m: np.ndarray  # [3] of the point in its carrier's frame, against what was given
    sd_m: float  # of the camera's place
    sd_deg: float
    lag_sd_s: float
    distance_m: float  # to the point's path, median
    residual_deg: tuple[float, float]  # median and 90 %

    @property
    def is_certain(self) -> bool:
        """True if the estimated position and rotation are certain enough to be used."""
        return (
            self.sd_m <= MOST_RELATIVE_SD * self.distance_m and self.sd_deg <= MOST_ROTATION_SD_DEG
        )


PoseFunction = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Carrier's place [N, 3] metres and rotation world_from_carrier [N, 3, 3] at moments [N]
seconds."""


def camera_from_point(
    camera: CameraModel,
    uv: np.ndarray,  # [N, 2] stored pixels
    times_s: np.ndarray,  # [N]
    head_pose_function: PoseFunction,
    point_m: np.ndarray,  # [3] in the carrier's frame
    *,
    lags_s: np.ndarray | None = None,  # that are tried first; None: the clocks are known
    lag_sd_s: float = 0.02,
    offset_sd_m: float = OFFSET_SD_M,
) -> SolvedCamera | None:
    """Find the pose of a fixed camera with a known lens that sees a moving point, or return None.

    SQPNP at each lag, then robust least squares over pose, lag and the point's offset, which is
    held by ``offset_sd_m``. The sd is inflated by how long errors last.
    """
    rays = _rays(camera, uv)
    usable_mask = rays[:, 2] > np.cos(np.radians(MOST_AXIS_ANGLE_DEG))
    rays, times_s = rays[usable_mask], times_s[usable_mask]
    if len(rays) < FEWEST:
        return None

    @lru_cache(maxsize=1)  # of ten steps of a derivative, one changes the lag
    def carrier_poses(lag: float) -> tuple[np.ndarray, np.ndarray]:
        return head_pose_function(times_s + lag)

    def point_path(lag: float, offset: np.ndarray) -> np.ndarray:
        carrier_positions, carrier_rotations = carrier_poses(lag)
        return carrier_positions + carrier_rotations @ (point_m + offset)

    start_poses = []
    for lag in np.zeros(1) if lags_s is None else lags_s:
        pose = _sqpnp(point_path(float(lag), np.zeros(3)), rays)
        if pose is not None:
            start_poses.append(
                (_cost(pose, point_path(float(lag), np.zeros(3)), rays), float(lag), pose)
            )
    if not start_poses:
        return None
    _, least_cost, pose = min(start_poses, key=lambda start_values: start_values[0])
    loss_scale_rad = np.radians(LOSS_SCALE_DEG)
    lag_spread_s = LAG_SD_S if lags_s is not None else lag_sd_s

    def rotation_after(rotation_vector: np.ndarray) -> np.ndarray:
        return Rotation.from_rotvec(rotation_vector).as_matrix() @ pose[:, :3]

    def residuals(x: np.ndarray) -> np.ndarray:
        points = point_path(least_cost + x[6], x[7:10])
        camera_points = points @ rotation_after(x[:3]).T + x[3:6]
        direction_errors = (
            camera_points / np.linalg.norm(camera_points, axis=1, keepdims=True) - rays
        )
        error_sizes = np.linalg.norm(direction_errors, axis=1, keepdims=True) / loss_scale_rad
        robust_weights = np.sqrt(2 * (np.sqrt(1 + error_sizes**2) - 1)) / np.maximum(
            error_sizes, 1e-9
        )
        return np.concatenate(
            [
                (direction_errors / loss_scale_rad * robust_weights).ravel(),
                x[6:7] / lag_spread_s,
                x[7:] / offset_sd_m,
            ]
        )

    start_values = np.concatenate([np.zeros(3), pose[:, 3], np.zeros(4)])
    best_fit = least_squares(residuals, start_values, x_scale="jac", max_nfev=200)
    points = point_path(least_cost + best_fit.x[6], best_fit.x[7:])
    rotation = rotation_after(best_fit.x[:3])
    camera_points = points @ rotation.T + best_fit.x[3:6]
    if np.median(camera_points[:, 2]) <= 0:
        return None
    errors_deg = np.degrees(
        np.arccos(np.clip((normalise_vectors(camera_points) * rays).sum(1), -1, 1))
    )
    return SolvedCamera(
        w2c=np.concatenate([rotation, best_fit.x[3:6, None]], axis=1),
        lag_s=float(least_cost + best_fit.x[6]),
        offset_m=best_fit.x[7:],
        distance_m=float(np.median(np.linalg.norm(camera_points, axis=1))),
        residual_deg=(float(np.median(errors_deg)), float(np.percentile(errors_deg, 90))),
        **_standard_deviations(best_fit.jac, best_fit.fun, len(rays), rotation, best_fit.x[3:6]),
    )


def _standard_deviations(
    jacobian: np.ndarray,
    residuals: np.ndarray,
    point_count: int,
    rotation: np.ndarray,
    shift: np.ndarray,
) -> dict[str, float]:
    """Estimate the standard deviations of a camera's position, rotation and clock lag from
    correlated errors."""
    point_residuals = residuals[: 3 * point_count].reshape(point_count, 3)
    residual_power = max(float((point_residuals * point_residuals).sum()), 1e-12)
    correlated_frames = 1.0
    for step in range(1, max(2, point_count // 3)):
        correlation = (
            float((point_residuals[step:] * point_residuals[:-step]).sum()) / residual_power
        )
        if correlation < 0.05:
            break
        correlated_frames += 2 * correlation
    variance = max(residual_power / (2 * point_count), 0.01) * correlated_frames
    weighted_jacobian = jacobian.copy()
    weighted_jacobian[: 3 * point_count] /= np.sqrt(variance)
    covariance = _inverse(weighted_jacobian.T @ weighted_jacobian)
    if covariance is None:
        return {"sd_m": math.inf, "sd_deg": math.inf, "lag_sd_s": math.inf}
    sd_m, sd_deg = pose_sds(np.concatenate([rotation, shift[:, None]], axis=1), covariance[:6, :6])
    return {"sd_m": sd_m, "sd_deg": sd_deg, "lag_sd_s": float(np.sqrt(covariance[6, 6]))}


def pose_sds(
    w2c: np.ndarray,  # [3, 4]
    covariance: np.ndarray,  # [6, 6] of a small turn about the camera's axes, and of its shift
) -> tuple[float, float]:
    """Compute the standard deviations of a camera's position and, in degrees, of its rotation."""
    rotation, t = w2c[:, :3], w2c[:, 3]
    # centre = -R^T t; to first order in a turn of the camera about its own axes.
    cross_matrix = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    centre_jacobian = np.concatenate([-rotation.T @ cross_matrix, -rotation.T], axis=1)
    position_sd = np.sqrt(np.trace(centre_jacobian @ covariance @ centre_jacobian.T))
    return float(position_sd), float(np.degrees(np.sqrt(np.trace(covariance[:3, :3]))))


def _inverse(normal: np.ndarray) -> np.ndarray | None:
    """Invert the matrix of normal equations, or return None if it is singular."""
    diagonal_scales = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    eigenvalues, eigenvectors = np.linalg.eigh(normal / np.outer(diagonal_scales, diagonal_scales))
    if eigenvalues[0] < LEAST_EIGENVALUE:
        return None
    return (
        (eigenvectors / eigenvalues) @ eigenvectors.T / np.outer(diagonal_scales, diagonal_scales)
    )


def residual_deg(
    w2c: np.ndarray,  # [3, 4]
    camera: CameraModel,
    uv: np.ndarray,  # [N, 2]
    points: np.ndarray,  # [N, 3] metres, world
) -> np.ndarray:  # [N] degrees
    """Measure the angles in degrees between pixels' viewing rays and the known points."""
    point_directions = normalise_vectors(points @ w2c[:, :3].T + w2c[:, 3])
    return np.degrees(np.arccos(np.clip((point_directions * _rays(camera, uv)).sum(1), -1, 1)))


def normalise_vectors(vectors: np.ndarray) -> np.ndarray:  # [..., 3]
    """Normalise vectors to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _rays(camera: CameraModel, uv: np.ndarray) -> np.ndarray:  # [N, 3] unit
    rays, valid_mask = camera.unproject(torch.from_numpy(np.asarray(uv, np.float64)))
    return np.where(valid_mask[:, None], rays, 0.0)


def _sqpnp(points: np.ndarray, rays: np.ndarray) -> np.ndarray | None:  # [3, 4]
    image_plane_points = rays[:, :2] / rays[:, 2:]
    is_solved, rotation_vector, translation = cv2.solvePnP(
        points, image_plane_points, np.eye(3), None, flags=cv2.SOLVEPNP_SQPNP
    )
    if (
        not is_solved
        or not np.isfinite(rotation_vector).all()
        or not np.isfinite(translation).all()
    ):
        return None
    return np.concatenate([cv2.Rodrigues(rotation_vector)[0], translation], axis=1)


def _cost(pose: np.ndarray, points: np.ndarray, rays: np.ndarray) -> float:
    camera_directions = normalise_vectors(points @ pose[:, :3].T + pose[:, 3])
    return float(np.median(np.linalg.norm(camera_directions - rays, axis=1)))
