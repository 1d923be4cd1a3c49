"""Test redrawing a fisheye exo video as a pinhole video."""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.video.clip import open_clip
from egox_core.video.reprojection import Undistortion, seen_by, undistorted_camera
from tests.refusals import refuses

FISHEYE = CameraModel(
    lens="opencv_fisheye",
    width=240,
    height=136,
    fx=80.0,
    fy=81.0,
    cx=121.0,
    cy=66.0,
    distortion=(0.02, 0.03, -0.02, 0.004),
    max_angle_deg=89,
)


def smooth_picture(camera: CameraModel) -> torch.Tensor:  # [H, W, 3] float32
    """Draw a pattern that depends on viewing directions, so that its true picture is known for any
    lens."""
    rays, _ = camera.pixel_rays(torch.float64)
    x, y = rays[..., 0] / rays[..., 2].clamp_min(0.05), rays[..., 1] / rays[..., 2].clamp_min(0.05)
    return (
        0.5 + 0.5 * torch.stack((torch.sin(4 * x), torch.cos(3 * y), torch.sin(2 * x + 3 * y)), -1)
    ).float()


def test_undistorted_picture_is_that_of_a_pinhole():
    target_camera = undistorted_camera(FISHEYE, "inside")
    undistortion = Undistortion(FISHEYE, target_camera)
    assert bool(undistortion.seen.all())
    assert (
        undistortion(smooth_picture(FISHEYE)) - smooth_picture(target_camera)
    ).abs().max() < 0.02


def test_inside_has_no_empty_corners_and_all_shows_every_pixel():
    inside_camera = undistorted_camera(FISHEYE, "inside", (200, 120))
    assert inside_camera.stored_size == (200, 120)
    assert bool(seen_by(FISHEYE, inside_camera).all())
    wider_camera = replace(inside_camera, fx=0.98 * inside_camera.fx, fy=0.98 * inside_camera.fy)
    assert not bool(seen_by(FISHEYE, wider_camera).all())
    narrow_fisheye = replace(FISHEYE, fx=160.0, fy=160.0)
    full_camera = undistorted_camera(narrow_fisheye, "all")
    rays, _ = narrow_fisheye.pixel_rays(torch.float64)
    uv, valid_mask = full_camera.project(rays)
    assert bool(valid_mask.all())
    assert uv[..., 0].min() > -0.6
    assert uv[..., 0].max() < 239.6
    assert 0.5 < seen_by(narrow_fisheye, full_camera).double().mean() < 1
    assert undistorted_camera(FISHEYE, "all").fx < inside_camera.fx


@pytest.mark.parametrize("scale", [255, 1.0])
def test_clip_is_undistorted_frame_by_frame(scale):
    """Check that each frame of a clip is undistorted alike, with black bars at the picture's
    sides."""
    video = smooth_picture(FISHEYE) * torch.linspace(0.8, 1, 9)[:, None, None, None]
    video = (video * 255).byte() if scale == 255 else video
    undistortion = Undistortion(
        FISHEYE, undistorted_camera(FISHEYE, "inside", (128, 96)), (160, 96)
    )
    clip = open_clip(video, frame_count=5, step=2, undistortion=undistortion)
    assert torch.equal(clip.read(), torch.stack([undistortion(frame) for frame in video[::2]]))
    assert (
        clip.selection.camera(undistortion.camera) == undistortion.camera
        and undistortion.camera.cx == 79.5
    )
    assert undistortion.seen[:, 16:-16].all()
    assert not undistortion.seen[:, :16].any()
    assert clip.read()[1:, :, 16:-16].any()
    assert not clip.read()[:, :, -16:].any()
    with refuses("240x136"):
        open_clip(video[:, 1:], undistortion=undistortion)


def test_bad_input_is_refused():
    with refuses("inside, all"):
        undistorted_camera(FISHEYE, "some")
    with refuses("240x136"):
        Undistortion(FISHEYE, undistorted_camera(FISHEYE))(torch.zeros(10, 10, 3))
    with refuses("optical axis"):
        undistorted_camera(replace(FISHEYE, cx=400.0))
