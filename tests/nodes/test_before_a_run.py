"""Refusals of nodes before a run, of values that need no server: the others are in
tests/host/test_bad_input.py."""

import importlib
import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from egox_core.file_names import DEPTH, META
from egox_core.safe_files import read_json, write_json


def node(pack: ModuleType, file: str, name: str):
    return getattr(importlib.import_module(f"{pack.__name__}.nodes.{file}"), name)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"lambda_g": "0, three"}, "λ_g"),
        ({"lambda_g": "1", "strength": ""}, "LoRA strength"),
        ({"lambda_g": "0, 1", "strength": "0.5 1"}, None),
        ({}, None),
    ],
)
def test_a_sweep(pack, values, reason):
    verdict = node(pack, "study", "EgoXSweep").validate_inputs(**values)
    assert verdict is True if reason is None else reason in verdict


@pytest.mark.parametrize(
    ("takes", "reason"),
    [
        ("", "no folder"),
        ("sample/no_such_take", "not there"),
        ("../elsewhere", "leads out"),
        ("workflows", "not there"),
        ("sample/synthetic_room\n  sample/calm_room\n", None),
        (None, None),
    ],
)
def test_takes_to_rank(pack, takes, reason):
    verdict = node(pack, "exo_cameras", "EgoXRankExoCameras").validate_inputs(takes=takes)
    assert verdict is True if reason is None else reason in verdict


def test_the_best_take_comes_first(pack):
    rank = node(pack, "exo_cameras", "EgoXRankExoCameras").execute
    best, coverage, report = rank("sample/synthetic_room\nsample/calm_room").args
    first, second = report.splitlines()[:2]
    assert first.startswith(f"1. {best}") and best not in second and 0 < coverage < 1


def test_a_ranked_take_says_whose_k_it_has(pack, comfy_host, repo_root):
    take = comfy_host.input / "ranked_take"
    shutil.copytree(repo_root / "sample" / "calm_room", take)
    meta = read_json(take / META)
    narrow = [[500.0, 0, 223.5], [0, 500.0, 223.5], [0, 0, 1]]
    del meta["ego_camera"]
    write_json(take / META, {**meta, "ego_intrinsics": narrow})
    with np.load(take / DEPTH) as depth:
        k = np.array(meta["camera_intrinsics"]) * [[1.2, 1, 1], [1, 1.2, 1], [1, 1, 1]]
        np.savez(take / DEPTH, **dict(depth), K=k)
    report = node(pack, "exo_cameras", "EgoXRankExoCameras").execute("ranked_take").args[2]
    assert "ranked_take: " in report and "are of another camera than aria_released" in report
    assert "K of depth.npz differs by 20 %, the meta file's is used" in report


def test_a_pickled_lora(pack):
    lora = importlib.import_module(f"{pack.__name__}.nodes.lora")
    for name in ("egox.safetensors", ["3", 0]):
        lora.check_files({"1": {"class_type": "EgoXLoadLora", "inputs": {"lora_name": name}}}, "1")
    with pytest.raises(ValueError, match="convert_to_safetensors"):
        lora.check_files(
            {"1": {"class_type": "EgoXLoadLora", "inputs": {"lora_name": "a/egox.pt"}}}, "1"
        )


@pytest.mark.parametrize(("device", "refused"), [("mps", True), ("cuda", False), ("cpu", False)])
def test_float8_files_on_a_mac(pack, repo_root, monkeypatch, device, refused):
    """The graphs' own files, which need not be there."""
    import comfy.model_management

    lora = importlib.import_module(f"{pack.__name__}.nodes.lora")
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device(device))
    graph = read_json(repo_root / "workflows/api/egox_basic.json")
    (node,) = (name for name, one in graph.items() if one["class_type"] == "EgoXLoadLora")
    if not refused:
        return lora.check_files(graph, node)
    with pytest.raises(ValueError, match="umt5_xxl_fp8.*14B_fp8_scaled.*umt5_xxl_fp16"):
        lora.check_files(graph, node)
    for one in graph.values():
        for name, value in one["inputs"].items():
            if isinstance(value, str):
                one["inputs"][name] = value.replace("fp8_e4m3fn_scaled", "fp16").replace(
                    "fp8_scaled", "fp16"
                )
    lora.check_files(graph, node)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"pose_keypoints": {"__value__": []}}, None),
        ({"pose_keypoints": None}, "no output of a detector"),
    ],
)
def test_the_head_s_own_words(pack, changes, reason):
    check = node(pack, "estimate_head_pose", "check_head_inputs")
    video = {
        "file": "sample/calm_room/exo.mp4",
        "start_frame": 0,
        "frame_count": 9,
        "target_fps": 0.0,
        "resize": "crop",
        "width": 112,
        "height": 64,
    }
    inputs = {"pose_keypoints": ["2", 0], "frames": ["1", 3], **changes}
    graph = {
        "1": {"class_type": "EgoXLoadExoVideo", "inputs": video},
        "2": {"class_type": "SDPose", "inputs": {}},
        "3": {
            "class_type": "EgoXEstimateHeadPose",
            "inputs": {k: v for k, v in inputs.items() if v is not None},
        },
    }
    if reason is None:
        return check(graph, "3")
    with pytest.raises(ValueError, match=reason):
        check(graph, "3")


def test_a_set_for_robots_without_pyarrow(pack, monkeypatch):
    """Importing a package whose entry is None fails as if it weren't installed."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    verdict = node(pack, "robot_episode", "EgoXSaveRobotEpisode").validate_inputs("new", "a task")
    assert "pyarrow is not installed" in verdict and "-m pip install pyarrow" in verdict
