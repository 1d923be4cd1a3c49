"""Measure how far the actual cameras of a clip deviate from the stated ones, with the covariance.

The path meter gives a turn and a shift for each frame. Wrong depth pulls at them, too, and it is
wrong alike in every frame. It shows in what is left: patches of the picture that no single turn and
shift brings together. So the covariance is that of a fit to the patches' own displacements."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from egox_core.cameras import sensor_from_upright
from egox_core.frozen import frozen
from egox_core.metrics import PathError, PathViews, PictureMatch
from egox_core.types import CameraTrajectory

PATCH_PX, SEARCH_PX = 16, 6
"""Side of a patch, and how far it is searched, px of the compared pictures (about a degree
each)."""
LEAST_FILLED_SHARE, LEAST_CONTRAST, LEAST_CORRELATION = 0.6, 0.3, 0.6
"""Of a patch: share that both pictures show, its contrast, its correlation where it is found."""
FEWEST = 8
CORRELATED_PATCHES = 8.0
"""Patches that are off together: each overlaps its neighbours by half, and depth is off slowly."""
SHIFT_PRIOR_M = 0.3
"""A shift that is larger is no small one; it keeps the fit from running off."""
CERTAIN_SIGMAS = 3.5
"""Standard deviations from which on a camera or a clock is called wrong."""
LEAST_ROTATION_DEG, LEAST_SHIFT_M = 1.0, 0.02
"""A fault that is smaller doesn't matter."""
METER_ERROR_RAD, METER_ERROR_M = math.radians(0.1), 0.003
"""What the meter itself is off with exact depth."""


@frozen
class Deviation:
    """Rotation and shift from the stated camera to the actual one, in the axes of the upright
    picture."""

    # [6]: rotation vector, radians; from the video's camera to the stated one, metres
    rotation_and_shift: np.ndarray
    covariance: np.ndarray  # [6, 6]

    @property
    def error_sigmas(self) -> float:
        """Size of the deviation in standard deviations, with rotation and shift combined."""
        chi_square = float(
            self.rotation_and_shift @ np.linalg.solve(self.covariance, self.rotation_and_shift)
        )
        return math.sqrt(chi_square / 6)

    @property
    def turn_deg(self) -> float:
        """Angle of the rotation in degrees."""
        return math.degrees(float(np.linalg.norm(self.rotation_and_shift[:3])))

    @property
    def turn_sd_deg(self) -> float:
        """Standard deviation of the rotation angle in degrees."""
        return math.degrees(math.sqrt(float(np.trace(self.covariance[:3, :3]))))

    @property
    def shift_m(self) -> float:
        """Length of the shift in metres."""
        return float(np.linalg.norm(self.rotation_and_shift[3:]))

    @property
    def shift_sd_m(self) -> float:
        """Standard deviation of the shift in metres."""
        return math.sqrt(float(np.trace(self.covariance[3:, 3:])))


@torch.inference_mode()
def path_deviation(
    views: PathViews,
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    # Of the same views and video.
    path_error: PathError,
    # The path that the views are of, with the exo camera.
    trajectory: CameraTrajectory,
) -> Deviation | None:
    """Combine the pose errors of a clip's frames into one deviation, or return None for too few
    frames."""
    picture_match = PictureMatch.of(video, views)
    exo_positions = trajectory.ego.seen_from(trajectory.required_exo)[:: views.step, :, 3].numpy()
    sensor_from_upright_matrix = sensor_from_upright(views.camera.quarter_turns).numpy()
    rotation_6x6 = np.kron(np.eye(2), sensor_from_upright_matrix)
    deviation_values, covariances = [], []
    for t in torch.nonzero(path_error.judged)[:, 0].tolist():
        rotation_vector = np.radians(path_error.turn_deg[t].numpy()) @ sensor_from_upright_matrix.T
        sensor_shift = path_error.shift_m[t].numpy() @ sensor_from_upright_matrix.T
        patches = _patches(
            picture_match,
            t,
            Rotation.from_rotvec(rotation_vector).as_matrix(),
            sensor_shift,
            exo_positions[t],
        )
        if len(patches[0]) < FEWEST:
            continue
        deviation_values.append(
            np.concatenate([np.radians(path_error.turn_deg[t].numpy()), path_error.shift_m[t]])
        )
        covariances.append(rotation_6x6.T @ _covariance(*patches) @ rotation_6x6)
    if not deviation_values:
        return None
    frame_deviations = np.stack(deviation_values)
    # What all frames share doesn't shrink with their number, what differs from frame to frame does.
    scatter_covariance = np.cov(frame_deviations.T, ddof=0) * 4 / len(frame_deviations)
    floor_covariance = np.diag([METER_ERROR_RAD**2] * 3 + [METER_ERROR_M**2] * 3)
    return Deviation(
        rotation_and_shift=np.median(frame_deviations, axis=0),
        covariance=np.mean(covariances, axis=0) + scatter_covariance + floor_covariance,
    )


