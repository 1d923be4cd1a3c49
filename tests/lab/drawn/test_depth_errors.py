"""Test simulated depth errors: their size, smoothness, outlines and seeds."""

from dataclasses import replace

import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.frames import Frames
from egox_core.types import DepthVideo
from lab.drawn import DepthErrors, add_depth_errors
from tests.refusals import refuses

HEIGHT, WIDTH, FRAMES = 64, 112, 33
CAMERA = CameraModel.pinhole(WIDTH, HEIGHT, 80.0)
NO_ERRORS = DepthErrors(low_frequency=0.0, bleed_px=0.0, flicker=0.0)


def wall_depth() -> DepthVideo:
    """Draw the depth map of a slanted wall, 2 to 5 m away."""
    inverse_depth = torch.linspace(0.2, 0.5, WIDTH).expand(FRAMES, HEIGHT, WIDTH)
    return DepthVideo(
        depth_m=1 / inverse_depth,
        exo=CameraPath.of_exo(CAMERA, frames=Frames.timed(torch.arange(FRAMES).double() / 30)),
    )


def test_flicker_is_one_factor_a_frame():
    depth_ratio = (
        add_depth_errors(wall_depth(), replace(NO_ERRORS, flicker=0.02), 3).depth_m
        / wall_depth().depth_m
    )
    assert float(depth_ratio.flatten(1).std(1).max()) < 1e-6
    scales = depth_ratio[:, 0, 0].log()
    assert 0.01 < float(scales.std()) < 0.03 and float((scales[1:] - scales[:-1]).abs().min()) > 0


def test_no_errors_are_none_and_bad_ones_are_refused():
    assert torch.equal(add_depth_errors(wall_depth(), NO_ERRORS, 1).depth_m, wall_depth().depth_m)
    for bad_sizes in (
        {"flicker": -0.1},
        {"bleed_px": float("nan")},
        {"low_frequency": float("inf")},
    ):
        with refuses("depth errors"):
            DepthErrors(**bad_sizes)
