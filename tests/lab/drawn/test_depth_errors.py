"""Depth with a network's errors: of the asked size, smooth, soft at outlines, and the same for the
same seed."""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.types import DepthVideo
from lab.drawn import DepthErrors, with_errors
from tests.refusals import refuses

HEIGHT, WIDTH, FRAMES = 64, 112, 33
CAMERA = CameraModel.pinhole(WIDTH, HEIGHT, 80.0)
NONE = DepthErrors(low_frequency=0.0, bleed_px=0.0, flicker=0.0)


def wall() -> DepthVideo:
    """A slanted wall, 2 to 5 m away: 1/z is linear in the picture."""
    inverse = torch.linspace(0.2, 0.5, WIDTH).expand(FRAMES, HEIGHT, WIDTH)
    return DepthVideo(
        depth_m=1 / inverse, camera=CAMERA, times_s=torch.arange(FRAMES, dtype=torch.float64) / 30
    )


def box_before_a_wall() -> DepthVideo:
    depth_m = torch.full((2, HEIGHT, WIDTH), 6.0)
    depth_m[:, 20:40, 30:60] = 2.0
    depth_m[:, :4] = torch.nan
    return DepthVideo(depth_m=depth_m, camera=CAMERA)


def test_the_slow_error_has_the_asked_spread_and_reach():
    logs = torch.stack(
        [
            (
                with_errors(wall(), replace(NONE, low_frequency=0.03), seed).depth_m
                / wall().depth_m
            ).log()
            for seed in range(60)
        ]
    )
    assert float(logs.std()) == pytest.approx(0.03, rel=0.1) and abs(float(logs.mean())) < 0.003
    unit = logs / logs.std()

    def alike(other: torch.Tensor, own: torch.Tensor) -> float:
        return float((other * own).mean())

    quarter = HEIGHT // 4
    assert alike(unit[..., quarter:], unit[..., :-quarter]) == pytest.approx(
        0.61, abs=0.08
    )  # exp(-1/2)
    assert abs(alike(unit[..., -1], unit[..., 0])) < 0.25
    assert alike(unit[:, 30], unit[:, 0]) == pytest.approx(0.61, abs=0.12)  # a second later
    assert alike(unit[:, 1], unit[:, 0]) > 0.99


def test_flicker_is_one_factor_a_frame():
    ratio = with_errors(wall(), replace(NONE, flicker=0.02), 3).depth_m / wall().depth_m
    assert float(ratio.flatten(1).std(1).max()) < 1e-6
    scales = ratio[:, 0, 0].log()
    assert 0.01 < float(scales.std()) < 0.03 and float((scales[1:] - scales[:-1]).abs().min()) > 0


def test_only_outlines_bleed():
    soft = replace(NONE, bleed_px=2.0)
    inner = with_errors(wall(), soft, 0).depth_m[:, 6:-6, 6:-6]
    assert torch.allclose(inner, wall().depth_m[:, 6:-6, 6:-6], rtol=1e-3)
    exact, row = box_before_a_wall(), with_errors(box_before_a_wall(), soft, 0).depth_m[0, 30]
    assert torch.allclose(row[36:54], torch.tensor(2.0))
    assert torch.allclose(row[[20, 70]], torch.tensor(6.0))
    between = (row > 2.1) & (row < 5.9)
    assert 4 <= int(between.sum()) <= 12  # two outlines of some pixels each
    assert int((row < 4).sum()) > 30, "the near side swells"
    unknown = with_errors(exact, soft, 0).depth_m
    assert torch.equal(unknown.isnan(), exact.depth_m.isnan())
    assert torch.allclose(unknown[:, 4:8, :20], torch.tensor(6.0)), (
        "unknown depth bleeds into nothing"
    )


def test_no_errors_are_none_and_bad_ones_are_refused():
    assert torch.equal(with_errors(wall(), NONE, 1).depth_m, wall().depth_m)
    for bad in ({"flicker": -0.1}, {"bleed_px": float("nan")}, {"low_frequency": float("inf")}):
        with refuses("depth errors"):
            DepthErrors(**bad)
