"""Walk every way of commands to its end, those of graphs in tests/host."""

import pytest

from tests.paths import ROOT

from .table import WAYS, Way, way_parameters
from .walk import Walk

LEAST_WAYS = 25


@pytest.mark.parametrize("way", way_parameters(needs_server=False))
def test_way(way: Way, tmp_path, archive, monkeypatch):
    monkeypatch.chdir(tmp_path)
    way.walk_to_end(Walk(tmp_path, archive if way.archive_alone else ROOT))


def test_no_two_ways_are_alike():
    """Check that no two ways have the same commands or graph, beginning and ends."""
    fast_ways = [way for way in WAYS if not way.is_slow]
    keys = {
        (
            way.steps[0].split(" --")[0].split(" sample/")[0],
            way.start,
            tuple(end.kind for end in way.ends),
        )
        for way in fast_ways
    }
    assert len(keys) == len(fast_ways) >= LEAST_WAYS
