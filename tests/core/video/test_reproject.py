"""Test redrawing the ego fisheye picture as an upright pinhole view."""

import torch

from egox_core.cameras.presets import preset_camera
from egox_core.video.reprojection import reproject
from tests.refusals import refuses


def test_reprojected_directions_are_those_of_the_pinhole():
    """Check that each pixel of the reprojected picture shows the pinhole camera's viewing
    direction."""
    fisheye_camera = preset_camera("aria_released", 128)
    pinhole_camera = fisheye_camera.as_pinhole(80.0)
    directions, _ = fisheye_camera.pixel_rays(torch.float64)
    redrawn_directions = reproject(directions[None].float(), fisheye_camera, pinhole_camera)[
        0
    ].double()
    expected_directions, _ = pinhole_camera.pixel_rays(torch.float64)
    # Bilinear sampling of a smooth field: the error is its curvature over a pixel of 1/60 rad,
    # about 1e-4.
    assert (redrawn_directions - expected_directions).abs().max() < 5e-4


def test_optical_axis_is_in_the_middle_of_the_pinhole():
    fisheye_camera = preset_camera("aria_released", 64)
    pinhole_camera = fisheye_camera.as_pinhole(90.0)
    uv, valid = pinhole_camera.project(torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]))
    assert valid.all()
    width, height = pinhole_camera.stored_size
    assert torch.allclose(uv[0], torch.tensor([(width - 1) / 2, (height - 1) / 2]))
    # 45 degrees to the sensor's right lies half a picture away: downwards, as the stored picture is
    # turned clockwise.
    assert torch.allclose(uv[1] - uv[0], torch.tensor([0.0, height / 2]), atol=1e-4)


def test_pixels_outside_the_fisheye_are_black():
    fisheye_camera = preset_camera("aria_released", 32)
    redrawn_picture = reproject(
        torch.ones(1, 32, 32, 3), fisheye_camera, fisheye_camera.as_pinhole(150.0)
    )
    # 75 degrees off the axis lies 20 px from it, outside a picture of 32 px.
    assert redrawn_picture[0, 0, 16].sum() == 0
    assert redrawn_picture[0, 16, 16].min() > 0.99


def test_wrong_picture_size_is_refused():
    camera = preset_camera("aria_released", 64)
    with refuses("32x32"):
        reproject(torch.zeros(1, 32, 32, 3), camera, camera.as_pinhole(90.0))
