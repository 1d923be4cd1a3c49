"""The bench of Depth Align on a small clip."""

from __future__ import annotations

import json

from benchmarks import depth_align as bench


def test_it_gives_plain_data_for_both_modes() -> None:
    result = bench.run(frames=3, height=168, width=294)
    assert json.loads(json.dumps(result)) == result and set(result["all_seconds"]) == set(bench.BARS)
    assert all(len(times) == 5 for times in result["all_seconds"].values())
