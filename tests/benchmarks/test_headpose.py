"""The bench of head poses on a few clips."""

from __future__ import annotations

import json

from benchmarks import headpose as bench
from benchmarks.support.head_clips import clip_specs


def test_it_gives_plain_data_for_every_case() -> None:
    result = bench.run(clips=3, frames=17)
    assert json.loads(json.dumps(result)) == result and set(result["cases"]) == set(bench.CASES)
    exact = result["cases"]["exact"]
    assert exact["across_m"] < 0.03 and exact["not_finite"] == 0 and exact["frames"] == 51
    assert exact["back_frames"] > 0 and result["cases"]["detector, depth"]["along"] < 0.1
    assert "exact, gap" in bench.table(result)


def test_the_clips_cover_what_people_film() -> None:
    specs = [spec for _, spec in clip_specs(64, 49)]
    assert {spec.exo_height for spec in specs} == {80, 112, 160, 224, 320, 448}
    assert len({spec.seed for spec in specs}) == 64 and all(spec.wearer == "drawn" for spec in specs)
    assert sum(spec.company for spec in specs) == sum(spec.walking > 0 for spec in specs) == 8
    assert sum(spec.exo_side == "behind" for spec in specs) == 16 and sum(spec.turning_deg > 0 for spec in specs) == 32
