"""The bench of several exo cameras: its rows, and one camera given twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import views as bench
from lab.drawn import make_take
from lab.small_model.held_out import held_out_rooms
from lab.small_model.scores import TELEA, baseline_videos


def test_more_cameras_cover_more_and_the_same_one_twice_does_not() -> None:
    (spec,) = held_out_rooms(1, 4)
    take = make_take(replace(spec, frames=1))
    clips = bench.fused_clips(take, (1, 2, 4))
    shares = [float(clip.coverage.float().mean()) for clip in clips.values()]
    assert shares[0] < shares[1] < shares[2]
    assert float((clips[1].coverage <= clips[4].coverage).float().mean()) > 0.98
    twice = bench.fused_clips(replace(take, further=(take,)), (2,))[2]
    assert float((twice.coverage ^ clips[1].coverage).float().mean()) < 0.01


def test_each_count_has_a_row_beside_the_first() -> None:
    specs = [replace(spec, frames=1) for spec in held_out_rooms(2, 2)]
    one, two = bench.measure(specs, {TELEA: lambda clips: baseline_videos(clips)[TELEA]}, (1, 2))
    assert (one["views"], two["views"]) == (1, 2) and one["differences"]["psnr"]["mean"] == 0
    gain = two["means"]["coverage"]["mean"] - one["means"]["coverage"]["mean"]
    assert two["differences"]["coverage"]["mean"] == pytest.approx(gain, abs=2e-6) and gain > 0
    assert "| prior + Telea | 2 |" in bench.markdown([one, two])
