"""The host names that fail in silence: all there on this host, and each loss is reported."""

import functools
import types
from importlib import import_module

import pytest


@pytest.fixture(scope="module")
def names(pack) -> types.ModuleType:
    from egox_pack.nodes.host import names

    return names


def test_nothing_is_missing_here(names):
    messages: list[str] = []
    names.say_missing(messages.append)
    assert names.missing() == {} and not messages


def test_each_name_left_out_is_said(names, monkeypatch):
    is_there = names.is_there
    for loses, listed in names.SILENT_NAMES.items():
        for gone in listed:
            monkeypatch.setattr(
                names, "is_there", lambda name, gone=gone: name != gone and is_there(name)
            )
            messages: list[str] = []
            names.say_missing(messages.append)
            assert (
                names.missing() == {loses: [gone]} and gone in messages[0] and loses in messages[0]
            )


def test_forms_of_names(names, monkeypatch, tmp_path):
    (tmp_path / "egox_test_host.py").write_text(
        "class A:\n    K = 1\n    def __init__(self, b, c=2):\n        self.inside = {'key': b}\n"
        "    def f(self, x, y, z=0):\n        def g():\n            return h(keyword=x)\n        return g\n"
        "def loose(first, second): pass\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("egox_test_host", "egox_no_such_host"):
        monkeypatch.setitem(names.MODULES, module, functools.partial(import_module, module))
    for name, exists in {
        "egox_test_host": True,
        "egox_no_such_host": False,
        "egox_test_host:A.K": True,
        "egox_test_host:A.L": False,
        "egox_test_host:A.f(x, y)": True,
        "egox_test_host:A.f(y)": False,
        "egox_test_host:A(b, c)": True,
        "egox_test_host:loose(first)": True,
        "egox_test_host:loose(second)": False,
        "egox_test_host:A[inside]": True,
        "egox_test_host:A[key]": True,
        "egox_test_host:A[keyword]": True,
        "egox_test_host:A[outside]": False,
        "egox_test_host[loose]": True,
        "egox_test_host:loose[inside]": False,
    }.items():
        assert names.is_there(name) is exists, name


def test_a_file_that_cannot_be_imported_costs_its_own_nodes(pack, caplog):
    def moved_away() -> types.ModuleType:
        raise ImportError("moved away")

    extension = pack.nodes.extension
    scene = extension.NODE_FILES[extension._scene]
    nodes = extension.load_nodes({moved_away: ("EgoXGone",), extension._scene: scene})
    assert tuple(node.__name__ for node in nodes) == scene and "EgoXGone" in caplog.text
