"""Test loading a take folder: all parts have the same frames at any start and frame rate."""

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
from egox_core.exchange import write_trajectory
from egox_core.safe_files import read_json, write_json
from egox_core.take import load_take
from egox_core.takes import read_meta
from egox_core.types import TakeNotes
from egox_train.data.sources import list_takes
from egox_train.video_writer import write_video
from tests.poses import still_poses
from tests.refusals import refuses

VIDEO_FRAMES = 34


@pytest.fixture(scope="module")
def take_folder(tmp_path_factory) -> Path:
    pytest.importorskip("av", reason="decodes video")
    new_folder = tmp_path_factory.mktemp("takes") / "corridor"
    frame_numbers = np.arange(VIDEO_FRAMES)[:, None, None, None]
    frames = np.broadcast_to(7 * frame_numbers, (VIDEO_FRAMES, 48, 80, 3)).astype(np.uint8)
    write_video(new_folder / "exo.mp4", torch.from_numpy(frames), 20.0)
    depth_m = np.broadcast_to(1 + frame_numbers[1:, 0], (VIDEO_FRAMES - 1, 48, 80)).astype(
        np.float16
    )
    np.savez_compressed(new_folder / "depth.npz", depth_m=depth_m)
    poses = still_poses(VIDEO_FRAMES)
    poses[:, 2, 3] = torch.arange(VIDEO_FRAMES) / 10
    write_json(
        new_folder / "meta.json",
        {
            "prompt": "a corridor",
            "camera_intrinsics": [[70, 0, 40], [0, 70, 24], [0, 0, 1]],
            "camera_extrinsics": torch.eye(3, 4).tolist(),
            "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
            "ego_extrinsics": poses.tolist(),
        },
    )
    return new_folder


@pytest.mark.parametrize(
    ("focal_px", "centre_px", "is_remarked"),
    [
        (150, (255.5, 255.5), False),  # every released take's
        (75, (127.5, 127.5), False),
        (204.6, (224.0, 226.8), False),  # that of the priors' lens
        (224, (223.5, 223.5), True),  # an upright 90 degree camera
        (900, (959.5, 539.5), True),
        (610, (703.5, 703.5), True),
    ],
)
def test_ego_intrinsics_of_another_camera_are_remarked(
    take_folder, tmp_path, focal_px, centre_px, is_remarked
):
    shutil.copytree(take_folder, tmp_path / "take")
    meta_content = read_json(take_folder / "meta.json")
    meta_content["ego_intrinsics"] = [
        [focal_px, 0, centre_px[0]],
        [0, focal_px, centre_px[1]],
        [0, 0, 1],
    ]
    write_json(tmp_path / "take/meta.json", meta_content)
    remarks = [load_take(tmp_path / "take", frame_count=5).notes.placed]
    remarks.append(stages.path(tmp_path / "take/meta.json")[1].placed)
    (raw_take,) = list_takes(tmp_path / "take", "auto", [])
    remarks.append("; ".join(map(str, raw_take.notes)))
    assert [("quarter_turns" in remark) for remark in remarks] == [is_remarked] * 3
    taken = load_take(tmp_path / "take", frame_count=5).trajectory.ego
    read = stages.path(tmp_path / "take/meta.json")[0].ego
    assert taken.lens_guessed is read.lens_guessed is is_remarked
    take_with_preset = load_take(tmp_path / "take", frame_count=5, camera_preset="pinhole")
    _, path_notes = stages.path(tmp_path / "take/meta.json", camera="aria_released")
    assert "turns" not in take_with_preset.notes.placed + path_notes.placed
    upright_camera = preset_camera("pinhole", 448)
    write_json(
        tmp_path / "take/meta.json", {**meta_content, "ego_camera": upright_camera.to_json()}
    )
    take_with_camera = load_take(tmp_path / "take", frame_count=5, ego_size=448)
    assert (
        "turns" not in take_with_camera.notes.placed
        and take_with_camera.trajectory.ego.camera == upright_camera
    )


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_take_folder_without_unicode_name_is_skipped_in_training(take_folder, tmp_path):
    renamed_folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(take_folder, renamed_folder)
    assert load_take(renamed_folder, frame_count=5).name == renamed_folder.name
    skipped_takes: list[tuple[str, str]] = []
    assert (
        not list(list_takes(renamed_folder, "auto", skipped_takes))
        and "no Unicode" in skipped_takes[0][1]
    )


def test_longer_parts_are_cut_and_too_short_ones_refused(take_folder):
    assert load_take(take_folder, frame_count=None).frames.indices.shape == (33,)
    with refuses("depth depth.npz: got 33 frames"):
        load_take(take_folder, start_frame=1, frame_count=33)
    with refuses("use frame_count 33"):
        load_take(take_folder)
    with refuses("no folder"):
        load_take(take_folder / "none")


