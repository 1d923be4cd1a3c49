"""The bench of Depth Align on a small clip."""

from __future__ import annotations

import json

from benchmarks import depth_align as bench


def test_it_gives_plain_data_for_both_modes() -> None:
    result = bench.run(frames=3, height=168, width=294)
    assert json.loads(json.dumps(result)) == result and set(result["peak_extra_mb"]) == set(bench.BARS)
    # Of three frames of 168 x 294 px in float32, 0.6 MB: more than a copy, less than a hundred.
    assert all(0.5 < mb < 60 for mb in result["peak_extra_mb"].values())
