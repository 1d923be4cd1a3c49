"""The form in which a shipped workflow opens: rows that exist, at most ten, under names that say something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.rigs.comfy_page import shipped_workflows
from tools.workflows.form import MOST, ROWS, add_form
from tools.workflows.graph import Graph

WORKFLOWS = list(shipped_workflows(Path(__file__).resolve().parent.parent.parent).values())
OF_SCRIPTS = {(row.kind, row.widget) for row in ROWS if not row.label}
INFO = {"EgoXWanSampler": {"input": {"required": {"lambda_g": ["FLOAT", {"default": 3.0}],
                                                  "steps": ["INT", {"default": 50}],
                                                  "seed": ["INT", {"default": 0}]}},
                           "output": ["LATENT"], "output_name": ["latent"]},
        "EgoXLoadExoVideo": {"input": {"required": {"file": [["a.mp4"], {}]}}, "output": [], "output_name": []},
        "EgoXSweep": {"input": {"required": {"lambda_g": ["STRING", {"default": "0, 1"}],
                                             "strength": ["STRING", {"default": "1"}]}},
                      "output": ["FLOAT"], "output_name": ["λ_g"]},
        "SaveVideo": {"input": {"required": {"prefix": ["STRING", {"default": "x"}]}}, "output": [], "output_name": []}}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_row_is_a_widget_that_can_be_set(path: Path) -> None:
    saved = json.loads(path.read_text(encoding="utf-8"))
    nodes: dict[int, dict[str, Any]] = {node["id"]: node for node in saved["nodes"]}
    form = saved["extra"]["linearData"]
    assert saved["extra"]["linearMode"] is True and 5 <= len(form["inputs"]) <= MOST
    kinds = [(nodes[number]["type"], widget) for number, widget in form["inputs"]]
    assert kinds[0] == ("EgoXLoadExoVideo", "file") and ("EgoXEgoPoseInput", "egox_pose_editor") in kinds
    assert {"egox_upload", "lambda_g", "strength", "steps"} <= {widget for _, widget in kinds}
    for (number, widget), (kind, _) in zip(form["inputs"], kinds, strict=True):
        assert nodes[number]["mode"] == 0
        if (kind, widget) in OF_SCRIPTS:
            continue
        (entry,) = [entry for entry in nodes[number]["inputs"] if entry["name"] == widget]
        assert entry["widget"] == {"name": widget} and entry["link"] is None and entry["label"], (kind, widget)
    inside = {entry["id"]: entry["nodes"] for entry in saved["definitions"]["subgraphs"]}
    for number in form["outputs"]:
        node = nodes[number]
        assert "SaveVideo" in {node["type"], *(inner["type"] for inner in inside.get(node["type"], []))}
    assert form["outputs"]


def test_what_a_wire_gives_or_nobody_runs_is_no_row() -> None:
    graph = Graph(INFO)
    sweep = graph.add("EgoXSweep")
    graph.add("EgoXWanSampler", lambda_g=(sweep, "λ_g"))
    graph.add("EgoXWanSampler", bypassed=True)
    first, last = graph.add("SaveVideo"), graph.add("SaveVideo")
    add_form(graph)
    saved = graph.to_json("id")["extra"]["linearData"]
    assert saved["inputs"] == [[1, "lambda_g"], [1, "strength"], [2, "steps"], [2, "seed"]]
    assert saved["outputs"] == [last.number, first.number]


def test_a_form_that_nobody_overlooks_is_refused() -> None:
    graph = Graph(INFO)
    for _ in range(MOST):
        graph.add("EgoXWanSampler")
    with pytest.raises(ValueError, match=f"a form of {3 * MOST} rows"):
        add_form(graph)


def test_two_nodes_of_a_kind_are_told_apart() -> None:
    graph = Graph(INFO)
    one, two = graph.add("EgoXWanSampler"), graph.add("EgoXWanSampler", title="Second")
    add_form(graph)
    assert one.labels["steps"] == "Steps" and two.labels["steps"] == "Steps (Second)"
