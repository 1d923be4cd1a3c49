"""egox_demo and egox_basic are one graph: only loaders and text conditioning differ."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tools.setup.node_inputs import BYPASSED
from tools.workflows.graph import Graph
from tools.workflows.specs import SPECS

LOADERS = frozenset({"UNETLoader", "VAELoader", "CLIPLoader", "CLIPVisionLoader"})
TEXT = frozenset({"LotusConditioning", "EgoXText"})
FREE = frozenset({"width", "height", "size", "steps", "cfg", "seed", "lora_name", "filename_prefix", "frame_count",
                  "file", "preset", "rays", "shift"})
"""Values that may differ: the demo is smaller and shorter, of another sample, and its weights have other names and were
trained on other priors, rays and noise levels."""


def role(prompt: dict[str, Any], node_id: str) -> str:
    kind = prompt[node_id]["class_type"]
    return "text" if kind in TEXT else kind


def shape(prompt: dict[str, Any]) -> Counter:
    """Every node that is no loader or text node, with its values and where its links come from; ids left out."""
    nodes: Counter = Counter()
    for node in prompt.values():
        if node["class_type"] in LOADERS | TEXT:
            continue
        inputs = []
        for name, value in sorted(node["inputs"].items()):
            if isinstance(value, list):
                source = role(prompt, value[0])
                if source == "text":  # one node of two outputs, or two nodes of one
                    inputs.append((name, "<- text"))
                elif source != "CLIPVisionLoader":
                    inputs.append((name, f"<- {source} {value[1]}"))
            elif name not in FREE:
                inputs.append((name, repr(value)))
        nodes[node["class_type"], tuple(inputs)] += 1
    return nodes


def test_they_are_one_graph(load_workflow) -> None:
    demo, basic = shape(load_workflow("egox_demo")), shape(load_workflow("egox_basic"))
    assert len(demo) >= 10
    assert demo - basic == Counter(), "only in egox_demo"
    assert basic - demo == Counter(), "only in egox_basic"


def test_the_demo_needs_no_file_from_elsewhere(load_workflow, repo_root) -> None:
    prompt = load_workflow("egox_demo")
    kinds = {node["class_type"] for node in prompt.values()}
    assert not kinds & {"CLIPLoader", "EgoXText", "CLIPTextEncode", "CLIPVisionLoader"}
    published = list((repo_root / "models").rglob("*.safetensors"))
    shipped = {path.name for path in published}
    values = {value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, str)}
    assert {value for value in values if value.endswith(".safetensors")} <= shipped
    assert sum(path.stat().st_size for path in published) < 50e6


def test_basic_uses_the_stock_loaders(load_workflow) -> None:
    kinds = {node["class_type"] for node in load_workflow("egox_basic").values()}
    assert kinds >= {"UNETLoader", "VAELoader", "CLIPLoader", "CLIPVisionLoader", "EgoXText", "EgoXLoadLora"}
    assert not [kind for kind in kinds if kind.startswith(("LoadMoGe", "MoGe", "LoadDA3", "DA3"))], "bypassed at first"


def test_basic_takes_its_prompt_from_the_take(load_workflow) -> None:
    prompt = load_workflow("egox_basic")
    texts = [(node_id, node["inputs"]) for node_id, node in prompt.items() if node["class_type"] == "EgoXText"]
    (text_id, text), = texts
    assert prompt[text["prompt"][0]]["class_type"] == "EgoXEgoPoseInput"
    assert text["negative"] == "", "as in the authors' inference"
    conditioning = next(node["inputs"] for node in prompt.values() if node["class_type"] == "EgoXConditioning")
    assert (conditioning["positive"], conditioning["negative"]) == ([text_id, 0], [text_id, 1])


def test_the_depth_group_works_when_un_bypassed(object_info) -> None:
    graph = Graph(object_info, "egox_basic")
    SPECS[graph.name](graph)
    nodes = (*graph.nodes, *(node for inside in graph.insides.values() for node in inside.nodes))
    bypassed = [node for node in nodes if node.mode == BYPASSED]
    assert {node.kind for node in bypassed} == {
        "LoadMoGeModel", "MoGeInference", "LoadDA3Model", "DA3Inference",
        "CheckpointLoaderSimple", "CLIPTextEncode", "SAM3_VideoTrack", "SAM3_TrackToMask"}
    for node in bypassed:
        node.mode = 0
    prompt = graph.to_prompt()
    align = next(node for node in prompt.values() if node["class_type"] == "EgoXDepthAlign")["inputs"]
    assert prompt[align["moge_geometry"][0]]["class_type"] == "MoGeInference"
    assert prompt[align["da3_geometry"][0]]["class_type"] == "DA3Inference"
    for node in prompt.values():
        if node["class_type"] in ("MoGeInference", "DA3Inference"):
            images = next(v for k, v in node["inputs"].items() if k in ("image", "images"))
            assert prompt[images[0]]["class_type"] == "EgoXLoadExoVideo"