def _patches(
    picture_match: PictureMatch,
    t: int,
    rotation: np.ndarray,
    shift: np.ndarray,
    exo_position: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match patches of the rendered scene to the video picture, and measure their displacements.

    How far off [N, 2] px, px per radian and metre [N, 2, 6], px that all of exo's depth makes [N,
    2].
    """
    path_views = picture_match.views
    video_picture, scene_picture, filled_mask = picture_match.drawn_over(t, rotation, shift)
    picture_side, half_patch = filled_mask.shape[0], PATCH_PX // 2
    displacements, gradients, depth_gradients = [], [], []
    for y in range(SEARCH_PX, picture_side - PATCH_PX - SEARCH_PX + 1, half_patch):
        for x in range(SEARCH_PX, picture_side - PATCH_PX - SEARCH_PX + 1, half_patch):
            patch_slices = slice(y, y + PATCH_PX), slice(x, x + PATCH_PX)
            search_slices = (
                slice(y - SEARCH_PX, y + PATCH_PX + SEARCH_PX),
                slice(x - SEARCH_PX, x + PATCH_PX + SEARCH_PX),
            )
            scene_patch = scene_picture[patch_slices]
            if (
                filled_mask[patch_slices].mean() < LEAST_FILLED_SHARE
                or np.square(scene_patch).mean() < LEAST_CONTRAST**2
            ):
                continue
            correlation = cv2.matchTemplate(
                video_picture[search_slices], scene_patch, cv2.TM_CCORR_NORMED
            )
            peak_position = _subpixel_peak(np.where(np.isfinite(correlation), correlation, -1.0))
            if peak_position is None:
                continue
            patch_depth_m = float(
                np.median(path_views.metres[t][patch_slices][filled_mask[patch_slices] > 0])
            )
            patch_centre = y + half_patch, x + half_patch
            gradient_by_point = path_views.by_point[patch_centre] / patch_depth_m
            displacements.append(peak_position - SEARCH_PX)
            gradients.append(
                np.concatenate([path_views.by_turn[patch_centre], gradient_by_point], -1)
            )
            depth_gradients.append(
                gradient_by_point @ (patch_depth_m * path_views.rays[patch_centre] - exo_position)
            )
    count = len(displacements)
    return (
        np.array(displacements).reshape(count, 2),
        np.array(gradients).reshape(count, 2, 6),
        np.array(depth_gradients).reshape(count, 2),
    )


def _subpixel_peak(correlation: np.ndarray) -> np.ndarray | None:  # [2], across and down
    """Find the position of the highest correlation with subpixel precision, None if it is too low
    or at the border."""
    row, column = np.unravel_index(correlation.argmax(), correlation.shape)
    height, width = correlation.shape
    is_inside = 0 < row < height - 1 and 0 < column < width - 1
    if not is_inside or correlation[row, column] < LEAST_CORRELATION:
        return None
    column_offset = _vertex_offset(*correlation[row, column - 1 : column + 2])
    row_offset = _vertex_offset(*correlation[row - 1 : row + 2, column])
    return np.array([column + column_offset, row + row_offset])


def _vertex_offset(left_value: float, middle_value: float, right_value: float) -> float:
    """Compute the position of a parabola's vertex, given three neighbouring values."""
    curvature = left_value - 2 * middle_value + right_value
    return 0.0 if curvature >= 0 else float(0.5 * (left_value - right_value) / curvature)


