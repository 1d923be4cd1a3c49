"""The editor's workflow JSON to the API's prompt."""

from __future__ import annotations

import pytest

from tools.setup.layout import SetupError
from tools.setup.workflow import to_prompt

INFO = {
    "Load": {"input": {"required": {"file": ["COMBO", {"options": ["a.mp4", "b.mp4"], "video_upload": True}]},
                       "optional": {"count": ["INT", {"default": 49}]}},
             "input_order": {"required": ["file"], "optional": ["count"]}},
    "Sample": {"input": {"required": {
        "model": ["MODEL", {}], "seed": ["INT", {"default": 0}], "steps": ["INT", {"default": 20}],
        "name": [["euler", "heun"], {"control_after_generate": True}], "cfg": ["FLOAT", {"default": 5.0}],
        "latent": ["LATENT", {}]}, "optional": {"points": ["MY_EDITOR", {}], "note": ["STRING", {"default": "none"}]}}},
    "Save": {"input": {"required": {
        "video": ["VIDEO"], "prefix": ["STRING", {"default": "x"}],
        "codec": ["COMFY_DYNAMICCOMBO_V3", {"options": [
            {"key": "auto", "inputs": {"required": {}}},
            {"key": "h264", "inputs": {"required": {"crf": ["FLOAT", {"default": 23.0}]}, "optional": {
                "mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [
                    {"key": "fast", "inputs": {"required": {}}},
                    {"key": "slow", "inputs": {"required": {"tries": ["INT", {"default": 1}]}}}]}]}}}]}],
        "tail": ["BOOLEAN", {"default": False}]}}},
    "Model": {"input": {"required": {"strength": ["FLOAT", {"default": 1.0}]}, "optional": {"model": ["MODEL", {}]}}},
}


def node(number, kind, values=(), inputs=(), outputs=(), mode=0, **more):
    return {"id": number, "type": kind, "mode": mode, "widgets_values": list(values),
            "inputs": [dict(zip(("name", "type", "link", "widget"), entry, strict=False)) for entry in inputs],
            "outputs": [{"name": kind, "type": kind} for kind in outputs], **more}


def graph(*nodes, links=()):
    return {"nodes": list(nodes), "links": [list(link) for link in links]}


def test_widget_values_in_the_editors_order() -> None:
    sample = node(1, "Sample", [7, "randomize", 12, "heun", "fixed", "", 3.5, {"path": [1, 2]}, "text"],
                  [("points", "MY_EDITOR", None, {"name": "points"})])
    inputs = to_prompt(graph(sample), INFO)["1"]["inputs"]
    assert inputs == {"seed": 7, "steps": 12, "name": "heun", "cfg": 3.5, "points": {"path": [1, 2]}, "note": "text"}


def test_a_node_packs_own_socket_is_no_widget() -> None:
    sample = node(1, "Sample", [7, "fixed", 12, "heun", "fixed", "", 3.5, "text"], [("points", "MY_EDITOR", None)])
    assert to_prompt(graph(sample), INFO)["1"]["inputs"]["note"] == "text"


def test_upload_button_is_saved_after_all_widgets() -> None:
    assert to_prompt(graph(node(1, "Load", ["b.mp4", 17, "image"])), INFO)["1"]["inputs"] == {
        "file": "b.mp4", "count": 17}


def test_missing_values_get_defaults() -> None:
    assert to_prompt(graph(node(1, "Load")), INFO)["1"]["inputs"] == {"file": "a.mp4", "count": 49}


def test_values_saved_by_name() -> None:
    load = node(1, "Load")
    load["widgets_values"] = {"count": 5, "upload": "image"}
    assert to_prompt(graph(load), INFO)["1"]["inputs"] == {"file": "a.mp4", "count": 5}


@pytest.mark.parametrize(("values", "expected"), [
    (["p", "auto", True], {"prefix": "p", "codec": "auto", "tail": True}),
    (["p", "h264", 18.0, "fast", True],
     {"prefix": "p", "codec": "h264", "codec.crf": 18.0, "codec.mode": "fast", "tail": True}),
    (["p", "h264", 18.0, "slow", 4, True],
     {"prefix": "p", "codec": "h264", "codec.crf": 18.0, "codec.mode": "slow", "codec.mode.tries": 4, "tail": True}),
])
def test_dynamic_combos_bring_their_widgets_along(values, expected) -> None:
    assert to_prompt(graph(node(1, "Save", values)), INFO)["1"]["inputs"] == expected


def test_lists_are_wrapped() -> None:
    sample = node(1, "Sample", [7, "fixed", 12, "heun", "fixed", "", 3.5, [[0, 1]]],
                  [("points", "MY_EDITOR", None, {"name": "points"})])
    assert to_prompt(graph(sample), INFO)["1"]["inputs"]["points"] == {"__value__": [[0, 1]]}


