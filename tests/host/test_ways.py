"""Walk every way of graphs to its end, on a server that runs the Registry's archive."""

import shutil

import pytest

from tests.ways.table import Way, way_parameters
from tests.ways.walk import Walk


@pytest.mark.parametrize("way", way_parameters(needs_server=True))
def test_way(way: Way, tmp_path, archive, server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (server.base.models / "geometry_estimation", server.base.output):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    way.walk_to_end(Walk(tmp_path, archive, server))
