"""Test that nodes make previews only if a page shows them."""

import ast
import re
import sys
from pathlib import Path

from egox_core.safe_files import read_json
from tests.paths import ROOT


def test_without_a_page_nodes_make_no_preview(pack, monkeypatch):
    from egox_pack.nodes import show, study

    monkeypatch.setitem(sys._xoptions, "egox_show", "0")
    monkeypatch.setattr(study, "result_views", show._import_results())
    output = study.EgoXSweep.execute("0, 3", "1")
    assert output.ui is None and len(output.result[0]) == 2


def called_names(tree: ast.AST) -> set[str]:
    """List the names of all functions that a piece of code calls."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {ast.unparse(func) for func in functions}


def top_level_definitions(path: Path) -> dict[str, ast.AST]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    }


def test_every_node_that_returns_a_preview_has_a_player_on_the_page():
    results = top_level_definitions(ROOT / "nodes" / "show" / "results.py")
    players = {
        f"result_views.{name}"
        for name, definitions in results.items()
        if "preview_ui" in called_names(definitions)
    }
    players.add("result_views.live")  # sent by messages while a node runs
    node_names, nodes_with_player = set(), set()
    for path in (ROOT / "nodes").glob("*.py"):
        definitions = top_level_definitions(path)
        showing_classes = {
            name for name, piece in definitions.items() if called_names(piece) & players
        }
        node_names |= {
            name
            for name, piece in definitions.items()
            if name.startswith("EgoX")
            and (name in showing_classes or called_names(piece) & showing_classes)
        }
        nodes_with_player |= {
            name
            for name, piece in definitions.items()
            if re.search(r"(has_intermediate_output|is_output_node)=True", ast.unparse(piece))
        }
    page_script = (ROOT / "web" / "js" / "previews.js").read_text(encoding="utf-8")
    player_by_node = dict(re.findall(r'^  (EgoX\w+): "(\w+)",$', page_script, re.M))
    assert node_names == player_by_node.keys()
    assert "EgoXSecondEye" in node_names
    assert node_names - nodes_with_player == {"EgoXWanSampler"}, (
        "shown again where a run comes from the cache"
    )
    texts = read_json(ROOT / "locales" / "en" / "main.json")["egox"]["previews"]
    assert {
        f"{key}{suffix}" for key in ("empty", "label") for suffix in player_by_node.values()
    } <= texts.keys()
