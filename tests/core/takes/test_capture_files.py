"""Test camera files of other tools: ViPE's npz pair and Aria's calibration."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.poses import invert, look_at
from egox_core.cameras.presets import ARIA_DISTORTION
from egox_core.takes.vipe import read_vipe
from egox_train.data.aria import read_aria_calibration
from tests.refusals import refuses


def write_vipe(root: Path, c2w: np.ndarray, frame_numbers=None) -> Path:
    pose_matrices = np.tile(np.eye(4, dtype=np.float32), (len(c2w), 1, 1))
    pose_matrices[:, :3] = c2w
    lens_values = np.linspace(
        (599, 600, 391, 223), (601, 602, 393, 225), len(c2w), dtype=np.float32
    )
    for name, array_data in (("pose", pose_matrices), ("intrinsics", lens_values)):
        (root / name).mkdir(parents=True, exist_ok=True)
        frame_indices = np.arange(len(c2w)) if frame_numbers is None else frame_numbers
        np.savez(root / name / "clip.npz", data=array_data, inds=frame_indices)
    return root / "intrinsics" / "clip.npz"


def moving_c2w(count: int = 6, step: float = 0.2) -> np.ndarray:
    return invert(
        torch.stack([look_at((step * t, 0.0, 0.0), (0.0, 0.5, 4.0)) for t in range(count)])
    ).numpy()


def test_vipe_poses_and_intrinsics_are_read(tmp_path):
    vipe_file = write_vipe(tmp_path, moving_c2w())
    meta = read_vipe(vipe_file)
    assert meta.camera_intrinsics.diagonal().tolist() == [600, 601, 1], "the median's"
    shuffled_file = write_vipe(tmp_path / "b", moving_c2w()[[3, 1, 0, 2]], np.array([3, 1, 0, 2]))
    assert torch.allclose(read_vipe(shuffled_file).exo.pose, meta.exo.pose[:4], atol=1e-5)
    still_meta = read_vipe(write_vipe(tmp_path / "c", moving_c2w(step=0.0005)))
    assert still_meta.exo.pose.shape == (3, 4)
    (tmp_path / "c" / "pose" / "clip.npz").unlink()
    assert read_vipe(vipe_file.parents[1] / "c" / "intrinsics" / "clip.npz").exo.pose is None


def test_bad_vipe_files_are_refused(tmp_path):
    vipe_file = write_vipe(tmp_path, moving_c2w())
    for arrays, message in (
        ({"data": np.ones((3, 4))}, "data and inds"),
        ({"data": np.ones((3, 5)), "inds": np.arange(3)}, "kind MEI; expected PINHOLE"),
        ({"data": np.ones((3, 6)), "inds": np.arange(3)}, "shape"),
        ({"data": np.ones((3, 4)), "inds": np.array([0, 1, 3])}, "gaps"),
        ({"data": np.ones((0, 4)), "inds": np.arange(0)}, "shape"),
    ):
        np.savez(vipe_file, **arrays)
        with refuses(message):
            read_vipe(vipe_file)
    for lens_kind, is_refused in (("PANORAMA", True), ("MEI", True), ("PINHOLE", False)):
        vipe_file = write_vipe(tmp_path, moving_c2w())
        vipe_file.with_name(f"{vipe_file.stem}_camera.txt").write_text(
            f"0: {lens_kind}\n1: {lens_kind}\n", "utf-8"
        )
        if is_refused:
            with refuses(f"kind {lens_kind}"):
                read_vipe(vipe_file)
        else:
            read_vipe(vipe_file)
    with refuses("not there"):
        read_vipe(tmp_path / "intrinsics" / "none.npz")


FULL_SENSOR = [1220.592182729911, 1464.618192267255, 1442.370245962395, *ARIA_DISTORTION]


def projection_entry(parameters: list[float], name: str = "FisheyeRadTanThinPrism") -> dict:
    return {"Name": name, "Params": parameters}


def calibration_entry(**changes) -> dict:
    rgb_camera = {"Label": "camera-rgb", "Projection": projection_entry(FULL_SENSOR)}
    return {"CameraCalibrations": [{"Label": "camera-slam-left"}, rgb_camera | changes]}


def test_aria_lens_agrees_with_projectaria_tools(tmp_path):
    projectaria_calibration = pytest.importorskip(
        "projectaria_tools.core.calibration",
        reason="projectaria-tools has no wheel here (test extra)",
    )
    calibration_file = tmp_path / "online_calibration.jsonl"
    calibration_file.write_text(json.dumps(calibration_entry()), "utf-8")
    sensor = projectaria_calibration.CameraCalibration(
        "camera-rgb",
        projectaria_calibration.CameraModelType.FISHEYE624,
        np.array(FULL_SENSOR),
        pytest.importorskip("projectaria_tools.core.sophus").SE3(),
        2880,
        2880,
        None,
        np.pi,
        "",
    )
    for picture_side, factor in ((1408, 0.5), (448, 448 / 2816)):
        aria_camera = sensor.rescale(
            np.array([picture_side, picture_side]), factor, np.array([32.0, 32.0])
        )
        egox_camera = read_aria_calibration(calibration_file).rescale(picture_side, picture_side)
        assert (egox_camera.cx, egox_camera.cy) == pytest.approx(
            aria_camera.get_principal_point(), abs=1e-6
        )
        assert (egox_camera.fx, egox_camera.fy) == pytest.approx(
            aria_camera.get_focal_lengths(), abs=1e-6
        )


def test_aria_calibration_is_read_at_both_sizes(tmp_path):
    calibration_file = tmp_path / "online_calibration.jsonl"
    other_calibration = calibration_entry(Label="camera-slam-right")
    calibration_file.write_text(
        json.dumps(calibration_entry()) + "\n" + json.dumps(other_calibration), "utf-8"
    )
    full_camera = read_aria_calibration(calibration_file, 2880)
    assert (
        full_camera.stored_size == (2880, 2880)
        and full_camera.quarter_turns == 1
        and len(full_camera.distortion) == 12
    )
    half_camera = read_aria_calibration(calibration_file)
    half_parameters = [half_camera.fx, half_camera.cx, half_camera.cy, *half_camera.distortion]
    calibration_file.write_text(
        json.dumps(calibration_entry(Projection=projection_entry(half_parameters))), "utf-8"
    )
    assert read_aria_calibration(calibration_file) == half_camera
    restored_camera = read_aria_calibration(calibration_file, 2880)
    assert restored_camera.fx == pytest.approx(
        full_camera.fx
    ) and restored_camera.cx == pytest.approx(full_camera.cx)
    for name, parameters, message in (
        ("KannalaBrandtK3", [1.0] * 15, "KannalaBrandtK3"),
        ("FisheyeRadTanThinPrism", [1.0, 2.0], "15 numbers"),
        ("FisheyeRadTanThinPrism", [100.0, 90.0, 90.0] + [0.0] * 12, "principal point"),
    ):
        calibration = calibration_entry(Projection=projection_entry(parameters, name))
        calibration_file.write_text(json.dumps(calibration), "utf-8")
        with refuses(message):
            read_aria_calibration(calibration_file)
    for text, message in (
        (json.dumps(other_calibration).encode(), "camera-rgb"),
        (b"\xff\xfe\x00", "UTF-8"),
    ):
        calibration_file.write_bytes(text)
        with refuses(message):
            read_aria_calibration(calibration_file)
