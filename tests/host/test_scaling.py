"""The scaling benchmark in small: a row holds what it says, and the verdict tells linear from square."""

from __future__ import annotations

import torch

from benchmarks import _sample14b_worker as worker
from benchmarks import scaling
from devtools.wan_shapes import Clip


def test_rows_grow_with_the_clip(pack):
    with torch.inference_mode():
        model = worker.random_model("thin", "float32")
        rows = [scaling.measure(pack, model, "thin", Clip(frames=frames, exo_width=112, height=64, ego_width=64))
                for frames in (5, 17)]
    assert [row["tokens"] for row in rows] == [88, 220]
    assert rows[0]["plain_peak_mb"] < rows[1]["plain_peak_mb"]
    assert all(row["ours_seconds"] > 0 and row["tables_mb"] > 0 for row in rows)
    assert "frames" in scaling.table({"rows": rows, "passed": True})


def test_the_verdict_tells_linear_from_square():
    def rows(power):
        return [{"tokens": n, "extra_mb": (n / 1000) ** power, "tables_mb": 0.0} for n in (1000, 2000, 4000)]

    assert scaling.at_most_linear(rows(1.0)) and scaling.at_most_linear(rows(0.0))
    assert not scaling.at_most_linear(rows(2.0))
