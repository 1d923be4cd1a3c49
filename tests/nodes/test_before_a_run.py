"""Test inputs that are refused before a run."""

import importlib
import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from egox_core.file_names import DEPTH, META
from egox_core.safe_files import read_json, write_json


def load_node(pack: ModuleType, file: str, class_name: str):
    return getattr(importlib.import_module(f"{pack.__name__}.nodes.{file}"), class_name)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"lambda_g": "0, three"}, "λ_g"),
        ({"lambda_g": "1", "strength": ""}, "LoRA strength"),
        ({"lambda_g": "0, 1", "strength": "0.5 1"}, None),
        ({}, None),
    ],
)
def test_wrong_numbers_in_a_sweep_are_refused(pack, values, reason):
    verdict = load_node(pack, "study", "EgoXSweep").validate_inputs(**values)
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
def test_takes_that_cannot_be_ranked_are_refused(pack, takes, reason):
    verdict = load_node(pack, "exo_cameras", "EgoXRankExoCameras").validate_inputs(takes=takes)
    assert verdict is True if reason is None else reason in verdict


def test_the_take_with_the_best_coverage_is_ranked_first(pack):
    rank_takes = load_node(pack, "exo_cameras", "EgoXRankExoCameras").execute
    best_take, coverage, report = rank_takes("sample/synthetic_room\nsample/calm_room").args
    first_line, second_line = report.splitlines()[:2]
    assert (
        first_line.startswith(f"1. {best_take}")
        and best_take not in second_line
        and 0 < coverage < 1
    )


def test_the_report_names_the_camera_of_a_ranked_take(pack, comfy_host, repo_root):
    take_folder = comfy_host.input / "ranked_take"
    shutil.copytree(repo_root / "sample" / "calm_room", take_folder)
    meta = read_json(take_folder / META)
    narrow_intrinsics = [[500.0, 0, 223.5], [0, 500.0, 223.5], [0, 0, 1]]
    del meta["ego_camera"]
    write_json(take_folder / META, {**meta, "ego_intrinsics": narrow_intrinsics})
    with np.load(take_folder / DEPTH) as depth:
        scaled_intrinsics = np.array(meta["camera_intrinsics"]) * [
            [1.2, 1, 1],
            [1, 1.2, 1],
            [1, 1, 1],
        ]
        np.savez(take_folder / DEPTH, **dict(depth), K=scaled_intrinsics)
    report = load_node(pack, "exo_cameras", "EgoXRankExoCameras").execute("ranked_take").args[2]
    assert "ranked_take: " in report
    assert "are of another camera than aria_released" in report
    assert "(K of depth.npz)" in report


def test_a_pickled_lora_is_refused(pack):
    lora_module = importlib.import_module(f"{pack.__name__}.nodes.lora")
    for name in ("egox.safetensors", ["3", 0]):
        lora_module.check_files(
            {"1": {"class_type": "EgoXLoadLora", "inputs": {"lora_name": name}}}, "1"
        )
    with pytest.raises(ValueError, match="convert_to_safetensors"):
        lora_module.check_files(
            {"1": {"class_type": "EgoXLoadLora", "inputs": {"lora_name": "a/egox.pt"}}}, "1"
        )


@pytest.mark.parametrize(("device", "is_refused"), [("mps", True), ("cuda", False), ("cpu", False)])
def test_float8_files_are_refused_on_a_mac(pack, repo_root, monkeypatch, device, is_refused):
    """Check that float8 weight files are refused on a Mac by their names."""
    import comfy.model_management

    lora_module = importlib.import_module(f"{pack.__name__}.nodes.lora")
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device(device))
    graph = read_json(repo_root / "workflows/api/egox_basic.json")
    (lora_node_id,) = (
        name for name, node_entry in graph.items() if node_entry["class_type"] == "EgoXLoadLora"
    )
    if not is_refused:
        return lora_module.check_files(graph, lora_node_id)
    with pytest.raises(ValueError, match="umt5_xxl_fp8.*14B_fp8_scaled.*umt5_xxl_fp16"):
        lora_module.check_files(graph, lora_node_id)
    for node_entry in graph.values():
        for name, value in node_entry["inputs"].items():
            if isinstance(value, str):
                node_entry["inputs"][name] = value.replace("fp8_e4m3fn_scaled", "fp16").replace(
                    "fp8_scaled", "fp16"
                )
    lora_module.check_files(graph, lora_node_id)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"pose_keypoints": {"__value__": []}}, None),
        ({"pose_keypoints": None}, "no output of a detector"),
    ],
)
def test_head_inputs_without_a_detector_are_refused(pack, changes, reason):
    check_inputs = load_node(pack, "estimate_head_pose", "check_head_inputs")
    video_inputs = {
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
        "1": {"class_type": "EgoXLoadExoVideo", "inputs": video_inputs},
        "2": {"class_type": "SDPose", "inputs": {}},
        "3": {
            "class_type": "EgoXEstimateHeadPose",
            "inputs": {name: value for name, value in inputs.items() if value is not None},
        },
    }
    if reason is None:
        return check_inputs(graph, "3")
    with pytest.raises(ValueError, match=reason):
        check_inputs(graph, "3")


def test_a_robot_data_set_without_pyarrow_is_refused(pack, monkeypatch):
    """Check that a missing pyarrow is reported before a run."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    verdict = load_node(pack, "robot_episode", "EgoXSaveRobotEpisode").validate_inputs(
        "new", "a task"
    )
    assert "pyarrow is not installed" in verdict
    assert "-m pip install pyarrow" in verdict
