"""The three ray modes: the released oddities are kept, exact rays are the camera's own."""

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


def k_of(k=RELEASED_K) -> torch.Tensor | None:
    return None if k is None else torch.tensor(k, dtype=torch.float64)


def released(size: int, n: int, k=RELEASED_K) -> torch.Tensor:
    return ego_rays("released", preset_camera("aria_released", size), n, n, k_of(k))


def degrees(a, b):
    return torch.rad2deg(torch.arccos((a * b).sum(-1).clamp(-1, 1)))


def test_undistortion_is_opencvs_after_five_rounds():
    k = np.array(RELEASED_K) / 8
    k[2, 2] = 1
    col, row = np.meshgrid(np.arange(56.0), np.arange(56.0))
    points = np.stack((col, row), -1).reshape(-1, 1, 2)
    five_rounds = {"R": None, "P": None, "criteria": (cv2.TERM_CRITERIA_MAX_ITER, 5, 0.0)}
    undistort = getattr(
        cv2, "undistortPointsIter", cv2.undistortPoints
    )  # OpenCV 4 has the criteria in a second name
    theirs = undistort(points, k, np.array(ARIA_DISTORTION), **five_rounds).reshape(56, 56, 2)
    ours = undistort_as_released(torch.from_numpy(points.reshape(56, 56, 2)), torch.from_numpy(k))
    assert np.abs(ours.numpy() - theirs).max() <= 1e-9


def test_released_rays_keep_their_distance_from_the_lens():
    rays, pinhole = (
        ego_rays(mode, preset_camera("aria_meta", 448), 56, 56, k_of())
        for mode in ("released", "pinhole")
    )
    assert torch.allclose(rays.norm(dim=-1), torch.ones((), dtype=torch.float64))
    # quirks 8: the middle of the picture looks well off the optical axis, since 255.5 / 8 is not
    # the middle of 56.
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert 14 < degrees(rays[28, 28], axis) < 22
    assert degrees(rays, pinhole).mean() > 5


def test_exact_rays_are_the_mean_direction_of_their_pixels():
    camera = preset_camera("aria_released", 448)
    rays = ego_rays("exact", camera, 56, 56)
    pixels, valid = camera.pixel_rays(dtype=torch.float64)
    mean = pixels.unflatten(0, (56, 8)).unflatten(2, (56, 8)).mean(dim=(1, 3))
    inside = valid.unflatten(0, (56, 8)).unflatten(2, (56, 8)).all(dim=1).all(dim=2)
    assert (
        degrees(rays, mean / mean.norm(dim=-1, keepdim=True))[inside].max() < 0.2
    )  # curvature of the lens in 8 px


def test_nothing_is_seen_beyond_the_lens():
    rays = ego_rays("exact", preset_camera("aria_meta", 448), 56, 56)
    lengths = rays.norm(dim=-1)
    assert ((lengths - 1).abs() < 1e-9).logical_or(lengths == 0).all() and (lengths == 0).any()


@pytest.mark.parametrize(
    "size, k, px",
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
def test_which_picture_k_belongs_to(size, k, px):
    camera_and_k = preset_camera("aria_released", size), k_of(k)
    assert released_k_picture_px(*camera_and_k) == px
    note = released_k_note(*camera_and_k)
    assert (note == "") == (size == 448 and k == RELEASED_K) and (not note or f"{px} px" in note)


def test_released_rays_scale_with_the_canvas():
    large, small = (released(8 * n, n) for n in (56, 28))
    corner = degrees(
        large[0, 55], small[0, 27]
    )  # the same corner of the picture, up to half a latent
    assert corner < 3


def test_refusals():
    with refuses("square"):
        ego_rays("released", preset_camera("aria_released", 448), 56, 48)


def test_a_path_made_by_hand_has_the_released_takes_k():
    """The pose editor's paths come from no meta.json. They are for the same LoRA, so they get the
    same rays."""
    for size in (448, 256):
        by_hand, of_a_take = (released(size, 8, k) for k in (None, RELEASED_K))
        assert torch.equal(by_hand, of_a_take)
