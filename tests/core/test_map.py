"""The example in the core's docstring runs."""

import doctest

import egox_core
from lab.drawn import SyntheticSpec, make_take, write_take


def test_the_example_runs(tmp_path):
    spec = SyntheticSpec(seed=1, frames=5, exo_width=64, exo_height=32, ego_size=32, edge_samples=1)
    write_take(make_take(spec), tmp_path / "take")
    results = doctest.testmod(egox_core, extraglobs={"folder": tmp_path / "take"})
    assert results.attempted > 12 and results.failed == 0
