"""Test the trust of depth pixels at planes, edges, holes and flicker."""

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.depth.trust import (
    FLICKER_TOLERANCE,
    FLOOR,
    depth_trust,
    with_trust,
)
from egox_core.depth.valid import median_over_frames
from egox_core.types import DepthVideo

FRAME_COUNT, HEIGHT, WIDTH = 5, 40, 60


def draw_planes() -> torch.Tensor:
    """Draw depth maps of a slanted wall with a box in front, equal in all frames."""
    columns = torch.arange(WIDTH).float()
    wall_depth = 1 / (0.1 + 0.004 * columns)
    depth = wall_depth.expand(FRAME_COUNT, HEIGHT, WIDTH).clone()
    depth[:, 10:30, 20:40] = 1.2
    return depth


def test_trust_is_high_on_planes_and_low_at_edges():
    trust = depth_trust(draw_planes())
    assert float(trust[:, 2:6, 3:-3].min()) > 0.99, "a plane has no bend, however steep"
    assert float(trust[:, 15:25, 25:35].min()) > 0.99
    assert float(trust[:, 9:11, 22:38].max()) < 0.05
    assert float(trust[:, 8, 22:38].max()) < 0.05
    assert bool((trust >= FLOOR).all())


def test_trust_is_zero_in_holes_and_low_around_them():
    depth = draw_planes()
    depth[:, 35, 50] = float("nan")
    trust = depth_trust(depth)
    assert float(trust[0, 35, 50]) == 0
    assert float(trust[0, 35, 48]) == pytest.approx(FLOOR)
    assert float(trust[0, 35, 45]) > 0.99


def test_flicker_lowers_trust_of_static_pixels_only():
    depth = draw_planes()
    depth[2, 12:38, 2:18] *= 1.3
    dynamic_mask = torch.zeros(FRAME_COUNT, HEIGHT, WIDTH, dtype=torch.bool)
    dynamic_mask[:, 12:38, 10:18] = True
    trust = depth_trust(depth, dynamic_mask)
    depth_change = 1 - 1 / 1.3
    assert float(trust[2, 25, 7]) == pytest.approx(
        1 / (1 + (depth_change / FLICKER_TOLERANCE) ** 2)
    )
    assert float(trust[2, 25, 13]) > 0.99
    assert float(trust[1, 25, 7]) > 0.99
    assert float(depth_trust(depth, fixed_camera=False)[2, 25, 7]) > 0.99


def test_lower_confidence_of_a_model_limits_the_trust():
    camera = CameraModel.pinhole(WIDTH, HEIGHT, 50)
    confidence = torch.ones(FRAME_COUNT, HEIGHT, WIDTH)
    confidence[:, :, :10], confidence[:, 0] = 0.3, 0.0
    depth = draw_planes()
    depth[:, 0, 0] = float("nan")
    trust = with_trust(
        DepthVideo(depth_m=depth, trust=confidence, exo=CameraPath.of_exo(camera))
    ).trust
    assert float(trust[0, 4, 4]) == pytest.approx(0.3) and float(trust[0, 0, 30]) == pytest.approx(
        FLOOR
    )
    assert float(trust[0, 0, 0]) == 0


def test_median_over_frames_ignores_missing_pixels():
    depth_values = torch.rand(7, 20, 30)
    depth_values[torch.rand(7, 20, 30) < 0.4] = float("nan")
    depth_values[:, 3, 3] = float("nan")
    expected_median = depth_values.nanmedian(dim=0).values
    torch.testing.assert_close(
        torch.from_numpy(median_over_frames(depth_values.numpy())),
        expected_median,
        rtol=0,
        atol=0,
        equal_nan=True,
    )
