"""The bench of the prior, small: its figures are what they claim, and its bars can fail."""

from dataclasses import replace

import numpy as np

from benchmarks.prior import (
    EXACT,
    OWN_SCALE,
    compare,
    mean,
    measure_drawn,
    measure_seed,
    measure_take,
    table,
    takes_with_truth,
    warped,
)
from egox_core.prior.options import PRIOR_PRESETS, prior_preset
from lab.drawn import SyntheticSpec, covisible, make_take, write_take

SPEC = SyntheticSpec(seed=1, frames=5, fps=7.0, exo_width=224, exo_height=128, ego_size=128)


def test_figures_of_a_small_drawn_take():
    row = measure_seed(SPEC, every=4)
    exact = row["exact"]["clean"]
    assert (
        exact["psnr_static"] > 25 and exact["psnr_moving"] > 17
    )  # a quarter of the size that the bars are for
    assert exact["psnr_static"] > mean([row], "errors", "clean", "psnr_static")
    assert set(row["errors"]) == set(row["exact"]) == set(PRIOR_PRESETS)
    assert 0 < exact["change_inside"] < 0.05 and "released_wild" in table([row], [])


def test_the_known_motion_undoes_itself():
    """The truth, warped by the motion, is the truth: what stays is interpolation."""
    take = make_take(SPEC)
    picture, known = warped(take, 4, take.ego_rgb[3].float() / 255)
    where = covisible(take, 4).static & known
    assert int(where.sum()) > 500
    assert float((picture - take.ego_rgb[4].float() / 255)[where].abs().mean()) < 0.02
    worse = measure_drawn(
        take, replace(take.depth_video(), depth_m=take.exo_depth_m * 1.1), prior_preset("clean"), 4
    )
    right = measure_drawn(take, take.depth_video(), prior_preset("clean"), 4)
    assert worse["psnr_static"] < right["psnr_static"] - 4, "wrong depth costs"


def test_figures_of_a_take_with_a_true_video(tmp_path):
    write_take(
        make_take(replace(SPEC, exo_width=112, exo_height=64, ego_size=64)), tmp_path / "room"
    )
    (folder,) = takes_with_truth(tmp_path, ["room"])
    rows = measure_take(folder, 2)["rows"]
    assert set(rows) == {"released", "clean", OWN_SCALE, EXACT}
    # The drawn depth is exact: at its own scale clean's drawing meets the truth best.
    assert (
        rows[OWN_SCALE]["ncc"] > max(rows["released"]["ncc"], 0.3)
        and rows[OWN_SCALE]["coverage"] > 0.3
    )


def test_the_comparison_with_a_true_video():
    rng = np.random.default_rng(0)
    truth, other = rng.integers(30, 200, (2, 2, 64, 64, 3), dtype=np.uint8)
    same = compare(truth // 2 + 10, truth)  # gain and offset don't count
    assert same["ncc"] > 0.99 and same["gradient"] > 0.95 and same["coverage"] == 1
    assert abs(compare(other, truth)["ncc"]) < 0.1
    other[:, :, 32:] = 0
    assert compare(other, truth)["coverage"] == 0.5
