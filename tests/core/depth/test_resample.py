"""Test the resampling of depth to another size, with its camera."""

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.depth.resample import DepthWindow, depth_window
from tests.frames_in_use import frames_in_use


def test_half_size_depth_is_resampled_to_the_video_crop():
    """Check that half-size depth of a slanted plane, resampled, equals depth computed at the
    video's size."""
    source_camera = CameraModel(
        lens="pinhole", width=240, height=120, fx=150, fy=150, cx=121, cy=58
    )
    half_camera = source_camera.rescale(120, 60)
    for resize in ("crop", "pad"):
        frames = frames_in_use([0], (160, 96), source_size=(240, 120), resize=resize)
        camera = frames.camera(source_camera)
        resample_window = depth_window((120, 60), frames, "plane")
        window_camera = resample_window.camera(half_camera)
        assert window_camera.stored_size == camera.stored_size
        assert (
            window_camera.fx,
            window_camera.fy,
            window_camera.cx,
            window_camera.cy,
        ) == pytest.approx((camera.fx, camera.fy, camera.cx, camera.cy))
        fitted_depth = resample_window.fit_depth(plane_depth(half_camera))
        expected_depth = plane_depth(camera)
        known_mask = np.isfinite(fitted_depth)
        assert known_mask.mean() > (0.99 if resize == "crop" else 0.82)
        assert (~known_mask[:8]).all() == (resize == "pad")
        inner_mask = known_mask.copy()
        # half a sample at the rim is held, not extrapolated
        inner_mask[:, [0, -1]] = inner_mask[[0, -1]] = False
        assert np.abs(fitted_depth / expected_depth - 1)[inner_mask].max() < 2e-3


def plane_depth(camera: CameraModel) -> np.ndarray:  # [H, W]
    """Compute the depth map of the plane z = 2 + 0.3 x + 0.2 y."""
    x, y, z = camera.pixel_rays(torch.float64)[0].unbind(-1)
    return (2 * z / (z - 0.3 * x - 0.2 * y)).float().numpy()


def test_no_depth_appears_between_two_surfaces():
    step_depth = np.where(np.arange(20) < 10, 1.0, 5.0).astype(np.float32)[None].repeat(8, 0)
    step_depth[4, 4] = np.nan
    resample_window = DepthWindow(left=0.3, top=0.2, width=18.0, height=7.0, size=(50, 30))
    fitted_depth = resample_window.fit_depth(step_depth)
    known_depth = fitted_depth[np.isfinite(fitted_depth)]
    assert (
        np.minimum(np.abs(known_depth - 1), np.abs(known_depth - 5)).max() < 1e-5
    )  # rounding of the interpolation's weights
    assert 0 < np.isnan(fitted_depth).sum() < 40
    far_mask = resample_window.fit_mask(step_depth > 2)
    assert (far_mask == (fitted_depth > 2))[np.isfinite(fitted_depth)].all()
