"""Test the three modes of ego camera rays."""

import cv2
import numpy as np
import pytest
import torch

from egox_core.cameras.presets import ARIA_DISTORTION, preset_camera
from egox_core.gga.rays import (
    ego_rays,
    released_k_note,
    released_k_picture_px,
    undistort_as_released,
)
from tests.refusals import refuses

RELEASED_K = [[150.0, 0, 255.5], [0, 150.0, 255.5], [0, 0, 1]]


def intrinsics_matrix(rows=RELEASED_K) -> torch.Tensor | None:
    return None if rows is None else torch.tensor(rows, dtype=torch.float64)


def angle_deg(a, b):
    return torch.rad2deg(torch.arccos((a * b).sum(-1).clamp(-1, 1)))


def test_released_undistortion_equals_five_rounds_of_opencv():
    intrinsics = np.array(RELEASED_K) / 8
    intrinsics[2, 2] = 1
    col, row = np.meshgrid(np.arange(56.0), np.arange(56.0))
    points = np.stack((col, row), -1).reshape(-1, 1, 2)
    five_rounds = {"R": None, "P": None, "criteria": (cv2.TERM_CRITERIA_MAX_ITER, 5, 0.0)}
    undistort = getattr(
        cv2, "undistortPointsIter", cv2.undistortPoints
    )  # OpenCV 4 has the criteria in a second name
    opencv_points = undistort(points, intrinsics, np.array(ARIA_DISTORTION), **five_rounds).reshape(
        56, 56, 2
    )
    egox_points = undistort_as_released(
        torch.from_numpy(points.reshape(56, 56, 2)), torch.from_numpy(intrinsics)
    )
    assert np.abs(egox_points.numpy() - opencv_points).max() <= 1e-9


def test_exact_rays_are_the_mean_direction_of_their_pixels():
    camera = preset_camera("aria_released", 448)
    rays = ego_rays("exact", camera, 56, 56)
    pixel_rays, valid_mask = camera.pixel_rays(dtype=torch.float64)
    mean_rays = pixel_rays.unflatten(0, (56, 8)).unflatten(2, (56, 8)).mean(dim=(1, 3))
    inside_mask = valid_mask.unflatten(0, (56, 8)).unflatten(2, (56, 8)).all(dim=1).all(dim=2)
    assert (
        angle_deg(rays, mean_rays / mean_rays.norm(dim=-1, keepdim=True))[inside_mask].max() < 0.2
    )  # curvature of the lens in 8 px


@pytest.mark.parametrize(
    "size, intrinsics, expected_px",
    [
        (448, RELEASED_K, 448),
        (256, RELEASED_K, 448),
        (496, RELEASED_K, 448),
        (512, RELEASED_K, 448),
        (544, RELEASED_K, 448),
        (512, [[240.0, 0, 255.5], [0, 240.0, 255.5], [0, 0, 1]], 512),
        (256, [[240.0, 0, 255.5], [0, 240.0, 255.5], [0, 0, 1]], 448),
        (128, [[60.0, 0, 64], [0, 60.0, 64], [0, 0, 1]], 128),
    ],
)
def test_picture_size_of_released_intrinsics_is_recognised(size, intrinsics, expected_px):
    camera_and_intrinsics = preset_camera("aria_released", size), intrinsics_matrix(intrinsics)
    assert released_k_picture_px(*camera_and_intrinsics) == expected_px
    intrinsics_note = released_k_note(*camera_and_intrinsics)
    assert (intrinsics_note == "") == (size == 448 and intrinsics == RELEASED_K) and (
        not intrinsics_note or f"{expected_px} px" in intrinsics_note
    )


def test_rays_of_a_picture_that_is_not_square_are_refused():
    with refuses("square"):
        ego_rays("released", preset_camera("aria_released", 448), 56, 48)
