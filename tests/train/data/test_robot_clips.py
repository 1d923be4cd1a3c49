"""Test ``lerobot``, which writes clips as a LeRobot data set."""

import re
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.file_names import DEPTH, HANDS, META, SEEN, TRUTH
from egox_core.frozen import content_digest
from egox_core.robots.fit import CameraFit, camera_fit
from egox_core.safe_files import read_json, write_json
from egox_core.video import probe_video
from egox_train.data import robot_clips
from egox_train.data.clip_files import read_all
from egox_train.data.manifest import read_manifest
from egox_train.data.robot_clips import write_robots
from egox_train.options import RobotOptions
from egox_train.video_writer import write_video
from tests.core.robots.episodes import frames_in_order, read_rows
from tests.refusals import refuses

pytest.importorskip("pyarrow", reason="writes parquet")


@pytest.fixture
def measured_clips(monkeypatch) -> list[int]:
    """Leave out the search of each clip's cameras, and list the frames of those it is asked for."""
    frame_counts = []

    def leave_untested(scene, trajectory, ego, *others, **options) -> CameraFit:
        frame_counts.append(len(ego))
        return CameraFit.untested(len(ego))

    monkeypatch.setattr(robot_clips, "camera_fit", leave_untested)
    return frame_counts


def test_prepared_clips_keep_their_hands_and_classes(training_set, tmp_path, measured_clips):
    clip_records = read_manifest(training_set / "manifest.jsonl")
    options = RobotOptions(clips=training_set, out=tmp_path, task="move things", seen=True)
    assert len(list(write_robots(options))) == len(clip_records)
    for row, pictures in frames_in_order(tmp_path):
        record = clip_records[row["episode_index"]]
        classes = read_all(training_set / record.folder / SEEN, record.frames, record.ego_size)
        classes_shown = pictures["observation.images.ego_seen"].astype(int)
        assert np.abs(classes_shown - classes[row["frame_index"]].numpy()).max() < 2
        assert all(row["egox.hand_valid"]) and not row["egox.ego_generated"]
    assert not list(write_robots(options)), "all of them are in the set"


def test_a_recorded_clip_keeps_every_frame_and_a_generated_one_whole_latents(
    take_writers, tmp_path, measured_clips
):
    take_folder = take_writers.write_synthetic(tmp_path / "takes", 1, frames=12) / "synthetic_000"
    generated = tmp_path / "ego" / "synthetic_000.mp4"
    generated.parent.mkdir()
    shutil.copyfile(take_folder / TRUTH, generated)
    for ego_folder, expected_count in ((None, 12), (generated.parent, 9)):
        set_folder = tmp_path / f"set_{expected_count}"
        options = RobotOptions(
            clips=tmp_path / "takes", out=set_folder, task="move things", ego=ego_folder
        )
        assert [line.split(" frames")[0] for line in write_robots(options)] == [
            f"synthetic_000: {expected_count}"
        ]
        assert len(read_rows(set_folder, "data")) == expected_count


@pytest.mark.parametrize("file_frames", ["auto", "source", "in use"])
def test_a_take_with_a_frame_more_than_poses_ends_with_its_poses(
    take_writers, tmp_path, measured_clips, file_frames
):
    take_folder = take_writers.write_synthetic(tmp_path / "takes", 1, frames=10) / "synthetic_000"
    content = read_json(take_folder / META)
    write_json(take_folder / META, content | {"ego_extrinsics": content["ego_extrinsics"][:9]})
    depth_m = np.load(take_folder / DEPTH)["depth_m"]
    np.savez(take_folder / DEPTH, depth_m=depth_m[:9])
    options = RobotOptions(
        clips=tmp_path / "takes", out=tmp_path / "set", task="work", file_frames=file_frames
    )
    (line,) = write_robots(options)
    assert "9 frames" in line
    assert "frames: 0 to 8 of the video's 10 (by" in line
    rows = read_rows(tmp_path / "set", "data")
    assert [row["frame_index"] for row in rows] == list(range(9))


@pytest.mark.parametrize("changed_part", [None, DEPTH, "depth/0.npy", SEEN, "task", "declare"])
def test_episode_digest_depends_on_all_inputs(tmp_path, repo_root, changed_part):
    folder = tmp_path / "clips" / "a"
    shutil.copytree(repo_root / "sample" / "calm_room", folder)
    (folder / SEEN).write_bytes(b"0")
    options = RobotOptions(clips=tmp_path / "clips", out=tmp_path, task="work", seen=True)
    [source] = robot_clips._clip_sources(options)
    digest_before = robot_clips._digest(source, options)
    if changed_part == "task":
        source = replace(source, task="rest")
    elif changed_part == "declare":
        options = replace(options, declare=("depth.unit=m",))
    elif changed_part:
        file = folder / changed_part
        file.parent.mkdir(exist_ok=True)
        file.write_bytes((file.read_bytes() if file.is_file() else b"")[:-1] + b"1")
    assert (robot_clips._digest(source, options) == digest_before) is (changed_part is None)


