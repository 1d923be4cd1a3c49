"""Test ``bench preview``: its figures on a small drawn take."""

import json

import pytest

from benchmarks.preview import main
from egox_core.file_names import TRUTH
from lab.drawn import SyntheticSpec, make_take, write_take

SPEC = SyntheticSpec(
    seed=6, frames=5, fps=5.0, exo_width=128, exo_height=64, ego_size=64, edge_samples=1
)


def test_the_truth_itself_is_the_best_video_of_a_take(tmp_path, capsys):
    folder = tmp_path / "täke"
    write_take(make_take(SPEC), folder)
    also = f"truth={tmp_path / '{take}' / TRUTH}"
    words = [str(folder), "--also", also, "--frames", "5", "--shading", "off", "--json"]
    assert main([*words, "--scale", "as-is"]) == 0
    figures = json.loads(capsys.readouterr().out)["takes"]["täke"]
    best = figures.pop("truth")
    assert best["ssim"] == pytest.approx(1) and best["flicker"] == pytest.approx(1)
    assert figures.keys() == {"far side", "room"}
    assert all(
        best[part] > row[part] + 10 for row in figures.values() for part in ("whole", "seen")
    )
    assert len({row["seen"] for row in figures.values()}) == 1, "only holes differ"
