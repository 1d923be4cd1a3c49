"""Subgraphs as the builder writes them: numbered once, promoted widgets in their order, and their API form."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flat_graph import flat, nodes_of
from tools.setup.node_inputs import BYPASSED
from tools.workflows.graph import PLAYER, Graph
from tools.workflows.layout import Block, Frame, arrange, place

INFO = {"Load": {"input": {"required": {"file": ["STRING", {"default": "x"}]}}, "output": ["IMAGE", "FLOAT"],
                 "output_name": ["image", "fps"]},
        "Blur": {"input": {"required": {"image": ["IMAGE", {}], "seed": ["INT", {"default": 7}],
                                        "text": ["STRING", {"default": "a"}]}},
                 "output": ["IMAGE"], "output_name": ["image"]},
        "Save": {"input": {"required": {"image": ["IMAGE", {}]}}, "output": [], "output_name": []}}


def built() -> Graph:
    graph = Graph(INFO, "test")
    load = graph.add("Load")
    inside = graph.subgraph("Two blurs", "Blurs twice.")
    first = inside.add("Blur", image=inside.take("image", "IMAGE"), text="first", seed=11)
    second = inside.add("Blur", image=(first, "image"), text="second")
    inside.promote(first, "seed")
    inside.promote(second, "text", "second text", label="Text")
    inside.promote_player(second, "Blurred")
    inside.give("image", (second, "image"))
    outer = graph.add_subgraph(inside, image=(load, "image"), seed=12)
    second.values["text"] = "changed later"
    saved = graph.add("Save", image=(outer, "image"))
    arrange(inside, [[Block("Blurs", [[first, second]])]])
    place(graph, [Frame("All", 0, 0, [load, outer, saved])], {})
    return graph


def described() -> dict[str, Any]:
    return built().to_json("id")


def test_promoted_widgets_stand_on_the_node_in_their_order() -> None:
    outer = described()["nodes"][1]
    assert [slot["name"] for slot in outer["inputs"]] == ["image", "seed", "second text", PLAYER]
    assert outer["widgets_values"] == [12, "changed later"], "the player has no value, and comes last"


def test_the_api_form_has_the_inner_nodes_with_the_outer_values() -> None:
    graph = built()
    (load, outer, save), (inside,) = graph.nodes, graph.insides.values()
    first, second = (f"{outer.number}:{node.number}" for node in inside.nodes)
    prompt = graph.to_prompt()
    assert prompt.keys() == {str(load.number), first, second, str(save.number)}
    assert prompt[first]["inputs"] == {"image": [str(load.number), 0], "seed": 12, "text": "first"}
    assert prompt[second]["inputs"] == {"image": [first, 0], "seed": 7, "text": "changed later"}
    assert prompt[str(save.number)]["inputs"] == {"image": [second, 0]}


def test_a_bypassed_node_and_its_links_are_not_in_the_api_form() -> None:
    graph = built()
    (inside,) = graph.insides.values()
    inside.nodes[0].mode = BYPASSED
    prompt = graph.to_prompt()
    assert len(prompt) == 3 and prompt[f"{inside.path}{inside.nodes[1].number}"]["inputs"] == {
        "seed": 7, "text": "changed later"}


def test_a_linked_widget_has_the_link_and_a_dynamic_choice_its_own_inputs() -> None:
    codecs = [{"key": "h264", "inputs": {"required": {"crf": ["INT", {"default": 20}]}}}, {"key": "raw", "inputs": {}}]
    graph = Graph({**INFO, "Encode": {"output": [], "output_name": [], "input": {"required": {
        "codec": ["COMFY_DYNAMICCOMBO_V3", {"options": codecs}], "fps": ["FLOAT", {"default": 1.0}]}}}})
    load = graph.add("Load")
    graph.add("Encode", fps=(load, "fps"))
    graph.add("Encode", codec="raw")
    assert [node["inputs"] for node in graph.to_prompt().values()][1:] == [
        {"codec": "h264", "codec.crf": 20, "fps": [str(load.number), 1]}, {"codec": "raw", "fps": 1.0}]


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


def test_taken_apart_all_nodes_stand_on_the_canvas() -> None:
    saved = described()
    apart = flat(saved)
    kinds = {node["id"]: node["type"] for node in apart["nodes"]}
    assert sorted(kinds.values()) == ["Blur", "Blur", "Load", "Save"]
    assert [(kinds[link[1]], kinds[link[3]]) for link in sorted(apart["links"], key=lambda link: link[3])] == [
        ("Load", "Blur"), ("Blur", "Blur"), ("Blur", "Save")]