def _covariance(
    displacements: np.ndarray,  # [N, 2]
    gradients: np.ndarray,  # [N, 2, 6]
    depth_gradients: np.ndarray,  # [N, 2]
) -> np.ndarray:  # [6, 6]
    """Fit a rotation and a shift to displaced image patches robustly, and compute their
    covariance."""
    prior_information = np.diag([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) / SHIFT_PRIOR_M**2
    patch_weights = np.ones(len(displacements))
    for _ in range(8):
        weighted_gradients = gradients * patch_weights[:, None, None]
        normal_matrix = np.einsum("nij,nik->jk", weighted_gradients, gradients) + prior_information
        fitted_deviation = np.linalg.solve(
            normal_matrix, np.einsum("nij,ni->j", weighted_gradients, displacements)
        )
        residuals = displacements - gradients @ fitted_deviation
        squared_residuals = np.square(residuals).sum(1)
        cauchy_width = 1.26 * math.sqrt(float(np.median(squared_residuals))) + 0.05
        patch_weights = 1 / (1 + squared_residuals / (3 * cauchy_width) ** 2)
    inverse_normal = np.linalg.inv(normal_matrix)
    variance = float((patch_weights * squared_residuals).sum() / (2 * patch_weights.sum()))
    # A fit takes up most of what depth is off by as a whole: as much of it as differs may be
    # common.
    depth_gradient_squares = np.square(depth_gradients).sum(1)
    depth_errors = (residuals * depth_gradients).sum(1) / np.maximum(depth_gradient_squares, 1e-9)
    common_variance = float(
        (patch_weights * depth_gradient_squares * depth_errors**2).sum()
        / (patch_weights * depth_gradient_squares).sum()
    )
    common_effect = inverse_normal @ np.einsum("nij,ni->j", weighted_gradients, depth_gradients)
    return inverse_normal * variance * CORRELATED_PATCHES + common_variance * np.outer(
        common_effect, common_effect
    )


def _transform_matrix(value: np.ndarray) -> np.ndarray:  # [6] -> [4, 4]
    """Convert a deviation's rotation and shift to a 4 x 4 matrix."""
    rotation = Rotation.from_rotvec(value[:3]).as_matrix()
    return np.block(
        [[rotation, (rotation @ value[3:])[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]
    )


def apply_deviation(w2c: np.ndarray, value: np.ndarray) -> np.ndarray:  # [T, 3, 4]
    """Apply a deviation to the poses of a camera."""
    transform_matrix = _transform_matrix(value)
    moved_poses = transform_matrix[:3, :3] @ w2c
    moved_poses[:, :, 3] += transform_matrix[:3, 3]
    return moved_poses


def compose_deviations(first_value: np.ndarray, second_value: np.ndarray) -> np.ndarray:  # [6]
    """Compute the deviation that results from applying one deviation after another."""
    transform_matrix = _transform_matrix(second_value) @ _transform_matrix(first_value)
    rotation = transform_matrix[:3, :3]
    return np.concatenate(
        [Rotation.from_matrix(rotation).as_rotvec(), rotation.T @ transform_matrix[:3, 3]]
    )


def inverse_deviation(value: np.ndarray) -> np.ndarray:  # [6]
    """Compute the inverse of a deviation."""
    transform_matrix = np.linalg.inv(_transform_matrix(value))
    rotation = transform_matrix[:3, :3]
    return np.concatenate(
        [Rotation.from_matrix(rotation).as_rotvec(), rotation.T @ transform_matrix[:3, 3]]
    )


def relative_size(deviation: Deviation) -> float:
    """Compute the size of a deviation relative to the smallest one that is worth correcting."""
    return math.hypot(deviation.turn_deg / LEAST_ROTATION_DEG, deviation.shift_m / LEAST_SHIFT_M)


def to_exo_deviation(deviation: Deviation, path: CameraTrajectory) -> Deviation:
    """Convert a pose deviation of the head camera to the equivalent deviation of the exo camera."""
    ego_from_exo = path.ego.upright.seen_from(path.required_exo.upright).mean(0).numpy()
    left_vectors, _, right_vectors = np.linalg.svd(ego_from_exo[:, :3])
    exo_from_ego_rotation = (left_vectors @ right_vectors).T
    x, y, z = ego_from_exo[:, 3]
    cross_matrix = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    adjoint_matrix = np.block(
        [
            [exo_from_ego_rotation, np.zeros((3, 3))],
            [-exo_from_ego_rotation @ cross_matrix, exo_from_ego_rotation],
        ]
    )
    return Deviation(
        rotation_and_shift=adjoint_matrix @ deviation.rotation_and_shift,
        covariance=adjoint_matrix @ deviation.covariance @ adjoint_matrix.T,
    )


def matters(deviation: Deviation) -> bool:
    """Check whether a deviation is large enough to be worth correcting."""
    return deviation.turn_deg >= LEAST_ROTATION_DEG or deviation.shift_m >= LEAST_SHIFT_M
