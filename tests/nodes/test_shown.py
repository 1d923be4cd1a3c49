"""Test that nodes make previews only if a page shows them."""

import re
import sys

from egox_core.safe_files import read_json
from tests.paths import ROOT


def test_without_a_page_nodes_make_no_preview(pack, monkeypatch):
    from egox_pack.nodes import show, study

    monkeypatch.setitem(sys._xoptions, "egox_show", "0")
    monkeypatch.setattr(study, "result_views", show._import_results())
    output = study.EgoXSweep.execute("0, 3", "1")
    assert output.ui is None and len(output.result[0]) == 2


def test_every_player_of_the_page_is_of_a_node_and_has_its_texts(pack):
    page_script = (ROOT / "web" / "js" / "previews.js").read_text(encoding="utf-8")
    player_by_node = dict(re.findall(r'^  (EgoX\w+): "(\w+)",$', page_script, re.M))
    schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in pack.nodes.extension.NODES}
    shown_again = {  # where a run comes from the cache
        name
        for name, schema in schemas.items()
        if schema.is_output_node or schema.has_intermediate_output
    }
    assert player_by_node.keys() - shown_again == {"EgoXWanSampler"}
    assert player_by_node.keys() <= schemas.keys()
    texts = read_json(ROOT / "locales" / "en" / "main.json")["egox"]["previews"]
    names = {f"{key}{suffix}" for key in ("empty", "label") for suffix in player_by_node.values()}
    assert names <= texts.keys()
