"""Test the benchmark of the prior on a small take."""

from dataclasses import replace

from benchmarks.prior import measure_preset, measure_seed, table, warp_previous
from egox_core.prior.options import PRIOR_PRESETS, prior_preset
from lab.drawn import SyntheticSpec, covisible, make_take

SPEC = SyntheticSpec(seed=1, frames=5, fps=7.0, exo_width=224, exo_height=128, ego_size=128)


def test_figures_of_a_small_drawn_take():
    row = measure_seed(SPEC, frame_step=4)
    exact = row["exact"]["clean"]
    assert exact["psnr_static"] > 25 and exact["psnr_moving"] > 17
    assert exact["psnr_static"] > row["errors"]["clean"]["psnr_static"]
    assert set(row["errors"]) == set(row["exact"]) == set(PRIOR_PRESETS)
    assert 0 < exact["change_inside"] < 0.05 and "released_wild" in table([row])


def test_the_known_motion_undoes_itself():
    """Warp the truth by the known motion, which leaves only interpolation errors."""
    take = make_take(SPEC)
    picture, known_mask = warp_previous(take, 4, take.ego_rgb[3].float() / 255)
    where = covisible(take, 4).static & known_mask
    assert int(where.sum()) > 500
    assert float((picture - take.ego_rgb[4].float() / 255)[where].abs().mean()) < 0.02
    worse = measure_preset(
        take, replace(take.depth_video(), depth_m=take.exo_depth_m * 1.1), prior_preset("clean"), 4
    )
    right = measure_preset(take, take.depth_video(), prior_preset("clean"), 4)
    assert worse["psnr_static"] < right["psnr_static"] - 4, "wrong depth costs"
