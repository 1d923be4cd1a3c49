"""Depth of another size: each value at its place, and the camera with it."""

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.depth.resample import DepthWindow, depth_window
from tests.frames_in_use import frames_in_use


def test_depth_of_another_resolution_follows_the_video_crop():
    """A slanted plane at half the video's size lands on the frames as if it had been computed for
    them."""
    source = CameraModel(lens="pinhole", width=240, height=120, fx=150, fy=150, cx=121, cy=58)
    half = source.rescale(120, 60)
    for resize in ("crop", "pad"):
        frames = frames_in_use([0], (160, 96), source_size=(240, 120), resize=resize)
        camera = frames.camera(source)
        window = depth_window((120, 60), frames, "plane")
        followed = window.camera(half)
        assert followed.stored_size == camera.stored_size
        assert (followed.fx, followed.fy, followed.cx, followed.cy) == pytest.approx(
            (camera.fx, camera.fy, camera.cx, camera.cy)
        )
        fitted, expected = window.fit_depth(plane(half)), plane(camera)
        known = np.isfinite(fitted)
        assert known.mean() > (0.99 if resize == "crop" else 0.82)
        assert (~known[:8]).all() == (resize == "pad")
        inner = known.copy()
        # half a sample at the rim is held, not extrapolated
        inner[:, [0, -1]] = inner[[0, -1]] = False
        assert np.abs(fitted / expected - 1)[inner].max() < 2e-3


def plane(camera: CameraModel) -> np.ndarray:  # [H, W]
    """Compute the z depth of the plane z = 2 + 0.3 x + 0.2 y."""
    x, y, z = camera.pixel_rays(torch.float64)[0].unbind(-1)
    return (2 * z / (z - 0.3 * x - 0.2 * y)).float().numpy()


def test_no_surface_appears_between_two():
    step = np.where(np.arange(20) < 10, 1.0, 5.0).astype(np.float32)[None].repeat(8, 0)
    step[4, 4] = np.nan
    window = DepthWindow(left=0.3, top=0.2, width=18.0, height=7.0, size=(50, 30))
    fitted = window.fit_depth(step)
    known_depth = fitted[np.isfinite(fitted)]
    assert (
        np.minimum(np.abs(known_depth - 1), np.abs(known_depth - 5)).max() < 1e-5
    )  # rounding of the interpolation's weights
    assert 0 < np.isnan(fitted).sum() < 40
    mask = window.fit_mask(step > 2)
    assert (mask == (fitted > 2))[np.isfinite(fitted)].all()