def test_links_win_over_widget_values() -> None:
    made = to_prompt(graph(
        node(1, "Model", [0.5], outputs=["MODEL"]),
        node(2, "Sample", [7, "fixed", 12, "heun", "fixed", "", 3.5],
             [("model", "MODEL", 10), ("seed", "INT", 11, {"name": "seed"})]),
        node(3, "Model", [0.5], outputs=["MODEL", "INT"]),
        links=[(10, 1, 0, 2, 0, "MODEL"), (11, 3, 1, 2, 1, "INT")]), INFO)
    assert made["2"]["inputs"]["model"] == ["1", 0] and made["2"]["inputs"]["seed"] == ["3", 1]
    assert made["2"]["inputs"]["steps"] == 12


def test_links_as_objects() -> None:
    made = to_prompt({"nodes": [node(1, "Model", [1.0], outputs=["MODEL"]),
                                node(2, "Model", [1.0], [("model", "MODEL", 4)])],
                      "links": [{"id": 4, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0}]}, INFO)
    assert made["2"]["inputs"]["model"] == ["1", 0]


def chain(mode: int):
    """1 -> 2 (in ``mode``) -> 3."""
    return graph(node(1, "Model", [1.0], outputs=["MODEL"]),
                 node(2, "Model", [0.3], [("strength", "FLOAT", None), ("model", "MODEL", 5)], ["MODEL"], mode=mode),
                 node(3, "Model", [1.0], [("model", "MODEL", 6)]),
                 links=[(5, 1, 0, 2, 1, "MODEL"), (6, 2, 0, 3, 0, "MODEL")])


def test_a_bypassed_node_passes_through_by_type() -> None:
    made = to_prompt(chain(4), INFO)
    assert set(made) == {"1", "3"} and made["3"]["inputs"]["model"] == ["1", 0]


def test_a_muted_node_cuts_its_links() -> None:
    made = to_prompt(chain(2), INFO)
    assert set(made) == {"1", "3"} and "model" not in made["3"]["inputs"]


def test_a_bypassed_source_without_a_fitting_input_cuts_the_link() -> None:
    made = to_prompt(graph(node(1, "Load", ["a.mp4"], outputs=["VIDEO"], mode=4),
                           node(2, "Save", ["p", "auto"], [("video", "VIDEO", 1)]),
                           links=[(1, 1, 0, 2, 0, "VIDEO")]), INFO)
    assert set(made) == {"2"} and "video" not in made["2"]["inputs"]


def test_reroutes_primitives_and_notes_leave_no_node() -> None:
    made = to_prompt(graph(
        node(1, "Model", [1.0], outputs=["MODEL"]),
        node(2, "Reroute", [], [("", "*", 1)], ["MODEL"]),
        node(3, "Reroute", [], [("", "*", 2)], ["MODEL"]),
        node(4, "Sample", [7, "fixed", 12, "heun", "fixed", "", 3.5],
             [("model", "MODEL", 3), ("steps", "INT", 4, {"name": "steps"})]),
        node(5, "PrimitiveNode", [30, "fixed"], [], ["INT"]),
        node(6, "Note", ["hello"]), node(7, "MarkdownNote", ["hello"]),
        links=[(1, 1, 0, 2, 0, "MODEL"), (2, 2, 0, 3, 0, "MODEL"), (3, 3, 0, 4, 0, "MODEL"),
               (4, 5, 0, 4, 1, "INT")]), INFO)
    assert set(made) == {"1", "4"}
    assert made["4"]["inputs"]["model"] == ["1", 0] and made["4"]["inputs"]["steps"] == 30


def test_an_unknown_node_type_is_named() -> None:
    with pytest.raises(SetupError, match="EgoXOfTomorrow"):
        to_prompt(graph(node(1, "EgoXOfTomorrow")), INFO)


def subgraph(*nodes, links, inputs=(), outputs=(), identity="inner"):
    """A definition; its inputs and outputs are (name, ids of the links inside)."""
    return {"id": identity, "name": identity, "inputNode": {"id": -10}, "outputNode": {"id": -20}, "nodes": list(nodes),
            "inputs": [{"name": name, "linkIds": ids} for name, ids in inputs],
            "outputs": [{"name": name, "linkIds": ids} for name, ids in outputs],
            "links": [dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot"), link, strict=True))
                      for link in links]}


def model_inside(mode: int = 0) -> dict:
    """A model in and out; the strength of the node between them is promoted as "how much"."""
    return subgraph(node(7, "Model", [0.25], [("strength", "FLOAT", 2, {"name": "strength"}), ("model", "MODEL", 1)],
                         ["MODEL"], mode=mode),
                    links=[(1, -10, 0, 7, 1), (2, -10, 1, 7, 0), (3, 7, 0, -20, 0)],
                    inputs=[("model", [1]), ("how much", [2])], outputs=[("model", [3])])


