"""The bench of real takes: its figures on a drawn one, bars that can fail, and that they hold on the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_prior import compare, failures, idle_rules, main, measure_take, rows, takes_with_truth
from lab.drawn import SyntheticSpec, make_take, write_take

SPEC = SyntheticSpec(seed=1, frames=5, fps=7.0, exo_width=112, exo_height=64, ego_size=64)
GOOD = {"ncc": 0.7, "gradient": 0.3, "coverage": 0.9}


def test_the_figures_of_a_drawn_take(tmp_path: Path) -> None:
    folder = tmp_path / "takes" / "room"
    write_take(make_take(SPEC), folder)
    assert takes_with_truth(tmp_path / "takes") == [folder]
    result = measure_take(folder, ["released", "raw lens", "exact"], 2, tmp_path / "sheets", lambda line: None)
    drawn = result["rows"]
    assert set(drawn) == {"released", "raw lens", "exact", "truth -2", "truth +2"}
    # The drawn depth is exact: at its own scale clean's drawing meets the truth best.
    assert drawn["raw lens"]["ncc"] > max(drawn["released"]["ncc"], 0.3) and drawn["raw lens"]["coverage"] > 0.3
    assert "file's own" in result["exo_lens"] and result["scale"]["scale"] > 0
    assert (tmp_path / "sheets" / "room.png").is_file() and failures(result) == []


def test_the_figures_themselves() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(30, 200, (2, 64, 64, 3), dtype=np.uint8)
    same = compare(truth // 2 + 10, truth)  # gain and offset don't count
    assert same["ncc"] > 0.99 and same["gradient"] > 0.95 and same["coverage"] == 1
    half = truth.copy()
    half[:, 32:] = 0
    assert compare(half, truth)["coverage"] == 0.5
    assert abs(compare(rng.integers(30, 200, truth.shape, dtype=np.uint8), truth)["ncc"]) < 0.1


def test_bars_and_idle_rules_can_fail() -> None:
    result = {"take": "sfu_covid_x", "rows": {"exact": GOOD, "raw lens": GOOD}}
    assert failures(result) == []
    low = {"take": "sfu_covid_x", "rows": {"exact": {**GOOD, "gradient": float("nan")}}}
    assert len(failures(low)) == 1
    assert "brings" in failures({"take": "cmu_soccer_x", "rows": {"exact": GOOD, "raw lens": GOOD}})[0]
    names = [name for name in rows() if name.startswith("no ")]
    results = [{"take": str(i), "rows": {"exact": GOOD, **dict.fromkeys(names, GOOD)}} for i in range(2)]
    assert idle_rules(results) == []
    for entry in results:
        entry["rows"]["no gap filling"] = {**GOOD, "ncc": 0.72}
    assert idle_rules(results) == ["gap filling"]
    results[0]["rows"]["no gap filling"] = {**GOOD, "ncc": 0.705}
    assert idle_rules(results) == []


@pytest.mark.slow  # ten minutes on two cores
def test_exact_meets_the_truth_of_the_real_takes(shared_dir: Path) -> None:
    if not takes_with_truth(shared_dir / "data" / "takes"):
        pytest.skip("needs ../shared/data/takes with true ego videos")
    assert main(["--rows", "raw lens", "exact", "--every", "12"]) == 0
