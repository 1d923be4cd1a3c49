"""Test ``train_egox.py headpose``, which estimates the ego camera path from head key points."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose, invert, transform
from egox_core.exchange.trajectory_files import read_trajectory
from egox_core.file_names import DEPTH, HEAD_TRAJECTORY, META
from egox_core.safe_files import read_json, write_json
from egox_core.take import load_take
from egox_core.trajectory.head_payloads import MHR_POINTS, OPENPOSE_POINTS
from egox_core.trajectory.head_points import HeadPoints
from egox_core.trajectory.head_template import POINTS, ego_from_head
from egox_train.takes.head_step import check_pose_shift
from lab.drawn import SyntheticSpec, SyntheticTake, make_take, write_take
from lab.drawn.detected import project_person
from lab.drawn.layout import draw_layout
from train_egox import main

SPEC = SyntheticSpec(
    seed=503,
    frames=9,
    fps=5.0,
    exo_width=224,
    exo_height=128,
    ego_size=64,
    wearer="drawn",
    edge_samples=1,
)


@pytest.fixture(scope="module")
def take() -> SyntheticTake:
    return make_take(SPEC)


@pytest.fixture(scope="module")
def head_marks() -> np.ndarray:
    """Compute the 3D positions [T, 8, 3] of the head's key points in the exo camera's frame."""
    scene_layout = draw_layout(SPEC)
    world_marks = np.stack([scene_layout.head.marks[name] for name in POINTS], axis=1)
    return transform(scene_layout.scene.exo.pose, torch.from_numpy(world_marks)).numpy()


@pytest.fixture
def take_folder(take, tmp_path) -> Path:
    """Write a drawn take without ego poses."""
    write_take(take, tmp_path / "täke 1")
    path = tmp_path / "täke 1" / META
    meta_content = read_json(path)
    del meta_content["ego_extrinsics"]
    write_json(path, meta_content)
    return tmp_path / "täke 1"


def openpose_frames(head_marks: np.ndarray, take: SyntheticTake) -> list[dict]:
    camera, frames = take.exo.camera, []
    for points in head_marks:
        keypoint_rows = np.zeros((25, 3))
        for name, (x, y, z) in zip(POINTS, points, strict=True):
            keypoint_rows[OPENPOSE_POINTS[25][name]] = (
                camera.fx * x / z + camera.cx,
                camera.fy * y / z + camera.cy,
                0.9,
            )
        frames.append({"people": [{"pose_keypoints_2d": keypoint_rows.reshape(-1).tolist()}]})
    return frames


def headpose(take_folder: Path, points: Path, *more: str) -> int:
    return main(["headpose", str(take_folder), "--keypoints", str(points), *more])


def distance(take_folder: Path, take: SyntheticTake) -> float:
    trajectory, _ = read_trajectory(take_folder / HEAD_TRAJECTORY, take.ego.camera)
    assert trajectory.guessed is not None and trajectory.guessed.shape == (9,)
    return float(
        (camera_centre(trajectory.ego.w2c) - camera_centre(take.ego.w2c)).norm(dim=-1).median()
    )


def test_a_folder_of_openpose_files(take_folder, take, head_marks, capsys):
    keypoint_folder = take_folder.parent / "keypoints"
    keypoint_folder.mkdir()
    for t, frame in enumerate(openpose_frames(head_marks, take)):
        write_json(
            keypoint_folder / f"exo_{t + 5}_keypoints.json", frame
        )  # 10 comes before 5 by letters
        (keypoint_folder / f"._exo_{t + 5}_keypoints.json").write_bytes(
            b"\0\5\x16\7\xff"
        )  # of macOS
    assert headpose(take_folder, keypoint_folder) == 0
    assert "the turn is a guess" in capsys.readouterr().out
    assert distance(take_folder, take) < 0.06
    assert headpose(take_folder, keypoint_folder) == 2
    assert "--replace" in capsys.readouterr().err
    assert headpose(take_folder, keypoint_folder, "--replace", "--offset", "0,0,0.1") == 0


def test_clicks_say_what_the_wearer_looks_at(take_folder, take, head_marks, capsys):
    points_file, frame = take_folder.parent / "points.json", 4
    write_json(points_file, openpose_frames(head_marks, take))
    gaze_point = invert(take.ego.w2c)[frame] @ torch.tensor([0, 0, 1.0, 1.0], dtype=torch.float64)
    exo_uv, _ = take.exo.camera.project(transform(take.exo.pose, gaze_point[None]))
    u, v = exo_uv[0].clamp(torch.zeros(2), torch.tensor([223.0, 127.0])).tolist()

    def look_at(click: str) -> int:
        return headpose(take_folder, points_file, "--replace", "--look-at", click)

    assert look_at(f"{frame},{u:.1f},{v:.1f}") == 0
    (look,) = read_json(take_folder / HEAD_TRAJECTORY)["looks"]
    trajectory, _ = read_trajectory(take_folder / HEAD_TRAJECTORY, take.ego.camera)
    w2c = trajectory.ego.w2c[frame]
    gaze = torch.tensor(look["point"], dtype=torch.float64) - camera_centre(w2c)
    assert look["frame"] == frame
    assert float(w2c[2, :3] @ gaze / gaze.norm()) == pytest.approx(1)
    for click, message in (("99,5,5", "outside"), ("0,900,5", "outside"), ("4,9,9", "no depth")):
        if message == "no depth":
            (take_folder / DEPTH).unlink()
            assert headpose(take_folder, points_file, "--replace") == 0
            assert "note: no depth" in capsys.readouterr().out
            assert distance(take_folder, take) < 0.35
        assert look_at(click) == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("late", [0, 3, -4])
def test_who_is_out_of_step_is_told(late):
    scene_layout = draw_layout(replace(SPEC, frames=49, fps=20.0, motion=12.0))
    person, exo_path = project_person(scene_layout), scene_layout.scene.exo
    head_points = HeadPoints(
        uv=torch.from_numpy(np.roll(person.uv, late, axis=0)),
        scores=torch.ones(49, 8),
        picture=exo_path.camera.stored_size,
    )
    head_poses = torch.from_numpy(scene_layout.head.world_from_eyes)
    w2c = compose(ego_from_head(1), invert(head_poses))
    ego_path = CameraPath(lens=None, w2c=w2c, world="take")
    notes = check_pose_shift(head_points, ego_path, exo_path)
    expected_words = f"best {abs(late)} frames {'later' if late > 0 else 'earlier'}"
    assert len(notes) == bool(late) and all(expected_words in note.text for note in notes)
    assert not check_pose_shift(
        head_points, replace(ego_path, w2c=w2c[:1].expand(49, 3, 4)), exo_path
    )


def test_a_body_models_npz_into_meta_json(take_folder, take, head_marks):
    """Check that key points of a body model become ego poses in meta.json."""
    body_points = np.zeros((9, 70, 3), dtype=np.float32)
    body_points[:, [MHR_POINTS[name] for name in POINTS]] = head_marks - [0, 0, 2]
    npz_file = take_folder.parent / "mhr.npz"
    np.savez(
        npz_file,
        pred_keypoints_3d=body_points,
        pred_cam_t=np.tile(np.float32([0, 0, 2]), (9, 1)),
        focal_length=np.full(9, take.exo.camera.fx, dtype=np.float32),
        image_size=np.array([128, 224]),
    )
    meta_before = read_json(take_folder / META)
    assert headpose(take_folder, npz_file, "--meta") == 2
    assert headpose(take_folder, npz_file, "--meta", "--replace") == 0
    meta_after = read_json(take_folder / META)
    for name in meta_before.keys() - {"ego_intrinsics"}:  # written anew with all its digits
        assert meta_after[name] == meta_before[name], name
    assert meta_after["pose_source"] == "head keypoints"
    path = load_take(take_folder, frame_count=9).trajectory.ego
    errors_m = (camera_centre(path.w2c) - camera_centre(take.ego.w2c)).norm(dim=-1)
    assert float(errors_m.median()) < 0.06


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (12, "for a video of 9"),
        (0, "expected a list"),
        (-1, "no person in any frame"),
    ],
)
def test_other_keypoints_are_refused(take_folder, take, head_marks, capsys, frames, message):
    keypoint_frames = openpose_frames(head_marks, take)
    keypoint_frames = [{"people": []}] * 9 if frames < 0 else (keypoint_frames * 2)[:frames]
    points_file = take_folder.parent / "points.json"
    write_json(points_file, keypoint_frames)
    assert headpose(take_folder, points_file) == 2
    assert message in capsys.readouterr().err and not (take_folder / HEAD_TRAJECTORY).exists()


def test_depth_along_rays_gives_the_same_path(take_folder, take, head_marks):
    """Check that the head's place follows from z of maps along rays."""
    points = take_folder / "points"
    points.mkdir()
    for number, frame in enumerate(openpose_frames(head_marks, take)):
        write_json(points / f"{number:06d}_keypoints.json", frame)
    assert headpose(take_folder, points) == 0
    z_distance_m = distance(take_folder, take)
    with np.load(take_folder / "depth.npz") as arrays:
        values = dict(arrays)
    height, width = values["depth_m"].shape[1:]
    ray_lengths = take.exo.camera.rescale(width, height).ray_lengths().numpy()
    np.savez(take_folder / "depth.npz", **values | {"depth_m": values["depth_m"] * ray_lengths})
    content = read_json(take_folder / META) | {"declared": {"depth.kind": "ray"}}
    write_json(take_folder / META, content)
    (take_folder / HEAD_TRAJECTORY).unlink()
    assert headpose(take_folder, points) == 0
    assert distance(take_folder, take) == pytest.approx(z_distance_m, abs=1e-3)