@pytest.mark.parametrize(
    ("poses", "file_frames", "frames_in_use"),
    [
        (33, "auto", (0, 32)),
        (33, "source", (0, 32)),
        (33, "in use", (0, 32)),
        (20, "auto", None),  # not the first 20
        (34, "auto", (2, 30)),  # by the numbers of depth's files
    ],
)
def test_a_whole_clip_is_cut_to_its_facts(take_folder, tmp_path, poses, file_frames, frames_in_use):
    take_path = tmp_path / "take"
    shutil.copytree(take_folder, take_path)
    meta_content = read_json(take_folder / "meta.json")
    meta_content["ego_extrinsics"] = meta_content["ego_extrinsics"][:poses]
    write_json(take_path / "meta.json", meta_content)
    depth_m = np.load(take_path / "depth.npz")["depth_m"].astype(np.float32)
    (take_path / "depth.npz").unlink()
    (take_path / "depth").mkdir()
    first, last = (2, 30) if poses == 34 else (0, 32)
    for number in range(first, last + 1):
        np.save(take_path / "depth" / f"frame_{number:06}.npy", depth_m[number])
    options = {"frame_count": None, "whole_latents": False, "file_frames": file_frames}
    if frames_in_use is None:
        with refuses("got 20 frames for a video of 34 frames"):
            load_take(take_path, **options)
        return
    take = load_take(take_path, **options)
    first, last = frames_in_use
    assert take.frames.indices.tolist() == list(range(first, last + 1))
    assert take.depth.depth_m[:, 0, 0].tolist() == (take.frames.indices + 2).tolist()
    assert take.trajectory.ego.w2c[:, 2, 3].tolist() == pytest.approx(take.frames.indices / 10)
    (row,) = (row for row in take.facts if row.fact == "frames")
    assert row.value == f"{first} to {last} of the video's 34"
    assert ("ego_extrinsics" in row.by) is (poses == 33)


def test_exact_exo_camera_of_another_aspect_ratio_is_refused(take_folder, tmp_path):
    shutil.copytree(take_folder, tmp_path / "take")
    meta_content = read_json(take_folder / "meta.json")
    meta_content["exo_camera"] = CameraModel.pinhole(640, 480, 500.0).to_json()
    write_json(tmp_path / "take" / "meta.json", meta_content)
    with refuses("exo_camera of take: got one of 640x480 px for a picture of"):
        load_take(tmp_path / "take", frame_count=9)


def test_a_file_of_head_poses_keeps_its_lens_unless_one_is_chosen(take_folder, tmp_path):
    shutil.copytree(take_folder, tmp_path / "take")
    meta_content = read_json(take_folder / "meta.json")
    frames = load_take(take_folder, frame_count=5).frames
    made, _ = stages.path(take_folder / "meta.json", frames=frames, camera="pinhole")
    write_trajectory(tmp_path / "take" / "head_trajectory.json", made, TakeNotes())
    del meta_content["ego_extrinsics"], meta_content["ego_intrinsics"]
    write_json(tmp_path / "take" / "meta.json", meta_content)
    for preset, lens in ((None, "pinhole"), ("aria_released", "opencv_fisheye")):
        ego = load_take(tmp_path / "take", frame_count=5, camera_preset=preset).trajectory.ego
        assert (ego.camera.lens, ego.camera.stored_size) == (lens, (48, 48))
        assert torch.allclose(ego.upright_w2c, made.ego.upright_w2c)
        assert not ego.lens_guessed


def test_missing_depth_is_refused_with_advice(take_folder, tmp_path):
    for name in ("exo.mp4", "meta.json"):
        (tmp_path / name).write_bytes((take_folder / name).read_bytes())
    with refuses("stages.align"):
        load_take(tmp_path, frame_count=5)


def test_released_takes_are_loaded(shared_dir):
    for released_folder in sorted((shared_dir / "data" / "takes").iterdir()):
        take = load_take(released_folder)
        assert take.frames.size == (784, 448)
        assert take.depth.depth_m.shape == (49, 448, 784)
        assert take.trajectory.ego.w2c.shape == (49, 3, 4)
        assert take.depth.exo.camera.cx == 392


@pytest.mark.parametrize("entry", ["walk", "1"])
def test_a_listed_take_is_named_by_its_video(take_folder, tmp_path, entry):
    content = read_json(take_folder / "meta.json")
    entries = [content | {"path": f"videos_49/{name}.mp4"} for name in ("sit", "walk")]
    entries[1] |= {"prompt": "she walks"}
    list_file = tmp_path / "camera_params.json"
    write_json(list_file, {"test_datasets": entries})
    assert read_meta(list_file, entry).prompt == "she walks"
    assert read_meta(list_file, video=tmp_path / "walk.mp4").name == "walk"
    with refuses("expected one of .'sit', 'walk'"):
        read_meta(list_file, "run")
