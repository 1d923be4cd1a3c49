"""Subgraphs as the builder writes them: read back by the converter, numbered once, promoted widgets in their order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flat_graph import flat
from tools.setup.workflow import nodes_of, to_prompt
from tools.workflows.graph import PLAYER, Graph
from tools.workflows.layout import Block, Frame, arrange, place

INFO = {"Load": {"input": {"required": {"file": ["STRING", {"default": "x"}]}}, "output": ["IMAGE", "FLOAT"],
                 "output_name": ["image", "fps"]},
        "Blur": {"input": {"required": {"image": ["IMAGE", {}], "seed": ["INT", {"default": 7}],
                                        "text": ["STRING", {"default": "a"}]}},
                 "output": ["IMAGE"], "output_name": ["image"]},
        "Save": {"input": {"required": {"image": ["IMAGE", {}]}}, "output": [], "output_name": []}}


def described() -> dict[str, Any]:
    graph = Graph(INFO, "test")
    load = graph.add("Load")
    inside = graph.subgraph("Two blurs", "Blurs twice.")
    first = inside.add("Blur", image=inside.take("image", "IMAGE"), text="first", seed=11)
    second = inside.add("Blur", image=(first, "image"), text="second")
    inside.promote(first, "seed")
    inside.promote(second, "text", "second text", label="Text")
    inside.promote_player(second, "Blurred")
    inside.give("image", (second, "image"))
    outer = graph.add_subgraph(inside, image=(load, "image"))
    second.values["text"] = "changed later"
    saved = graph.add("Save", image=(outer, "image"))
    arrange(inside, [[Block("Blurs", [[first, second]])]])
    place(graph, [Frame("All", 0, 0, [load, outer, saved])], {})
    return graph.to_json("id")


def test_the_converter_reads_it() -> None:
    saved = described()
    outer = saved["nodes"][1]
    assert [slot["name"] for slot in outer["inputs"]] == ["image", "seed", "second text", PLAYER]
    assert outer["widgets_values"] == [11, "changed later"], "the player has no value, and comes last"
    outer["widgets_values"] = [12, "mine"]
    prompt = to_prompt(saved, INFO)
    first, second = (f"{outer['id']}:{node['id']}" for node in saved["definitions"]["subgraphs"][0]["nodes"])
    assert prompt[first]["inputs"] == {"image": [str(saved["nodes"][0]["id"]), 0], "seed": 12, "text": "first"}
    assert prompt[second]["inputs"] == {"image": [first, 0], "seed": 7, "text": "mine"}
    assert prompt[str(saved["nodes"][2]["id"])]["inputs"] == {"image": [second, 0]}


def test_what_nobody_would_see_is_not_promoted() -> None:
    info = {**INFO, "Blur": {**INFO["Blur"], "input": {"required": {"seed": ["INT", {"advanced": True}]}}}}
    inside = Graph(info, "test").subgraph("Blurs", "")
    with pytest.raises(ValueError, match="seed of Blur is advanced"):
        inside.promote(inside.add("Blur"), "seed")


def test_no_number_stands_twice_in_a_file() -> None:
    saved = described()
    (inside,) = saved["definitions"]["subgraphs"]
    numbers = [node["id"] for node in nodes_of(saved)]
    links = [*(link[0] for link in saved["links"]), *(link["id"] for link in inside["links"])]
    assert len(set(numbers)) == len(numbers) == 5 and max(numbers) == saved["last_node_id"]
    assert len(set(links)) == len(links) and max(links) == saved["last_link_id"]


def test_taken_apart_it_is_the_same_graph() -> None:
    saved = described()
    whole, apart = to_prompt(saved, INFO), to_prompt(flat(saved), INFO)
    plain = {node_id.rpartition(":")[2]: node | {"inputs": {
        name: [value[0].rpartition(":")[2], value[1]] if isinstance(value, list) else value
        for name, value in node["inputs"].items()}} for node_id, node in whole.items()}
    assert apart == plain
