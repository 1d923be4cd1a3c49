"""Replace weights and detectors of shipped graphs by stand-ins."""

import copy
from typing import Any

from tests.flat_graph import all_nodes
from tests.prompts import DETECTORS, STANDIN_LOADERS

LANGUAGE_MODEL = "qwen3vl"


def use_known_detectors(saved_graph: dict[str, Any]) -> dict[str, Any]:
    """Replace a graph's detectors by nodes with known answers."""
    saved_graph = copy.deepcopy(saved_graph)
    standin_by_file: dict[
        str, str
    ] = {}  # a real file's name, also where a subgraph's node shows it -> the stand-in's
    for node in all_nodes(saved_graph):
        node_type = node["type"]
        values = node.get("widgets_values") or []
        if (
            node_type in DETECTORS
            or node_type == "CLIPLoader"
            and values[0].startswith(LANGUAGE_MODEL)
        ):
            node["type"] = f"EgoXTests{node_type}"
        elif node_type in STANDIN_LOADERS:
            standin_class = STANDIN_LOADERS[node_type][0]
            (name,) = STANDIN_LOADERS[node_type][1].values()
            standin_by_file[values[0]] = name
            if standin_class is not None:
                node["type"] = standin_class
                node["widgets_values"] = [name]
                node["inputs"] = [slot for slot in node["inputs"] if slot["name"] == "clip_name"]
        node.get("properties", {}).pop("models", None)
    for node in all_nodes(saved_graph):
        values = node.get("widgets_values") or []
        node["widgets_values"] = [
            standin_by_file.get(value, value) if isinstance(value, str) else value
            for value in values
        ]
    return saved_graph
