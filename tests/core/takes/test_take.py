"""A take folder loaded as a whole: the same frames everywhere, whatever start and rate."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core import stages
from egox_core.cameras import CameraModel
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.trajectory_files import read_trajectory
from egox_core.frames import Frames
from egox_core.safe_files import read_json, write_json
from egox_core.take import load_take
from egox_train.data.sources import list_takes
from egox_train.video_writer import write_video
from tests.poses import still
from tests.refusals import refuses

COUNT = 34


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pytest.importorskip("av", reason="decodes video")
    folder = tmp_path_factory.mktemp("takes") / "corridor"
    numbers = np.arange(COUNT)[:, None, None, None]
    frames = np.broadcast_to(7 * numbers, (COUNT, 48, 80, 3)).astype(np.uint8)
    write_video(folder / "exo.mp4", torch.from_numpy(frames), 20.0)
    depth_m = np.broadcast_to(1 + numbers[1:, 0], (COUNT - 1, 48, 80)).astype(np.float16)
    np.savez_compressed(folder / "depth.npz", depth_m=depth_m)
    poses = still(COUNT)
    poses[:, 2, 3] = torch.arange(COUNT) / 10
    write_json(
        folder / "meta.json",
        {
            "prompt": "a corridor",
            "camera_intrinsics": [[70, 0, 40], [0, 70, 24], [0, 0, 1]],
            "camera_extrinsics": torch.eye(3, 4).tolist(),
            "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
            "ego_extrinsics": poses.tolist(),
        },
    )
    return folder


@pytest.mark.parametrize(
    ("focal", "centre", "told"),
    [
        (150, (255.5, 255.5), False),  # every released take's
        (75, (127.5, 127.5), False),
        (204.6, (224.0, 226.8), False),  # that of the priors' lens
        (224, (223.5, 223.5), True),  # an upright 90 degree camera
        (900, (959.5, 539.5), True),
        (610, (703.5, 703.5), True),
    ],
)
def test_a_take_that_states_only_k_of_another_ego_camera_is_told(
    folder, tmp_path, focal, centre, told
):
    shutil.copytree(folder, tmp_path / "take")
    content = read_json(folder / "meta.json")
    content["ego_intrinsics"] = [[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]
    write_json(tmp_path / "take/meta.json", content)
    remarks = [load_take(tmp_path / "take", frame_count=5).notes.placed]
    remarks.append(stages.path(tmp_path / "take/meta.json")[1].placed)
    (raw,) = list_takes(tmp_path / "take", "auto", [])
    remarks.append("; ".join(map(str, raw.notes)))
    assert [("quarter_turns" in remark) for remark in remarks] == [told] * 3
    declared = load_take(tmp_path / "take", frame_count=5, camera_preset="pinhole")
    _, path_notes = stages.path(tmp_path / "take/meta.json", camera="aria_released")
    assert "turns" not in declared.notes.placed + path_notes.placed
    upright = preset_camera("pinhole", 448)
    write_json(tmp_path / "take/meta.json", {**content, "ego_camera": upright.to_json()})
    stated = load_take(tmp_path / "take", frame_count=5, ego_size=448)
    assert "turns" not in stated.notes.placed and stated.trajectory.ego.camera == upright


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_a_folder_name_that_is_no_unicode_makes_no_training_set(folder, tmp_path):
    take = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(folder, take)
    assert load_take(take, frame_count=5).name == take.name
    skipped: list[tuple[str, str]] = []
    assert not list(list_takes(take, "auto", skipped)) and "no Unicode" in skipped[0][1]


def test_all_parts_are_of_the_same_frames(folder):
    plain = load_take(folder, frame_count=33)
    assert (
        plain.read_exo().shape == (33, 48, 80, 3)
        and plain.notes.prompt == "a corridor"
        and plain.name == "corridor"
    )
    assert plain.trajectory.ego.camera == preset_camera("aria_released", 48)
    half = load_take(folder, start_frame=8, frame_count=13, target_fps=10)
    indices = half.frames.indices.tolist()
    assert indices == list(range(8, 33, 2))
    assert torch.equal(half.depth.depth_m, plain.depth.depth_m[indices])
    assert torch.equal(half.trajectory.ego.w2c, plain.trajectory.ego.w2c[indices])
    assert torch.equal(half.read_exo(), plain.read_exo()[indices])
    assert torch.equal(half.trajectory.ego.frames.times_s, half.depth.exo.frames.times_s)


def test_a_moving_exo_camera_follows_the_frames_of_the_path(folder, tmp_path):
    content, exo = read_json(folder / "meta.json"), still(COUNT)
    exo[:, 0, 3] = torch.arange(COUNT) / 100
    write_json(tmp_path / "meta.json", {**content, "camera_extrinsics": exo.tolist()})
    camera = preset_camera("pinhole", 48)
    frames = load_take(folder, start_frame=8, frame_count=13, target_fps=10).frames
    assert torch.equal(
        read_trajectory(tmp_path / "meta.json", camera, frames)[0].exo.pose,
        exo[frames.indices],
    )
    assert torch.equal(read_trajectory(tmp_path / "meta.json", camera)[0].exo.pose, exo)
    assert torch.equal(
        read_trajectory(tmp_path / "meta.json", camera, Frames.of_count(5))[0].exo.pose, exo[:5]
    )


def test_longer_parts_are_cut_and_shorter_refused(folder):
    assert load_take(folder, frame_count=None).frames.indices.shape == (33,)
    with refuses("depth depth.npz: got 33 frames"):
        load_take(folder, start_frame=1, frame_count=33)
    with refuses("use frame_count 33"):
        load_take(folder)
    with refuses("no folder"):
        load_take(folder / "none")


@pytest.mark.parametrize(
    "case",
    [
        "34 -> read 34 entries, numbered 0 to 33: read by number",
        "25 -> read 25 entries for 34 frames, numbered 0 to 24",
        "33 -> read",
        "1 -> read",
        "49 -> refused 49",
        "34 exo 49 -> refused 49",
        "34 exo 25 -> read",
        "25 by drawing -> refused 25",
        "9 by a tool -> refused 9",
        "33 by drawing -> read",
    ],
)
def test_poses_made_with_the_pack_may_be_fewer_but_not_of_a_longer_video(folder, tmp_path, case):
    counts, result = case.split(" -> ")
    counts, _, maker = counts.partition(" by ")
    ego, _, exo = counts.partition(" exo ")
    content = read_json(folder / "meta.json") | {"pose_source": maker or "pose editor"}
    content["ego_extrinsics"] = still(int(ego)).tolist()
    if exo:
        poses = still(int(exo))
        poses[:, 0, 3] = torch.arange(len(poses)) / 9
        content["camera_extrinsics"] = poses.tolist()
    write_json(tmp_path / "meta.json", content)
    frames = load_take(folder, frame_count=9).frames
    result, _, more = result.partition(" ")
    if result == "refused":
        with refuses(f"{more} frames.* for a video of 34 frames .20 a second"):
            read_trajectory(tmp_path / "meta.json", preset_camera("aria_released", 64), frames)
        return
    path, notes = read_trajectory(
        tmp_path / "meta.json", preset_camera("aria_released", 64), frames
    )
    assert len(path.ego.w2c) == 9 and more in notes.placed


def test_an_exact_exo_camera_of_another_shape_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "take")
    content = read_json(folder / "meta.json")
    content["exo_camera"] = CameraModel.pinhole(640, 480, 500.0).to_json()
    write_json(tmp_path / "take" / "meta.json", content)
    with refuses("exo_camera of take: got one of 640x480 px for a picture of"):
        load_take(tmp_path / "take", frame_count=9)


def test_missing_depth_is_refused_with_advice(folder, tmp_path):
    for name in ("exo.mp4", "meta.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with refuses("stages.align"):
        load_take(tmp_path, frame_count=5)


def test_released_takes(shared_dir):
    for folder in sorted((shared_dir / "data" / "takes").iterdir()):
        take = load_take(folder)
        assert take.frames.size == (784, 448) and take.depth.depth_m.shape == (49, 448, 784)
        assert take.trajectory.ego.w2c.shape == (49, 3, 4) and take.depth.exo.camera.cx == 392
