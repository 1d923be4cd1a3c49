"""Walk every way of the table to its end."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.shipped_files import list_shipped_files
from tools.setup.base_dir import make_base_dir
from tools.setup.environment import Environment
from tools.setup.layout import Layout
from tools.setup.server import Server

from .starts import STARTS
from .table import WAYS, Way
from .walk import Walk

LEAST_WAYS = 25


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Unpack the files of the Registry's archive, as the Manager does."""
    folder = tmp_path_factory.mktemp("archive") / "egox"
    for name in list_shipped_files(ROOT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def way_server(archive, environment, standin_models, tmp_path_factory) -> Iterator[Server]:
    """Start ComfyUI's server with the archive as a pack, and stand-ins under their own names."""
    packs = {"egox_standin_nodes": ROOT / "tests" / "standin_nodes"}
    layout = Layout(archive)
    base = make_base_dir(tmp_path_factory.mktemp("ways"), layout, packs)
    shutil.copytree(standin_models, base.models, dirs_exist_ok=True)
    archive_environment = Environment(environment.host, environment.python, layout)
    with Server(archive_environment, base, base.root / "server.log") as server:
        yield server


def name_way(way: Way) -> str:
    return re.sub(r"\W+", "_", way.name)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, id=name_way(way), marks=[pytest.mark.slow] if way.is_slow else [])
        for way in WAYS
    ],
)
def test_way(way: Way, tmp_path, archive, request, monkeypatch):
    monkeypatch.chdir(tmp_path)
    STARTS[way.start](tmp_path)
    walk = Walk(tmp_path, archive if way.needs_server or way.archive_alone else ROOT)
    if way.needs_server:
        walk.server = request.getfixturevalue("way_server")
        for folder in (walk.server.base.models / "geometry_estimation", walk.server.base.output):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
    for step in way.steps:
        assert not walk.code, f"before {step!r}: {walk.said[-2000:]}"
        walk.take(step)
    if all(end.kind != "stops" for end in way.ends):
        assert not walk.stopped_type, walk.said
    for end in way.ends:
        end.check(walk)


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
