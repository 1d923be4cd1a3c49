"""The form in which a shipped workflow opens: rows that exist, at most ten, under names that say something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.rigs.comfy_page import shipped_workflows
from tools.workflows.form import MOST, ROWS

WORKFLOWS = list(shipped_workflows(Path(__file__).resolve().parent.parent.parent).values())
OF_SCRIPTS = {(row.kind, row.widget) for row in ROWS if not row.label}


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
