"""Test the benchmark of the ego prior on a small drawn take."""

from benchmarks.prior import measure_take, table
from egox_core.prior.options import PRIOR_PRESETS
from lab.drawn import SyntheticSpec

SPEC = SyntheticSpec(
    seed=1, frames=3, fps=7.0, exo_width=160, exo_height=96, ego_size=96, edge_samples=1
)


def test_figures_of_a_small_drawn_take():
    figures = measure_take(SPEC, frame_step=2)
    exact_figures = figures["exact"]["clean"]
    assert exact_figures["psnr_static"] > 25 and exact_figures["psnr_moving"] > 17
    assert exact_figures["psnr_static"] > figures["errors"]["clean"]["psnr_static"]
    assert set(figures["errors"]) == set(figures["exact"]) == set(PRIOR_PRESETS)
    assert 0 < exact_figures["change_inside"] < 0.05 and "released_wild" in table({1: figures})
