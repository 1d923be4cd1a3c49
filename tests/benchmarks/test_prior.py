"""The bench of the prior, small: it runs, its figures are what they claim, and its bars can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.prior import failures, mean_static, measure, measure_seed, steadiness, warped
from egox_core.prior.options import PRIOR_PRESETS, prior_preset
from lab.drawn import SyntheticSpec, covisible, make_take

SPEC = SyntheticSpec(seed=1, frames=9, fps=7.0, exo_width=224, exo_height=128, ego_size=128)


def test_figures_of_a_small_take() -> None:
    row = measure_seed(SPEC, every=4)
    exact, wrong = row["exact"]["clean"], row["errors"]["clean"]
    assert exact["psnr_static"] > 25 and exact["psnr_moving"] > 17  # a quarter of the size that the bars are for
    assert exact["recall"] >= 0.9 and exact["precision"] >= 0.8
    assert exact["psnr_static"] > wrong["psnr_static"] == mean_static([row], "clean")
    assert set(row["errors"]) == set(row["exact"]) == set(PRIOR_PRESETS)
    assert exact["precision"] >= exact["precision_now"]  # the standing scene counts in whichever frame exo saw it
    assert 0 < exact["change_inside"] < exact["change"] < 0.05 and row["mask_iou"] > 0.5
    assert steadiness([row]) == pytest.approx(exact["change_inside"] / row["exact"]["released"]["change_inside"])


def test_each_bar_can_fail() -> None:
    def row(**changes: float) -> dict:
        """All bars hold but those that a change breaks."""
        figures = {"psnr_static": 30.0, "psnr_moving": 26.0, "change_inside": 0.001, "errors_static": 20.0, **changes}
        released = {"psnr_static": 19.9, "psnr_moving": 9.0, "change_inside": 0.002}
        return {"seed": 0, "exact": {"clean": figures, "released": released},
                "errors": {"clean": {"psnr_static": figures["errors_static"]}, "released": released}}

    assert failures([row()]) == []
    broken = {"psnr_static": "static nan", "psnr_moving": "moving nan", "change_inside": "changes nan",
              "errors_static": "with depth errors static nan"}
    for name, message in broken.items():
        assert [message in line for line in failures([row(**{name: float("nan")})])] == [True]
    below, above = row(errors_static=19.0), row(errors_static=21.0)
    assert failures([below, above]) == [] and len(failures([below])) == 1, "the mean of the seeds is judged"


def test_the_known_motion_undoes_itself() -> None:
    """The truth, warped by the motion, is the truth: what stays is interpolation."""
    take = make_take(SPEC)
    picture, known = warped(take, 4, take.ego_rgb[3].float() / 255)
    where = covisible(take, 4).static & known
    assert int(where.sum()) > 500
    assert float((picture - take.ego_rgb[4].float() / 255)[where].abs().mean()) < 0.02
    wrong, _ = warped(take, 4, take.ego_rgb[3].float().flip(1) / 255)
    assert float((wrong - take.ego_rgb[4].float() / 255)[where].abs().mean()) > 0.05


def test_wrong_depth_costs() -> None:
    take, clean = make_take(SPEC), prior_preset("clean")
    worse = measure(take, replace(take.depth_video(), depth_m=take.exo_depth_m * 1.1), clean, 4)
    assert worse["psnr_static"] < measure(take, take.depth_video(), clean, 4)["psnr_static"] - 4
