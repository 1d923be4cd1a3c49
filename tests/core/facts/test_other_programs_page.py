"""Run each line of the page on other programs' cameras and depth on a file of that form."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras import CameraModel, look_at
from egox_core.facts import Declared
from egox_core.frames import Frames
from egox_core.stages import align, path
from tests.core.facts import pose_doors
from tests.path_forms import FORMS, Poses
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "other_programs.md").read_text("utf-8")
COUNT = 13
TIMES = np.arange(COUNT) / 10
FRAMES = Frames.stated(range(COUNT), TIMES.tolist(), COUNT)
W2C = torch.stack(
    [look_at((0.3 * t, -0.2 * t, 1 + 0.1 * t), (0.5, 0.4, 9.0 + t)) for t in range(COUNT)]
)
LENS = CameraModel.pinhole(32, 16, 20.0)


def rows_of(section: str) -> list[tuple[str, str, str]]:
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    return [
        (first.strip(), (others[0] if others else "").strip(), "".join(others[1:]).strip(" |`"))
        for first, *others in lines
    ]


def path_form(name: str):
    def write(folder: Path, c2w, times) -> Path:
        poses = Poses(
            w2c=np.linalg.inv(c2w)[:, :3],
            intrinsics=LENS.intrinsics.numpy(),
            size=(32, 16),
            fps=10.0,
        )
        return FORMS[name](folder, poses)

    return write


def nerfstudio(folder, c2w, times):
    """Scale the places, and turn the cameras alone: its world is as stored."""
    matrices = c2w @ pose_doors.FLIP_YZ
    matrices[:, :3, 3] *= 0.3
    frames = [
        {"file_path": f"f_{i:03d}.png", "transform_matrix": m.tolist()}
        for i, m in enumerate(matrices)
    ]
    content = {"w": 32, "h": 16, "fl_x": 20.0, "frames": frames, "applied_scale": 0.3}
    content["applied_transform"] = np.eye(4)[:3].tolist()
    return pose_doors.write_json(folder / "transforms.json", content)


def unity(folder, c2w, times):
    flip = np.diag([1.0, -1, 1, 1])
    np.save(folder / "head.npy", flip @ c2w @ flip)
    return folder / "head.npy"


def longer_tum(folder, c2w, times):
    """Write a tracker that goes on after the video."""
    rows = np.c_[times, c2w[:, :3, 3], pose_doors.quaternions(c2w)]
    later_rows = [np.r_[times[-1] + 0.1 * step, rows[-1, 1:]] for step in range(1, 6)]
    np.savetxt(folder / "path.tum", np.vstack([rows, *later_rows]), fmt="%.17g")
    return folder / "path.tum"


PATHS = {
    "COLMAP": path_form("colmap text"),
    "nerfstudio": nerfstudio,
    "Blender, instant-ngp": path_form("transforms"),
    "Nuke": path_form("chan"),
    "ORB-SLAM3, DROID-SLAM, evo": longer_tum,
    "KITTI, KITTI-360": pose_doors.kitti,
    "EuRoC, Kalibr, OpenVINS": pose_doors.euroc,
    "OptiTrack Motive": pose_doors.optitrack,
    "Project Aria": pose_doors.aria,
    "ViPE": path_form("vipe"),
    "MegaSaM": pose_doors.megasam,
    "Depth Anything 3": pose_doors.depth_anything_3,
    "VGGT": pose_doors.vggt,
    "GVHMR": path_form("gvhmr"),
    "OmniCam": path_form("omnicam"),
    "Record3D": pose_doors.record3d,
    "Polycam": pose_doors.polycam,
    "ARKit": pose_doors.arkit_numbers,
    "Apple Vision Pro": pose_doors.npy,
    "Unity, Quest": unity,
}


@pytest.mark.parametrize(("program", "export", "declared"), rows_of("Camera paths"))
def test_each_program_s_path_is_right(tmp_path, program, export, declared):
    facts = Declared.of(declared)
    c2w = np.linalg.inv(np.concatenate([W2C, torch.eye(4)[3].expand(COUNT, 1, 4)], 1))
    mount = np.eye(4)
    if (stated_mount := facts.value("ego.camera_from_tracker")) is not None:
        mount[:3] = np.reshape(stated_mount, (3, 4))
    if (stated_mount := facts.value("ego.sensor_from_tracker")) is not None:
        # A sensor whose x runs down the upright picture, and its y to the left.
        mount[:3] = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ np.reshape(
            stated_mount, (3, 4)
        )
    c2w = c2w @ mount
    c2w[:, :3, 3] /= facts.value("ego.unit") or 1
    times = TIMES
    if offset_s := facts.value("ego.time_offset_s"):
        # The tracker began earlier: its first two poses are of before the video.
        c2w = np.concatenate([c2w[:1], c2w[:1], c2w])
        times = np.arange(COUNT + 2) / 10
        assert offset_s == -0.2
    trajectory, notes = path(PATHS[program](tmp_path, c2w, times), frames=FRAMES, declared=declared)
    assert torch.allclose(trajectory.ego.upright_w2c, W2C, atol=3e-5), notes.placed
    assert "warning" not in notes.placed


def z_depth() -> np.ndarray:  # [T, 16, 32] metres, on the grid of every unit below
    return np.random.default_rng(4).integers(256, 2048, (COUNT, 16, 32)) / 256


def saved(key: str, convert, suffix: str = "npz"):
    def write(folder: Path) -> Path:
        values = convert(z_depth()).astype(np.float32)
        file = folder / f"depth.{suffix}"
        if suffix == "npy":
            np.save(file, values)
        else:
            np.savez(file, **{key: values, "intrinsics": LENS.intrinsics.numpy()})
        return file

    return write


def png_folder(per_metre: float):
    def write(folder: Path) -> Path:
        for number, depth in enumerate(z_depth()):
            picture = np.round(per_metre * depth).astype(np.uint16)
            cv2.imwrite(str(folder / f"{number:05d}.png"), picture)
        return folder

    return write


def ray_lengths() -> np.ndarray:
    rows, columns = np.mgrid[0:16, 0:32]
    return np.sqrt(((columns - LENS.cx) / LENS.fx) ** 2 + ((rows - LENS.cy) / LENS.fy) ** 2 + 1)


def network_npz(write_npz, unit: float):
    def write(folder: Path) -> Path:
        file = write_npz(folder, np.tile(np.eye(4), (COUNT, 1, 1)), TIMES)
        arrays = dict(np.load(file))
        arrays["depth"] = (z_depth() / unit).astype(np.float32).reshape(arrays["depth"].shape)
        np.savez(file, **arrays)
        return file

    return write


DEPTHS = {
    "MoGe, Depth Pro, UniDepth, Metric3D": saved("depth", lambda z: z),
    "Depth Anything 3": network_npz(pose_doors.depth_anything_3, 1),
    "VGGT": network_npz(pose_doors.vggt, 1.7),
    "TUM RGB-D, Redwood": png_folder(5000),
    "KITTI": png_folder(256),
    "RealSense, Azure Kinect, ScanNet, Record3D": png_folder(1000),
    "Isaac Sim: `distance_to_image_plane`": saved("distance_to_image_plane", lambda z: z),
    "Isaac Sim: `distance_to_camera`": saved("distance_to_camera", lambda z: z * ray_lengths()),
    "Unreal, AirSim": saved("", lambda z: np.where(z > 7.5, 65504, 100 * z), "npy"),
    "MiDaS and others of inverse depth in 1/m": saved("inverse_depth", lambda z: 1 / z),
    "RAFT-Stereo, FoundationStereo: disparity in px": saved("depth_m", lambda z: z),
}


@pytest.mark.parametrize(("program", "export", "declared"), rows_of("Depth"))
def test_each_program_s_depth_is_right(tmp_path, program, export, declared):
    depth, _ = align(DEPTHS[program](tmp_path), frames=FRAMES, declared=declared, fov_deg=60)
    expected = np.where(z_depth() > 7.5, np.nan, z_depth()) if "far_m" in declared else z_depth()
    # Millimetres and a fifth of one are rounded.
    np.testing.assert_allclose(depth.depth_m.numpy(), expected, atol=6e-4, rtol=2e-6)


def table_of(angles: np.ndarray) -> np.ndarray:
    centres = torch.linalg.inv(torch.cat((W2C, torch.eye(4)[3].expand(COUNT, 1, 4)), 1))[:, :3, 3]
    return np.c_[TIMES, centres, angles]


def test_each_recipe_converts_what_it_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    c2w = np.linalg.inv(np.concatenate([W2C, torch.eye(4)[3].expand(COUNT, 1, 4)], 1))
    angles = Rotation.from_matrix(c2w[:, :3, :3]).as_euler("xyz", degrees=True)
    (tmp_path / "pose").mkdir()
    for number, matrix in enumerate(c2w):
        np.savetxt(f"pose/{number:04d}.txt", matrix)
    torch.save(torch.from_numpy(c2w), "poses.pt")
    entries = [{"transform": matrix.tolist()} for matrix in c2w]
    Path("frames.json").write_text(json.dumps(entries), "utf-8")
    table = table_of(angles)
    depth_m = z_depth()
    bare = "ego.direction=c2w, ego.axes=opencv"
    values = {"t": table, "Rotation": Rotation, "focal": 20.0, "baseline": 0.1}
    values |= {"disparity": 2 / depth_m}
    # What a line of the page writes, what its path needs declared; None: depth or not run here.
    for name, outcome in {
        "one text file": ("poses.npy", bare),
        "a torch file": ("poses.npy", bare),
        "JSON objects": ("matrices.json", bare),
        "CSV of a place": ("path.tum", ""),
        "disparity": ("depth.npz", None),
    }.items():
        (line,) = [
            row[1].strip("` |")
            for row in rows_of("What isn't read, and a line that converts it")
            if row[0].startswith(name)
        ]
        exec("import glob, json, numpy, torch\n" + line, values)  # noqa: S102  the page's own
        file, declared = Path(outcome[0]), outcome[1]
        if declared is None:
            np.testing.assert_allclose(np.load(file)["depth_m"], depth_m)
        else:
            trajectory, _ = path(tmp_path / file, frames=FRAMES, declared=declared)
            assert torch.allclose(trajectory.ego.upright_w2c, W2C, atol=1e-9)
        file.unlink()
