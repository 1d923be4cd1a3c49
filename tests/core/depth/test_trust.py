"""Trust is low at edges, holes and flicker, and full elsewhere."""

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

T, H, W = 5, 40, 60


def planes() -> torch.Tensor:
    """Draw a steep slanted wall with a near box before it, static."""
    u = torch.arange(W).float()
    wall = 1 / (0.1 + 0.004 * u)
    depth = wall.expand(T, H, W).clone()
    depth[:, 10:30, 20:40] = 1.2
    return depth


def test_planes_are_believed_and_edges_not():
    trust = depth_trust(planes())
    assert float(trust[:, 2:6, 3:-3].min()) > 0.99, "a plane has no bend, however steep"
    assert float(trust[:, 15:25, 25:35].min()) > 0.99
    assert float(trust[:, 9:11, 22:38].max()) < 0.05 and float(trust[:, 8, 22:38].max()) < 0.05
    assert bool((trust >= FLOOR).all())


def test_holes_are_zero_and_spoil_their_surroundings():
    depth = planes()
    depth[:, 35, 50] = float("nan")
    trust = depth_trust(depth)
    assert float(trust[0, 35, 50]) == 0 and float(trust[0, 35, 48]) == pytest.approx(FLOOR)
    assert float(trust[0, 35, 45]) > 0.99


def test_flicker_lowers_trust_of_static_pixels_only():
    depth = planes()
    depth[2, 12:38, 2:18] *= 1.3
    dynamic = torch.zeros(T, H, W, dtype=torch.bool)
    dynamic[:, 12:38, 10:18] = True
    trust = depth_trust(depth, dynamic)
    change = 1 - 1 / 1.3
    assert float(trust[2, 25, 7]) == pytest.approx(1 / (1 + (change / FLICKER_TOLERANCE) ** 2))
    assert float(trust[2, 25, 13]) > 0.99 and float(trust[1, 25, 7]) > 0.99
    assert float(depth_trust(depth, fixed_camera=False)[2, 25, 7]) > 0.99


def test_noise_alone_does_not_take_the_trust_away():
    noisy = planes() * (1 + 0.02 * torch.randn(T, H, W))
    trust = depth_trust(noisy)
    flat, edge = trust[:, 2:6, 3:-3], trust[:, 9:11, 22:38]
    assert float(flat.mean()) > 0.5 > 0.2 > float(edge.mean())


def test_a_models_confidence_is_kept_where_it_is_lower():
    camera = CameraModel.pinhole(W, H, 50)
    confidence = torch.ones(T, H, W)
    confidence[:, :, :10], confidence[:, 0] = 0.3, 0.0
    depth = planes()
    depth[:, 0, 0] = float("nan")
    trust = with_trust(
        DepthVideo(depth_m=depth, trust=confidence, exo=CameraPath.of_exo(camera))
    ).trust
    assert float(trust[0, 4, 4]) == pytest.approx(0.3) and float(trust[0, 0, 30]) == pytest.approx(
        FLOOR
    )
    assert float(trust[0, 0, 0]) == 0


def test_median_over_frames_leaves_missing_pixels_out():
    values = torch.rand(7, 20, 30)
    values[torch.rand(7, 20, 30) < 0.4] = float("nan")
    values[:, 3, 3] = float("nan")
    expected = values.nanmedian(dim=0).values
    torch.testing.assert_close(
        torch.from_numpy(median_over_frames(values.numpy())),
        expected,
        rtol=0,
        atol=0,
        equal_nan=True,
    )
