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


def test_subgraphs_are_refused() -> None:
    with pytest.raises(SetupError, match="subgraphs"):
        to_prompt({"nodes": [], "links": [], "definitions": {"subgraphs": [{"id": "x"}]}}, INFO)