def around(definition: dict, *others: dict, values=(), mode: int = 0, strength_link=None, links=()) -> dict:
    """1 -> 2, a node that is a subgraph -> 3."""
    host = node(2, definition["id"], values, [("model", "MODEL", 5), ("how much", "FLOAT", strength_link,
                                                                       {"name": "how much"})], ["MODEL"], mode=mode)
    first, last = node(1, "Model", [1.0], outputs=["MODEL", "FLOAT"]), node(3, "Model", [1.0], [("model", "MODEL", 6)])
    return graph(first, host, last, links=[(5, 1, 0, 2, 0, "MODEL"), (6, 2, 0, 3, 0, "MODEL"), *links]) | {
        "definitions": {"subgraphs": [definition, *others]}}


def test_a_subgraph_becomes_its_inner_nodes() -> None:
    made = to_prompt(around(model_inside()), INFO)
    assert set(made) == {"1", "2:7", "3"}
    assert made["2:7"]["inputs"] == {"strength": 0.25, "model": ["1", 0]} and made["3"]["inputs"]["model"] == ["2:7", 0]


def test_the_value_of_a_promoted_widget_is_the_outer_one() -> None:
    assert to_prompt(around(model_inside(), values=[0.8]), INFO)["2:7"]["inputs"]["strength"] == 0.8
    assert to_prompt(around(model_inside(), values=[None]), INFO)["2:7"]["inputs"]["strength"] == 0.25
    linked = around(model_inside(), values=[0.8], strength_link=9, links=[(9, 1, 1, 2, 1, "FLOAT")])
    assert to_prompt(linked, INFO)["2:7"]["inputs"]["strength"] == ["1", 1]


def test_a_promoted_value_goes_to_all_that_hang_on_it() -> None:
    inner = model_inside()
    inner["nodes"].append(node(8, "Sample", [7, "fixed", 12, "heun", "fixed", "", 3.5], [("cfg", "FLOAT", 4)]))
    inner["links"].append({"id": 4, "origin_id": -10, "origin_slot": 1, "target_id": 8, "target_slot": 0})
    inner["inputs"][1]["linkIds"].append(4)
    assert to_prompt(around(inner), INFO)["2:8"]["inputs"]["cfg"] == 0.25


def test_subgraphs_in_subgraphs() -> None:
    host = node(4, "inner", [0.5], [("model", "MODEL", 1), ("how much", "FLOAT", 2, {"name": "how much"})], ["MODEL"])
    outer = subgraph(host, links=[(1, -10, 0, 4, 0), (2, -10, 1, 4, 1), (3, 4, 0, -20, 0)], identity="outer",
                     inputs=[("model", [1]), ("how much", [2])], outputs=[("model", [3])])
    for values, strength in (((), 0.5), ((0.9,), 0.9)):
        made = to_prompt(around(outer, model_inside(), values=values), INFO)
        assert made["2:4:7"]["inputs"] == {"strength": strength, "model": ["1", 0]}
        assert made["3"]["inputs"]["model"] == ["2:4:7", 0]


@pytest.mark.parametrize(("outside", "inside", "source"), [
    (4, 0, ["1", 0]), (0, 4, ["1", 0]), (4, 4, ["1", 0]), (2, 0, None), (0, 2, None)])
def test_subgraphs_bypassed_and_muted(outside: int, inside: int, source) -> None:
    made = to_prompt(around(model_inside(inside), mode=outside), INFO)
    assert set(made) == {"1", "3"} and made["3"]["inputs"].get("model") == source


def test_values_as_older_frontends_keep_them() -> None:
    inner = model_inside()
    inner["nodes"].append(node(8, "Sample", [7, "fixed", 12, "heun", "fixed", "", 3.5]))
    saved = around(inner, values=[30, 0.6])
    saved["nodes"][1]["properties"] = {"proxyWidgets": [["8", "steps"], ["-1", "how much"]]}
    made = to_prompt(saved, INFO)
    assert made["2:8"]["inputs"]["steps"] == 30 and made["2:7"]["inputs"]["strength"] == 0.6


def test_a_subgraph_that_holds_itself_is_refused() -> None:
    endless = subgraph(node(4, "inner"), links=[])
    with pytest.raises(SetupError, match="holds itself"):
        to_prompt(graph(node(1, "inner")) | {"definitions": {"subgraphs": [endless]}}, INFO)


def test_a_muted_source_leaves_the_widget_its_value() -> None:
    made = to_prompt(graph(node(1, "Load", ["a.mp4"], outputs=["INT"], mode=2),
                           node(2, "Sample", [7, "fixed", 12, "heun", "fixed", "", 3.5],
                                [("steps", "INT", 4, {"name": "steps"})]), links=[(4, 1, 0, 2, 0, "INT")]), INFO)
    assert made["2"]["inputs"]["steps"] == 12