def test_failed_clips_are_named_and_the_others_written(tmp_path, repo_root, monkeypatch):
    fits = {}

    def fit_once(scene, trajectory, *others, **options) -> CameraFit:
        key = content_digest(trajectory.ego.w2c)
        if key not in fits:
            fits[key] = camera_fit(scene, trajectory, *others, **options)
        return fits[key]

    monkeypatch.setattr(robot_clips, "camera_fit", fit_once)
    monkeypatch.setattr("egox_core.metrics.frame_alignment.MAX_FRAMES", 1)  # of 9
    monkeypatch.setattr("egox_core.metrics.exo_turn.SEARCH_FRAMES", 1)  # of 3
    good, bad = (tmp_path / "clips" / name for name in ("a_good", "b_bad"))
    for clip in (good, bad):
        shutil.copytree(repo_root / "sample" / "calm_room", clip)
    meta = read_json(bad / META)
    rotation = Rotation.from_euler("y", 10, degrees=True).as_matrix()
    write_json(bad / META, meta | {"ego_extrinsics": (rotation @ meta["ego_extrinsics"]).tolist()})
    options = RobotOptions(clips=tmp_path / "clips", out=tmp_path / "set", task="work")
    with refuses("1 of 2 clips.*b_bad"):
        list(write_robots(replace(options, strict=True)))
    assert [row["egox/name"] for row in read_rows(tmp_path / "set", "meta/episodes")] == ["a_good"]
    list(write_robots(options))
    fit_flags = [row["egox.camera_fits"] for row in read_rows(tmp_path / "set", "data")]
    assert fit_flags == [1] * 9 + [0] * 9


def test_clips_without_usable_hands_are_left_out_before_any_work(
    tmp_path, repo_root, measured_clips
):
    for name in ("a_none", "b_unseen", "c_whole"):
        shutil.copytree(repo_root / "sample" / "calm_room", tmp_path / "clips" / name)
    (tmp_path / "clips/a_none" / HANDS).unlink()
    hands_file = tmp_path / "clips/b_unseen" / HANDS
    hands = read_json(hands_file)
    hands["joints"][2:] = [[None, None]] * 7
    write_json(hands_file, {**hands, "reason": [[1, 1]] * 9})
    options = RobotOptions(clips=tmp_path / "clips", out=tmp_path / "set", task="work")
    with refuses("2 of 3 clips.*a_none, b_unseen.*the others are in the set"):
        list(write_robots(options))
    assert [row["egox/name"] for row in read_rows(tmp_path / "set", "meta/episodes")] == ["c_whole"]
    assert measured_clips == [9]
    lines = []
    with refuses("1 of 3 clips.*b_unseen.*nothing was written"):
        for line in write_robots(replace(options, check=True)):
            lines.append(line)
    assert "a_none: Whether the cameras fit" in lines[-3]


@pytest.mark.parametrize(
    ("frames", "speed_factor", "expected_text"),
    [
        (9, 1.0, None),
        (10, 1.001, None),
        (5, 1.0, "the ego video has the first 5 of 9 frames"),
        (15, 2.0, "left out.*got 9 frames in 0.50 s .16 a second.; expected 1.00 s"),
        (9, 0.5, "left out.*got 9 frames in 2.00 s"),
        (9, 1.25, "left out.*got 9 frames in 0.80 s"),
    ],
)
def test_an_ego_video_of_another_rate_is_refused(
    tmp_path, repo_root, measured_clips, frames, speed_factor, expected_text
):
    """Check that an ego video with another frame rate than the clip's is refused."""
    room_folder, ego_folder = repo_root / "sample" / "calm_room", tmp_path / "ego"
    video_info = probe_video(room_folder / TRUTH)
    pictures = read_all(room_folder / TRUTH, 9, (video_info.width, video_info.height))
    ego_folder.mkdir()
    repeated_pictures = pictures[torch.arange(frames).clamp(max=8)]
    write_video(
        ego_folder / "calm_room.mp4", repeated_pictures.float() / 255, speed_factor * video_info.fps
    )
    options = RobotOptions(
        clips=room_folder, out=tmp_path / "set", ego=ego_folder, task="x", check=True
    )
    is_refused = expected_text is not None and expected_text.startswith("left out")
    with refuses("1 of 1 clips") if is_refused else nullcontext():
        for line in write_robots(options):
            assert re.search(expected_text, line) if expected_text else "ego video" not in line, (
                line
            )
            assert is_refused or "left hand seen in" in line
