"""Test the benchmark of the ego prior on a small drawn take."""

from dataclasses import replace

from benchmarks.prior import measure_preset, measure_seed, table, warp_previous
from egox_core.prior.options import PRIOR_PRESETS, prior_preset
from lab.drawn import SyntheticSpec, covisible, make_take

SPEC = SyntheticSpec(seed=1, frames=5, fps=7.0, exo_width=224, exo_height=128, ego_size=128)


def test_figures_of_a_small_drawn_take():
    figures = measure_seed(SPEC, frame_step=4)
    exact_figures = figures["exact"]["clean"]
    assert exact_figures["psnr_static"] > 25 and exact_figures["psnr_moving"] > 17
    assert exact_figures["psnr_static"] > figures["errors"]["clean"]["psnr_static"]
    assert set(figures["errors"]) == set(figures["exact"]) == set(PRIOR_PRESETS)
    assert 0 < exact_figures["change_inside"] < 0.05 and "released_wild" in table([figures])


def test_the_known_motion_undoes_itself():
    """Check that warping the previous frame by the true motion reproduces the current frame."""
    drawn_take = make_take(SPEC)
    warped_picture, known_mask = warp_previous(drawn_take, 4, drawn_take.ego_rgb[3].float() / 255)
    compared_mask = covisible(drawn_take, 4).static & known_mask
    assert int(compared_mask.sum()) > 500
    assert (
        float((warped_picture - drawn_take.ego_rgb[4].float() / 255)[compared_mask].abs().mean())
        < 0.02
    )
    wrong_depth_figures = measure_preset(
        drawn_take,
        replace(drawn_take.depth_video(), depth_m=drawn_take.exo_depth_m * 1.1),
        prior_preset("clean"),
        4,
    )
    true_depth_figures = measure_preset(
        drawn_take, drawn_take.depth_video(), prior_preset("clean"), 4
    )
    assert wrong_depth_figures["psnr_static"] < true_depth_figures["psnr_static"] - 4, (
        "wrong depth costs"
    )
