"""The prior against the synthetic ego ground truth: the bench in small, and that the bench can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import covisible as bench
from benchmarks.support import record as _record
from egox_core.types import EgoPrior
from lab.drawn import SyntheticSpec, SyntheticTake, covisible, make_take

SMALL = SyntheticSpec(seed=1, frames=1, exo_width=224, exo_height=128, ego_size=128)


@pytest.fixture(scope="module")
def take() -> SyntheticTake:
    return make_take(SMALL)


def _prior(take: SyntheticTake, rgb: torch.Tensor) -> EgoPrior:
    seen = torch.stack([covisible(take, t).visible for t in range(take.spec.frames)])
    return EgoPrior(rgb=rgb * seen[..., None], coverage=seen, depth_m=take.ego_depth_m, trajectory=take.trajectory())


def test_the_bars_hold_at_the_released_size() -> None:
    """Done-when 4 of the foundation on one frame; `run.py bench covisible` takes all of them."""
    result = bench.measure(SyntheticSpec(seed=1, frames=1), "clean")
    assert result.failures() == []
    assert result.psnr_inside > 32  # away from outlines nothing but resampling is left
    assert result.coverage_recall > 0.95


def test_a_perfect_prior_is_perfect_and_its_controls_are_not(take: SyntheticTake) -> None:
    result = bench.compare(take, _prior(take, take.ego_frames()))
    assert result.psnr_static == result.psnr_moving == result.psnr_inside == float("inf")
    assert result.coverage_precision == result.coverage_recall == 1.0 and result.uncovered_share == 0.0
    assert result.failures() == []
    assert max(result.controls.values()) < 28  # every control is seen to be off by this measure


@pytest.mark.parametrize("name", bench.CONTROLS)
def test_a_prior_that_is_off_fails(take: SyntheticTake, name: str) -> None:
    """A prior changed as a control is does not pass, whichever control it is."""
    changed = np.stack([bench.CONTROLS[name](picture) for picture in take.ego_frames().numpy()])
    assert bench.compare(take, _prior(take, torch.from_numpy(changed))).failures() != []


def test_an_empty_prior_and_an_empty_comparison_fail(take: SyntheticTake) -> None:
    empty = _prior(take, take.ego_frames())
    empty = replace(empty, rgb=torch.zeros_like(empty.rgb), coverage=torch.zeros_like(empty.coverage))
    result = bench.compare(take, empty)
    assert result.uncovered_share == 1.0 and result.coverage_recall == 0.0 and result.failures() != []
    nothing = replace(result, psnr_static=float("nan"))
    assert any("static PSNR" in line for line in nothing.failures())


def test_away_from_outlines() -> None:
    index = torch.zeros(9, 12, dtype=torch.int16)
    index[:, 6:] = 3
    away = bench.away_from_outlines(index)
    assert away.any(0).tolist() == [True] * 4 + [False] * 4 + [True] * 4


def test_command_prints_saves_and_fails_by_its_exit_code(capsys: pytest.CaptureFixture, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_record, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "PSNR_BAR_DB", 99.0)
    code = bench.main(["--seeds", "1", "--frames", "1", "--height", "64", "--json", "--save"])
    record = json.loads(capsys.readouterr().out)
    assert code == 1 and record["failed"] and record["takes"][0]["seed"] == 1
    assert json.loads((tmp_path / "covisible.json").read_text(encoding="utf-8"))["machine"]["cores"]
