"""Fisheye exo video to pinhole: straight lines come out straight, no empty corner, defects
named."""

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
    """Draw a pattern that depends on the viewing direction alone, so that its truth is known for
    any lens."""
    rays, _ = camera.pixel_rays(torch.float64)
    x, y = rays[..., 0] / rays[..., 2].clamp_min(0.05), rays[..., 1] / rays[..., 2].clamp_min(0.05)
    return (
        0.5 + 0.5 * torch.stack((torch.sin(4 * x), torch.cos(3 * y), torch.sin(2 * x + 3 * y)), -1)
    ).float()


def test_the_picture_is_what_a_pinhole_sees():
    target = undistorted_camera(FISHEYE, "inside")
    redrawn = Undistortion(FISHEYE, target)
    assert bool(redrawn.seen.all())
    assert (redrawn(smooth_picture(FISHEYE)) - smooth_picture(target)).abs().max() < 0.02


def test_inside_is_the_widest_without_empty_corners_and_all_leaves_nothing_out():
    inside = undistorted_camera(FISHEYE, "inside", (200, 120))
    assert inside.stored_size == (200, 120) and bool(seen_by(FISHEYE, inside).all())
    wider = replace(inside, fx=0.98 * inside.fx, fy=0.98 * inside.fy)
    assert not bool(seen_by(FISHEYE, wider).all())
    narrow = replace(FISHEYE, fx=160.0, fy=160.0)
    everything = undistorted_camera(narrow, "all")
    rays, _ = narrow.pixel_rays(torch.float64)
    uv, valid = everything.project(rays)
    assert bool(valid.all()) and uv[..., 0].min() > -0.6 and uv[..., 0].max() < 239.6
    assert 0.5 < seen_by(narrow, everything).double().mean() < 1
    assert undistorted_camera(FISHEYE, "all").fx < inside.fx


@pytest.mark.parametrize("scale", [255, 1.0])
def test_a_clip_is_redrawn_picture_by_picture(scale):
    """Bars stand beside a picture that is smaller than the whole."""
    video = smooth_picture(FISHEYE) * torch.linspace(0.8, 1, 9)[:, None, None, None]
    video = (video * 255).byte() if scale == 255 else video
    redraw = Undistortion(FISHEYE, undistorted_camera(FISHEYE, "inside", (128, 96)), (160, 96))
    clip = open_clip(video, frame_count=5, step=2, undistortion=redraw)
    assert torch.equal(clip.read(), torch.stack([redraw(frame) for frame in video[::2]]))
    assert clip.selection.camera(redraw.camera) == redraw.camera and redraw.camera.cx == 79.5
    assert redraw.seen[:, 16:-16].all() and not redraw.seen[:, :16].any()
    assert clip.read()[1:, :, 16:-16].any() and not clip.read()[:, :, -16:].any()
    with refuses("240x136"):
        open_clip(video[:, 1:], undistortion=redraw)


def test_fine_sources_are_averaged_down():
    """Stripes of one pixel, far too fine for the target, come out grey, not as moiré."""
    fine = FISHEYE.rescale(960, 544)
    stripes = (torch.arange(960) % 2).float()[None, :, None].expand(544, 960, 3)
    grey = Undistortion(fine, undistorted_camera(fine, "inside", (160, 96)))(stripes)
    assert (grey - 0.5).abs().max() < 0.15


def test_bad_input_is_refused():
    with refuses("inside, all"):
        undistorted_camera(FISHEYE, "some")
    with refuses("240x136"):
        Undistortion(FISHEYE, undistorted_camera(FISHEYE))(torch.zeros(10, 10, 3))
    with refuses("optical axis"):
        undistorted_camera(replace(FISHEYE, cx=400.0))
