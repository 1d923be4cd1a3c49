"""The bench of head poses on a few clips."""

import json

from benchmarks import headpose as bench


def test_it_gives_plain_data_for_every_case():
    result = bench.run(clips=3, frames=17)
    assert json.loads(json.dumps(result)) == result and set(result["cases"]) == set(bench.CASES)
    exact = result["cases"]["exact"]
    assert exact["across_m"] < 0.03 and exact["not_finite"] == 0 and exact["frames"] == 51
    assert exact["back_frames"] > 0 and result["cases"]["detector, depth"]["along"] < 0.1
    assert "exact, gap" in bench.table(result)
