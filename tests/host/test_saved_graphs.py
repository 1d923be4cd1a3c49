"""Graphs that users saved with older versions of the pack still load and run.

``saved/`` holds two shipped ones of commit d7ee529: one with the host's text encoder alone, one with EgoX Prompt.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools.setup.api_client import ApiClient
from tools.setup.base_dir import BaseDir
from tools.setup.workflow import BYPASSED, to_prompt

from .prompts import of_type, with_standins
from .test_shipped_workflows import check_run, small

SAVED = Path(__file__).with_name("saved")
NAMES = sorted(path.stem for path in SAVED.glob("*.json"))


def read(name: str) -> dict[str, Any]:
    return json.loads((SAVED / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_outputs_stand_where_they_stood(name: str, object_info: dict[str, Any]) -> None:
    """Saved links count outputs, saved values count widgets: what is new must come last."""
    ours = [node for node in read(name)["nodes"] if node["type"].startswith("EgoX")]
    assert len(ours) >= 8
    for node in ours:
        info = object_info[node["type"]]
        outputs = [(output["name"], output["type"]) for output in node["outputs"]]
        now = list(zip(info["output_name"], info["output"], strict=True))
        assert now[:len(outputs)] == outputs, node["type"]
        widgets = [entry["name"] for entry in node["inputs"] if "widget" in entry]
        order = [key for part in ("required", "optional") for key in info["input"].get(part, {})]
        places = [order.index(name) for name in widgets if "." not in name]
        assert places == sorted(places), f"{node['type']}: the order of its widgets changed"


@pytest.mark.parametrize("name", NAMES)
def test_it_still_runs(client: ApiClient, object_info: dict[str, Any], server_base: BaseDir, name: str) -> None:
    saved = read(name)
    for node in saved["nodes"]:
        if re.match("LoadMoGe|MoGe|LoadDA3|DA3|SAM3|CheckpointLoaderSimple", node["type"]):
            node["mode"] = BYPASSED
    prompt = with_standins(small(to_prompt(saved, object_info)))
    prompt = {node_id: node for node_id, node in prompt.items() if node["_meta"]["title"] != "What moves"}
    assert "EgoXText" not in {node["class_type"] for node in prompt.values()}
    assert of_type(prompt, "EgoXWanSampler")["sampler"] == "released"
    check_run(client, prompt, server_base, {"ego", "prior"})
