"""The bench of the prior, small: it runs, its figures are what they claim, and its bars can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.prior import failures, measure, measure_seed, noisy_depth, steadiness, warped
from egox_core.prior.options import prior_preset
from egox_core.synthetic import SyntheticSpec, covisible, make_take

SPEC = SyntheticSpec(seed=1, frames=9, fps=7.0, exo_width=224, exo_height=128, ego_size=128)


def test_figures_of_a_small_take() -> None:
    row = measure_seed(SPEC, every=4)
    exact, clean, released = row["exact"], row["noisy_clean"], row["noisy_released"]
    assert exact["psnr_static"] > 25 and exact["psnr_moving"] > 17  # a quarter of the size that the bars are for
    assert exact["recall"] >= 0.9 and exact["precision"] >= 0.8
    assert exact["psnr_static"] > clean["psnr_static"] and clean["psnr_moving"] > released["psnr_moving"]
    assert exact["precision"] >= exact["precision_now"]  # the standing scene counts in whichever frame exo saw it
    assert 0 < exact["change_inside"] < exact["change"] < 0.05 and row["mask_iou"] > 0.5
    assert steadiness([row]) == pytest.approx(exact["change_inside"] / row["exact_released"]["change_inside"])
    good = {**row, "exact": {**exact, "psnr_static": 30.0, "psnr_moving": 26.0}}
    assert failures(good) == []
    for name in ("static", "moving"):
        broken = {**good, "exact": {**good["exact"], f"psnr_{name}": float("nan")}}
        assert [f"{name} nan" in line for line in failures(broken)] == [True]
    reported = {**good, "exact": {**good["exact"], "precision": 0.1, "recall": 0.1}, "mask_iou": 0.1}
    assert failures(reported) == [], "what is only reported has no bar"


def test_the_known_motion_undoes_itself() -> None:
    """The truth, warped by the motion, is the truth: what stays is interpolation."""
    take = make_take(SPEC)
    picture, known = warped(take, 4, take.ego_rgb[3].float() / 255)
    where = covisible(take, 4).static & known
    assert int(where.sum()) > 500
    assert float((picture - take.ego_rgb[4].float() / 255)[where].abs().mean()) < 0.02
    wrong, _ = warped(take, 4, take.ego_rgb[3].float().flip(1) / 255)
    assert float((wrong - take.ego_rgb[4].float() / 255)[where].abs().mean()) > 0.05


def test_noise_is_noise_of_the_asked_size() -> None:
    take = make_take(SPEC)
    ratio = noisy_depth(take, 0).depth_m[0] / take.exo_depth_m[0] - 1
    middle = ratio[ratio.isfinite() & (ratio.abs() < 0.1)]
    assert abs(float(middle.std()) - 0.02) < 0.003
    worse = measure(take, replace(take.depth_video(), depth_m=take.exo_depth_m * 1.1), prior_preset("clean"), 4)
    assert worse["psnr_static"] < measure(take, take.depth_video(), prior_preset("clean"), 4)["psnr_static"] - 4
