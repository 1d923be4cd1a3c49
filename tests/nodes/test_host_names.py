"""Test that all names of ComfyUI that the pack relies on exist."""

import functools
import types
from importlib import import_module

import pytest


@pytest.fixture(scope="module")
def names_module(pack) -> types.ModuleType:
    from egox_pack.nodes.host import names

    return names


def test_no_name_is_missing_in_this_comfyui(names_module):
    messages: list[str] = []
    names_module.log_missing_names(messages.append)
    assert names_module.list_missing_names() == {}
    assert not messages


def test_each_missing_name_is_reported(names_module, monkeypatch):
    name_exists = names_module.name_exists
    for lost_feature, listed_names in names_module.SILENT_NAMES.items():
        for missing_name in listed_names:
            monkeypatch.setattr(
                names_module,
                "name_exists",
                lambda name, missing_name=missing_name: name != missing_name and name_exists(name),
            )
            messages: list[str] = []
            names_module.log_missing_names(messages.append)
            assert (
                names_module.list_missing_names() == {lost_feature: [missing_name]}
                and missing_name in messages[0]
                and lost_feature in messages[0]
            )


def test_each_form_of_a_name_is_checked(names_module, monkeypatch, tmp_path):
    (tmp_path / "egox_test_host.py").write_text(
        "class A:\n    K = 1\n    def __init__(self, b, c=2):\n        self.inside = {'key': b}\n"
        "    def f(self, x, y, z=0):\n        def g():\n            return h(keyword=x)\n        "
        "return g\n"
        "def loose(first, second): pass\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("egox_test_host", "egox_no_such_host"):
        monkeypatch.setitem(names_module.MODULES, module, functools.partial(import_module, module))
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
        assert names_module.name_exists(name) is exists, name


def test_a_file_that_cannot_be_imported_only_loses_its_nodes(pack, caplog):
    def import_failing_module() -> types.ModuleType:
        raise ImportError("moved away")

    extension = pack.nodes.extension
    scene_node_names = extension.NODE_FILES[extension._scene]
    nodes = extension.load_nodes(
        {import_failing_module: ("EgoXGone",), extension._scene: scene_node_names}
    )
    assert tuple(node.__name__ for node in nodes) == scene_node_names
    assert "EgoXGone" in caplog.text
