"""The bench of predicted views: its rows and bars on two small rooms, and one camera given
twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import views as bench
from egox_core.predict.network import PredictorSize, ViewPredictor
from egox_core.progress import no_progress
from lab.drawn import make_take
from lab.small_model.held_out import held_out_rooms

SMALL = PredictorSize(exo=(16, 16, 32), ego=(16, 16, 32), bins=8, steps=6, features=4, hidden=8)


def test_more_cameras_cover_more_and_the_same_one_twice_does_not() -> None:
    (spec,) = held_out_rooms(1, 4)
    take = make_take(replace(spec, frames=1))
    clips = bench.fused_clips(take, (1, 2, 4))
    shares = [float(clip.coverage.float().mean()) for clip in clips.values()]
    assert shares[0] < shares[1] < shares[2]
    assert float((clips[1].coverage <= clips[4].coverage).float().mean()) > 0.98
    twice = bench.fused_clips(replace(take, further=(take,)), (2,))[2]
    assert float((twice.coverage ^ clips[1].coverage).float().mean()) < 0.01


def test_rows_of_a_predictor_that_has_learnt_nothing() -> None:
    """Its rows are there, views are joined as the bars ask, and no bar that needs learning
    holds."""
    specs = [
        replace(s, frames=1, exo_width=112, exo_height=64, ego_size=64, edge_samples=1)
        for s in held_out_rooms(2, 4)
    ]
    torch.manual_seed(0)
    rows = bench.measure(specs, ViewPredictor(SMALL).eval(), no_progress)
    references = bench.measure(specs, None, no_progress)
    assert all(len(row["psnr"]) == 2 for row in (rows | references).values())
    values = {name: sum(row["psnr"].values()) / 2 for name, row in (rows | references).items()}
    exact, bad = values[f"{bench.TELEA}, 4"], values[f"{bench.BAD}, 4"]
    assert exact > bad > 0 and exact > values["truth from another path"]
    assert values["predicted, 1, four times"] == pytest.approx(values["predicted, 1"], abs=1e-3)
    turned = values["predicted, 4, other order"]
    assert turned == pytest.approx(values["predicted, 4"], abs=1e-3)
    bars = bench.judged(rows)
    assert len(bars) == len(bench.BARS) and not bench.judged(references)
    assert {bar["bar"]: bar["verdict"] for bar in bars}["one view over the mean colour"] == "fails"
    assert "| predicted, 1 |" in bench.markdown(rows, bars)
