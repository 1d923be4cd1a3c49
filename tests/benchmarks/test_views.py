"""The bench of several exo cameras: its rows, and that a second camera that sees the same adds nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import views as bench
from benchmarks.support import record as _record
from egox_core.errors import EgoXInputError
from lab.drawn import make_take


def test_more_cameras_cover_more_and_the_same_one_twice_does_not() -> None:
    (spec,) = bench.held_out_rooms(1, 4)
    take = make_take(replace(spec, frames=1))
    clips = bench.fused_clips(take, (1, 2, 4), "clean")
    shares = [float(clip.coverage.float().mean()) for clip in clips.values()]
    assert shares[0] < shares[1] < shares[2]
    assert float((clips[1].coverage <= clips[4].coverage).float().mean()) > 0.98
    twice = bench.fused_clips(replace(take, further=(take,)), (2,), "clean")[2]
    assert float((twice.coverage ^ clips[1].coverage).float().mean()) < 0.01


def test_command_prints_and_saves(capsys: pytest.CaptureFixture, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_record, "RESULTS", tmp_path)
    gain, cost = ({"mean": m, "low": m - 0.1, "high": m + 0.1} for m in (0.5, 0.25))
    judged = {"rooms": 3, "steps": 300, "holds": False,
              "rows": [{"arm": "rays", "psnr": gain, "gain": gain, "path_cost": cost}]}
    (tmp_path / "views_gate.json").write_text(json.dumps(judged), encoding="utf-8")
    (tmp_path / bench.NOTE).write_text("## What it says\n\nLittle.\n", encoding="utf-8")
    assert bench.main(["--count", "2", "--views", "1", "2", "--json", "--save"]) == 0
    page = (tmp_path / "views.md").read_text(encoding="utf-8")
    assert page.index("| prior + Telea | 2 |") < page.index("gate after 300 steps") < page.index("0.25 [0.15, 0.35]")
    assert page.index("The gate FAILS.") < page.index("## What it says") and "views_gate_long" not in page
    one, two = json.loads(capsys.readouterr().out)["rows"]
    assert (one["views"], two["views"]) == (1, 2) and one["differences"]["psnr"]["mean"] == 0
    assert one["method"] == two["method"] == bench.TELEA
    gain = two["means"]["coverage"]["mean"] - one["means"]["coverage"]["mean"]
    assert two["differences"]["coverage"]["mean"] == pytest.approx(gain, abs=2e-6) and gain > 0
    assert json.loads((tmp_path / "views.json").read_text(encoding="utf-8"))["machine"]["cores"]
    assert bench.markdown([one, two], [bench.layout_cost(panels) for panels in bench.LAYOUTS]).count("\n") == 10


def test_what_each_layout_costs_at_full_size() -> None:
    """Worked out by hand in the design: a mosaic of four costs what EgoX does, four whole panels over five times."""
    costs = [bench.layout_cost(panels) for panels in bench.LAYOUTS]
    assert [cost["tokens"] for cost in costs] == [28_028, 45_864, 81_536, 27_664]
    assert [round(cost["pflop"] / costs[0]["pflop"], 2) for cost in costs] == [1.0, 2.14, 5.58, 0.98]
    assert [round(cost["checkpoints_gb"], 1) for cost in costs] == [11.5, 18.8, 33.4, 11.3]


def test_a_gate_without_its_arms_is_refused_before_a_room_is_drawn(monkeypatch) -> None:
    pytest.importorskip("diffusers")
    from lab.small_model import views_gate

    monkeypatch.setattr(views_gate, "view_loras", lambda files, stage: {"no_pose@1": None})
    with pytest.raises(EgoXInputError, match=r"rays@1.*--stage views_gate"):
        views_gate.judge_trained_arms([], "views_gate")
