"""Loaders of egox_demo and egox_basic, and the group that is bypassed at first."""

from tools.setup.node_inputs import BYPASSED
from tools.workflows.graph import Graph
from tools.workflows.specs import SPECS


def test_the_demo_needs_no_file_from_elsewhere(load_workflow, repo_root):
    prompt = load_workflow("egox_demo")
    kinds = {node["class_type"] for node in prompt.values()}
    assert not kinds & {"CLIPLoader", "EgoXText", "CLIPTextEncode", "CLIPVisionLoader"}
    published = list((repo_root / "models").rglob("*.safetensors"))
    shipped = {path.name for path in published}
    values = {
        value
        for node in prompt.values()
        for value in node["inputs"].values()
        if isinstance(value, str)
    }
    assert {value for value in values if value.endswith(".safetensors")} <= shipped
    assert sum(path.stat().st_size for path in published) < 50e6


def test_the_depth_group_works_when_un_bypassed(object_info):
    graph = Graph(object_info, "egox_basic")
    SPECS[graph.name](graph)
    nodes = (*graph.nodes, *(node for inside in graph.insides.values() for node in inside.nodes))
    bypassed = [node for node in nodes if node.mode == BYPASSED]
    assert {node.kind for node in bypassed} == {
        "LoadMoGeModel",
        "MoGeInference",
        "LoadDA3Model",
        "DA3Inference",
        "CheckpointLoaderSimple",
        "CLIPTextEncode",
        "SAM3_VideoTrack",
        "SAM3_TrackToMask",
    }
    for node in bypassed:
        node.mode = 0
    prompt = graph.to_prompt()
    align = next(node for node in prompt.values() if node["class_type"] == "EgoXDepthAlign")[
        "inputs"
    ]
    assert prompt[align["moge_geometry"][0]]["class_type"] == "MoGeInference"
    assert prompt[align["da3_geometry"][0]]["class_type"] == "DA3Inference"
    for node in prompt.values():
        if node["class_type"] in ("MoGeInference", "DA3Inference"):
            images = next(v for k, v in node["inputs"].items() if k in ("image", "images"))
            assert prompt[images[0]]["class_type"] == "EgoXLoadExoVideo"
