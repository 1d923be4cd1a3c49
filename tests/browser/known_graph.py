"""A shipped graph as it is saved, with stand-ins for its weights and detectors that know the
answer."""

import copy
from typing import Any

from tests.flat_graph import all_nodes
from tests.host.prompts import STANDIN_LOADERS

DETECTORS = frozenset(
    {
        "CheckpointLoaderSimple",
        "CLIPTextEncode",
        "SAM3_VideoTrack",
        "SAM3_Detect",
        "SDPoseKeypointExtractor",
        "LoadMoGeModel",
        "MoGeInference",
        "LoadDA3Model",
        "DA3Inference",
        "TextGenerate",
    }
)
"""Nodes that tests/standin_nodes has under a name of its own."""
LANGUAGE_MODEL = "qwen3vl"


def with_known_detectors(saved: dict[str, Any]) -> dict[str, Any]:
    """Replace the detectors by known answers. Every socket and link stays."""
    saved = copy.deepcopy(saved)
    small: dict[
        str, str
    ] = {}  # a real file's name, also where a subgraph's node shows it -> the stand-in's
    for node in all_nodes(saved):
        kind, values = node["type"], node.get("widgets_values") or []
        if kind in DETECTORS or kind == "CLIPLoader" and values[0].startswith(LANGUAGE_MODEL):
            node["type"] = f"EgoXTests{kind}"
        elif kind in STANDIN_LOADERS:
            stand_in, (name,) = STANDIN_LOADERS[kind][0], STANDIN_LOADERS[kind][1].values()
            small[values[0]] = name
            if stand_in is not None:
                node["type"], node["widgets_values"] = stand_in, [name]
                node["inputs"] = [slot for slot in node["inputs"] if slot["name"] == "clip_name"]
        node.get("properties", {}).pop("models", None)
    for node in all_nodes(saved):
        values = node.get("widgets_values") or []
        node["widgets_values"] = [small.get(v, v) if isinstance(v, str) else v for v in values]
    return saved
