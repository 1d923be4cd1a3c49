"""The bench of ordered turns: a video that obeys has slope 1, one that doesn't turn has 0."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

for package in ("torchmetrics", "diffusers", "peft"):
    pytest.importorskip(package)

from benchmarks import steering as bench  # noqa: E402
from lab.drawn import SyntheticSpec  # noqa: E402
from lab.small_model.videos import VideoStore  # noqa: E402

SPEC = SyntheticSpec(
    seed=900_001, frames=1, fps=5.0, exo_width=224, exo_height=128, ego_size=128, texture="plain",
    clutter="calm", object_scale=2.0, edge_samples=1,
)
FRAME = 0.1
"""A room's frames are off by up to a degree: of the 10 ordered here, that share."""
ORDERS = [bench.Order(axis="yaw", amount=10.0), bench.Order(axis="yaw", amount=-10.0)]


class Sampler(SimpleNamespace):
    """Truth of the ordered path, or of the first order whatever is ordered."""

    def fingerprint(self, lora: str) -> str:
        return str(self.obeys)

    def generate(self, clips, settings) -> np.ndarray:
        return np.stack([(clip if self.obeys else clips[0]).truth.numpy() for clip in clips])


@pytest.mark.parametrize(("obeys", "slope"), [(True, 1.0), (False, 0.0)])
def test_slope_tells_whether_the_model_obeys(tmp_path, monkeypatch, obeys, slope) -> None:
    monkeypatch.setattr(bench, "ORDERS", [order for order in ORDERS for _ in range(6)])
    result = bench.measure([SPEC], VideoStore(folder=tmp_path, sampler=Sampler(obeys=obeys)))
    rows = {row["video"]: row for row in result["rows"] if row["axis"] == "yaw"}
    assert rows[bench.MODEL]["slope"] == pytest.approx(slope, abs=FRAME)
    assert rows[bench.TRUTH]["slope"] == pytest.approx(1, abs=FRAME)
    assert rows[bench.TRUTH]["error"] < 10 * FRAME and rows[bench.TRUTH]["judged"] == 1
    assert not result["passed"], "one room is too few"
    assert "| truth | yaw | " in bench.markdown(result)
