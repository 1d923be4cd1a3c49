"""The bench of Depth Align on a small clip."""

from __future__ import annotations

import json

from benchmarks import depth_align as bench


def test_it_gives_plain_data_and_meets_its_bars() -> None:
    result = bench.run(frames=3, height=168, width=294, recovery_frames=2, truths=bench.TRUTHS[:1])
    assert all(row["met"] is not False for row in result["recovery"]) and result["drift"]["lag_last"] < -0.03
    assert json.loads(json.dumps(result)) == result and "drift" in bench.table(result)
