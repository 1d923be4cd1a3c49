"""Where the shipped workflows' nodes stand, and their thumbnails."""

from __future__ import annotations

import pytest

from tools.workflows.graph import Graph
from tools.workflows.layout import Block, arrange

INFO = {"Load": {"input": {"required": {"file": ["STRING", {"default": "x"}]}}, "output": ["IMAGE"],
                 "output_name": ["image"]},
        "List": {"input": {"required": {"inputs": ["COMFY_AUTOGROW_V3", {"template": {"prefix": "input"}}]}},
                 "output": ["*"], "output_name": ["list"]}}


def graph_of(count: int) -> Graph:
    graph = Graph(INFO)
    for _ in range(count):
        graph.add("Load", 200, 100)
    return graph


def test_blocks_stand_apart_and_hold_their_nodes() -> None:
    graph = graph_of(4)
    one, two, three, four = graph.nodes
    arrange(graph, [[Block("a", [[one, two]]), Block("b", [[three]])], [Block("", [[four]])]], {2: 400.0})
    assert two.size == (200, 400) and one.size == (200, 100), "what is drawn higher gets its room"
    assert one.pos[1] + one.size[1] < two.pos[1] - 30 and four.pos[1] > two.pos[1] + 400
    (a, b) = graph.groups
    assert [a["title"], b["title"]] == ["a", "b"], "a block without a title has no frame"
    assert a["bounding"][0] + a["bounding"][2] < b["bounding"][0] and a["bounding"][3] == b["bounding"][3]
    x, y, w, h = a["bounding"]
    assert x <= one.pos[0] and two.pos[1] + two.size[1] <= y + h and one.pos[0] + 200 <= x + w


def test_no_node_is_forgotten_or_placed_twice() -> None:
    graph = graph_of(2)
    with pytest.raises(ValueError, match=r"nodes \[2\] stand in no block"):
        arrange(graph, [[Block("a", [[graph.nodes[0]]])]])
    with pytest.raises(ValueError, match="two blocks"):
        arrange(graph, [[Block("a", [graph.nodes, [graph.nodes[0]]])]])


def test_an_input_that_grows() -> None:
    graph = graph_of(2)
    gathered = graph.add("List", **{f"inputs.input{i}": (node, "image") for i, node in enumerate(graph.nodes[:2])})
    arrange(graph, [[Block("a", [graph.nodes])]])
    saved = graph.to_json("id")
    slots = saved["nodes"][gathered.number - 1]["inputs"]
    assert [slot["name"] for slot in slots] == ["inputs.input0", "inputs.input1", "inputs.input2"]
    assert [slot["link"] for slot in slots] == [1, 2, None]
