"""Estimate the uncertainty of a fixed camera's pose in a reconstruction from pictures."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras import CameraModel

from .lenses import FreeParameters
from .moving_point import pose_sds
from .structure import Structure

CORRELATION_FACTOR = 2.0
"""Errors of neighbouring points go together; so much larger is their effect than that of chance."""
LEAST_SD_DEG = 0.2


def picture_sds(
    structure: Structure,
    name: str,
    # Beginning of the names of the head camera's pictures.
    moving_prefix: str,
    lens: CameraModel,
    free_parameters: FreeParameters,
) -> tuple[float, float]:
    """Estimate the standard deviations of a fixed camera's position and rotation.

    The position is in units of the reconstruction, the rotation in degrees.

    By the points' own errors, where the lens is unknown, too, and by what parts of the head
    camera's pictures tell apart.
    """
    covariance = _lens_covariance(structure, name, lens, free_parameters)
    position_sd, rotation_sd_deg = pose_sds(structure.w2c[name], covariance)
    jackknife_sd, jackknife_sd_deg = jackknife(structure, name, moving_prefix)
    picture_sd_deg = math.hypot(CORRELATION_FACTOR * rotation_sd_deg, LEAST_SD_DEG)
    return math.hypot(CORRELATION_FACTOR * position_sd, jackknife_sd), math.hypot(
        picture_sd_deg, jackknife_sd_deg
    )


def _lens_covariance(
    structure: Structure, name: str, lens: CameraModel, free_parameters: FreeParameters
) -> np.ndarray:  # [6, 6] of a small turn about the camera's axes, and of its shift
    """Fit a camera's pose and lens to the pixels of known points, and return the pose's
    covariance."""
    pose = structure.w2c[name]
    structure_points = structure.points[structure.point_indices[name]]
    measured_pixels = structure.pixels[name] - 0.5
    distortion_count = len(lens.distortion) if free_parameters == "lens" else 0
    if lens.lens == "opencv":
        distortion_count = min(distortion_count, 1)  # as SIMPLE_RADIAL has it
    lens_parameter_count = 0 if free_parameters == "nothing" else 1 + distortion_count

    def pixels(x: np.ndarray) -> np.ndarray:  # [N, 2]
        rotation = Rotation.from_rotvec(x[:3]).as_matrix() @ pose[:, :3]
        shifted_translation = Rotation.from_rotvec(x[:3]).apply(pose[:, 3]) + x[3:6]
        distortion = np.array(lens.distortion)
        distortion[:distortion_count] += x[7:]
        focal_factor = 1 + x[6] if lens_parameter_count else 1.0
        camera = replace(
            lens,
            fx=lens.fx * focal_factor,
            fy=lens.fy * focal_factor,
            distortion=tuple(map(float, distortion)),
        )
        return camera.project(
            torch.from_numpy(structure_points @ rotation.T + shifted_translation)
        )[0].numpy()

    point_distance = float(
        np.median(np.linalg.norm(structure_points @ pose[:, :3].T + pose[:, 3], axis=1))
    )
    difference_steps = np.array(
        [1e-5] * 3 + [1e-5 * point_distance] * 3 + [1e-5] * lens_parameter_count
    )
    pixel_errors = np.linalg.norm(pixels(np.zeros(len(difference_steps))) - measured_pixels, axis=1)
    error_scale_px = max(1.48 * float(np.median(pixel_errors)), 0.5)
    point_weights = 1 / (1 + (pixel_errors / (3 * error_scale_px)) ** 2)
    jacobian = np.stack(
        [(pixels(step) - pixels(-step)) / (2 * step.sum()) for step in np.diag(difference_steps)],
        axis=2,
    )
    usable_mask = np.isfinite(jacobian).all(axis=(1, 2))
    jacobian, point_weights = jacobian[usable_mask], point_weights[usable_mask]
    normal_matrix = np.einsum("n,nij,nik->jk", point_weights, jacobian, jacobian)
    # As many numbers as were fitted are missing from the pixels' errors.
    equation_count = 2 * len(jacobian)
    variance = (
        error_scale_px**2 / 2 * equation_count / max(equation_count - len(difference_steps), 1)
    )
    return (np.linalg.pinv(normal_matrix, rcond=1e-12) * variance)[:6, :6]


def jackknife(structure: Structure, name: str, moving_prefix: str) -> tuple[float, float]:
    """Estimate the standard deviations of a fixed camera's position and rotation from
    reconstructions that each lack some pictures.

    The position is in units of the reconstruction, the rotation in degrees, and infinite if any of
    them has no solution."""
    full_pose = structure.w2c[name]
    centres, rotation_vectors = [], []
    head_picture_names = [
        head_name for head_name in structure.w2c if head_name.startswith(moving_prefix)
    ]
    for part_index, pose in enumerate(structure.partial_poses[name]):
        pose_pairs = [
            (structure.w2c[head_name], structure.partial_poses[head_name][part_index])
            for head_name in head_picture_names
        ]
        pose_pairs = [pose_pair for pose_pair in pose_pairs if np.isfinite(pose_pair[1]).all()]
        if not np.isfinite(pose).all() or not pose_pairs:
            return math.inf, math.inf
        # From the part's world to the whole's, by the head camera.
        relative_poses = [
            (w[:, :3].T @ p[:, :3], w[:, :3].T @ (p[:, 3] - w[:, 3])) for w, p in pose_pairs
        ]
        mean_rotation = (
            Rotation.from_matrix([rotation for rotation, _ in relative_poses]).mean().as_matrix()
        )
        mean_centre = np.mean([position for _, position in relative_poses], axis=0)
        centres.append(mean_rotation @ (-pose[:, :3].T @ pose[:, 3]) + mean_centre)
        rotation_vectors.append(
            Rotation.from_matrix(full_pose[:, :3] @ mean_rotation @ pose[:, :3].T).as_rotvec()
        )
    return jackknife_sds(centres, rotation_vectors)


def jackknife_sds(
    centres: Sequence[np.ndarray],  # [3] each, of the solution without one part
    rotation_vectors: Sequence[np.ndarray],  # [3] each, radians, against the whole's
) -> tuple[float, float]:
    """Compute the standard deviations of a position and, in degrees, of a rotation from solutions
    that each lack one part."""
    part_count = len(centres)
    if part_count < 2:
        return math.inf, math.inf
    variances = [
        (part_count - 1) * np.var(values, axis=0).sum() for values in (centres, rotation_vectors)
    ]
    return math.sqrt(variances[0]), math.degrees(math.sqrt(variances[1]))
