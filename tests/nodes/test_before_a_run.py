"""Test inputs that are refused before a run."""

import importlib
import sys
from contextlib import nullcontext
from types import ModuleType

import pytest
import torch

from tests.refusals import refuses

from .test_remedies import LOADED


def load_node(pack: ModuleType, file: str, class_name: str):
    return getattr(importlib.import_module(f"{pack.__name__}.nodes.{file}"), class_name)


ROOM = "sample/calm_room"


@pytest.mark.parametrize(
    ("file", "node", "values", "reason"),
    [
        ("study", "EgoXSweep", {"lambda_g": "0, three"}, "λ_g"),
        ("study", "EgoXSweep", {"lambda_g": "1", "strength": ""}, "LoRA strength"),
        ("study", "EgoXSweep", {"lambda_g": "0, 1", "strength": "0.5 1"}, None),
        ("study", "EgoXSweep", {}, None),
        ("exo_cameras", "EgoXRankExoCameras", {"takes": ""}, "no folder"),
        ("exo_cameras", "EgoXRankExoCameras", {"takes": "sample/no_such_take"}, "not there"),
        ("exo_cameras", "EgoXRankExoCameras", {"takes": "../elsewhere"}, "leads out"),
        ("exo_cameras", "EgoXRankExoCameras", {"takes": f"{ROOM}\n  {ROOM}\n"}, None),
        ("exo_cameras", "EgoXRankExoCameras", {"takes": None}, None),
        ("robot_episode", "EgoXSaveRobotEpisode", {"dataset": "a", "task": "b"}, "pip install"),
    ],
)
def test_wrong_values_are_refused(pack, monkeypatch, file, node, values, reason):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    verdict = load_node(pack, file, node).validate_inputs(**values)
    assert verdict is True if reason is None else reason in verdict


def test_the_take_with_the_best_coverage_is_ranked_first(pack):
    rank_takes = load_node(pack, "exo_cameras", "EgoXRankExoCameras").execute
    best_take, coverage, report = rank_takes(f"sample/synthetic_room\n{ROOM}").args
    assert report.startswith(f"1. {best_take}") and 0 < coverage < 1


@pytest.mark.parametrize(
    ("device", "name", "reason"),
    [
        ("cpu", "a/egox.pt", "convert_to_safetensors"),
        ("cpu", "egox.safetensors", None),
        ("mps", "egox.safetensors", "wan_14B_fp8_scaled"),
        ("mps", ["3", 0], "wan_14B_fp8_scaled"),
    ],
)
def test_files_that_cannot_be_loaded_are_refused(pack, monkeypatch, device, name, reason):
    """Check a pickled LoRA, and weights in float8 on a Mac."""
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device(device))
    check_files = load_node(pack, "lora", "check_files")
    graph = {
        "1": {"class_type": "EgoXLoadLora", "inputs": {"lora_name": name, "model": ["2", 0]}},
        "2": {"class_type": "UNETLoader", "inputs": {"unet_name": "wan_14B_fp8_scaled.sft"}},
    }
    with refuses(reason) if reason else nullcontext():
        check_files(graph, "1")
    graph["2"]["inputs"]["unet_name"] = "wan_14B_fp16.sft"
    if device == "mps":
        check_files(graph, "1")


@pytest.mark.parametrize("key_points", [None, {"__value__": []}, ["2", 0]])
def test_head_inputs_without_a_detector_are_refused(pack, key_points):
    video_inputs = LOADED | {"file": f"{ROOM}/exo.mp4"}
    inputs = {"frames": ["1", 3]} | ({"pose_keypoints": key_points} if key_points else {})
    graph = {
        "1": {"class_type": "EgoXLoadExoVideo", "inputs": video_inputs},
        "2": {"class_type": "SDPose", "inputs": {}},
        "3": {"class_type": "EgoXEstimateHeadPose", "inputs": inputs},
    }
    with nullcontext() if key_points else refuses("no output of a detector"):
        load_node(pack, "estimate_head_pose", "check_head_inputs")(graph, "3")
