"""Camera files of other tools: ViPE's npz pair, Aria's calibration."""

import json
from pathlib import Path

import numpy as np
import torch

from egox_core.cameras.poses import invert, look_at
from egox_core.cameras.presets import ARIA_DISTORTION
from egox_core.takes.meta import read_meta
from egox_core.takes.vipe import read_vipe
from egox_train.data.aria import read_aria_calibration
from tests.refusals import refuses


def write_vipe(root: Path, c2w: np.ndarray, numbers=None) -> Path:
    square = np.tile(np.eye(4, dtype=np.float32), (len(c2w), 1, 1))
    square[:, :3] = c2w
    k = np.linspace((599, 600, 391, 223), (601, 602, 393, 225), len(c2w), dtype=np.float32)
    for name, data in (("pose", square), ("intrinsics", k)):
        (root / name).mkdir(parents=True, exist_ok=True)
        inds = np.arange(len(c2w)) if numbers is None else numbers
        np.savez(root / name / "clip.npz", data=data, inds=inds)
    return root / "intrinsics" / "clip.npz"


def moving(count: int = 6, step: float = 0.2) -> np.ndarray:
    return invert(
        torch.stack([look_at((step * t, 0.0, 0.0), (0.0, 0.5, 4.0)) for t in range(count)])
    ).numpy()


def test_vipe(tmp_path):
    path = write_vipe(tmp_path, moving())
    meta = read_vipe(path)
    assert meta.name == "clip" and torch.equal(read_meta(path).exo.pose, meta.exo.pose)
    assert torch.allclose(
        meta.camera_intrinsics.diagonal(), torch.tensor([600.0, 601, 1], dtype=torch.float64)
    )
    assert meta.exo.pose.shape == (6, 3, 4)
    assert torch.allclose(invert(meta.exo.pose), torch.from_numpy(moving()), atol=1e-5)
    shuffled = write_vipe(tmp_path / "b", moving()[[3, 1, 0, 2]], np.array([3, 1, 0, 2]))
    assert torch.allclose(read_vipe(shuffled).exo.pose, meta.exo.pose[:4], atol=1e-5)
    still = read_vipe(write_vipe(tmp_path / "c", moving(step=0.0005)))
    assert still.exo.pose.shape == (3, 4)
    (tmp_path / "c" / "pose" / "clip.npz").unlink()
    assert read_vipe(path.parents[1] / "c" / "intrinsics" / "clip.npz").exo.pose is None


def test_bad_vipe_files_are_refused(tmp_path):
    path = write_vipe(tmp_path, moving())
    for arrays, message in (
        ({"data": np.ones((3, 4))}, "data and inds"),
        ({"data": np.ones((3, 5)), "inds": np.arange(3)}, "kind MEI; expected PINHOLE"),
        ({"data": np.ones((3, 6)), "inds": np.arange(3)}, "shape"),
        ({"data": np.ones((3, 4)), "inds": np.array([0, 1, 3])}, "gaps"),
        ({"data": np.ones((0, 4)), "inds": np.arange(0)}, "shape"),
    ):
        np.savez(path, **arrays)
        with refuses(message):
            read_vipe(path)
    for kind, refused in (("PANORAMA", True), ("MEI", True), ("PINHOLE", False)):
        path = write_vipe(tmp_path, moving())
        path.with_name(f"{path.stem}_camera.txt").write_text(f"0: {kind}\n1: {kind}\n", "utf-8")
        if refused:
            with refuses(f"kind {kind}"):
                read_vipe(path)
        else:
            read_vipe(path)
    with refuses("not there"):
        read_vipe(tmp_path / "intrinsics" / "none.npz")


def calibration(**changes) -> dict:
    rgb = {
        "Label": "camera-rgb",
        "Projection": {
            "Name": "FisheyeRadTanThinPrism",
            "Params": [1200.0, 1450.0, 1430.0, *ARIA_DISTORTION],
        },
    }
    return {"CameraCalibrations": [{"Label": "camera-slam-left"}, rgb | changes]}


def test_aria_calibration(tmp_path):
    path = tmp_path / "online_calibration.jsonl"
    other = calibration(Label="camera-slam-right")
    path.write_text(json.dumps(calibration()) + "\n" + json.dumps(other), "utf-8")
    full = read_aria_calibration(path)
    assert (
        full.stored_size == (2880, 2880) and full.quarter_turns == 1 and len(full.distortion) == 12
    )
    for name, numbers, message in (
        ("KannalaBrandtK3", [1.0] * 15, "KannalaBrandtK3"),
        ("FisheyeRadTanThinPrism", [1.0, 2.0], "15 numbers"),
        ("FisheyeRadTanThinPrism", [100.0, 90.0, 90.0] + [0.0] * 12, "principal point"),
    ):
        content = calibration(Projection={"Name": name, "Params": numbers})
        path.write_text(json.dumps(content), "utf-8")
        with refuses(message):
            read_aria_calibration(path)
    for text, message in ((json.dumps(other).encode(), "camera-rgb"), (b"\xff\xfe\x00", "UTF-8")):
        path.write_bytes(text)
        with refuses(message):
            read_aria_calibration(path)
