"""``lerobot`` over folders: prepared clips, generated videos, wrong cameras, and a set that is resumed."""

import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egox_core.file_names import META, SEEN
from egox_core.safe_files import read_json, write_json
from egox_train.data.clip_files import read_all
from egox_train.data.manifest import read_manifest
from egox_train.data.robot_clips import write_robots
from egox_train.options import RobotOptions
from tests.core.robots.episodes import frames_in_order, rows_of
from tests.refusals import refuses

pytest.importorskip("pyarrow", reason="writes parquet")


def test_prepared_clips_keep_their_hands_and_classes(training_set, tmp_path):
    records = read_manifest(training_set / "manifest.jsonl")
    options = RobotOptions(clips=training_set, out=tmp_path, task="move things", seen=True)
    assert len(list(write_robots(options))) == len(records)
    for row, pictures in frames_in_order(tmp_path):
        record = records[row["episode_index"]]
        classes = read_all(training_set / record.folder / SEEN, record.frames, record.ego_size)
        shown = pictures["observation.images.ego_seen"].astype(int)
        assert np.abs(shown - classes[row["frame_index"]].numpy()).max() < 2
        assert all(row["egox.hand_valid"]) and not row["egox.ego_generated"]
    assert not list(write_robots(options)), "all of them are in the set"


def test_clips_that_fail_are_named_and_the_others_written(tmp_path, repo_root):
    good, bad = tmp_path / "clips" / "a_good", tmp_path / "clips" / "b_bad"
    for clip in (good, bad):
        shutil.copytree(repo_root / "sample" / "calm_room", clip)
    meta = read_json(bad / META)
    turn = Rotation.from_euler("y", 10, degrees=True).as_matrix()
    write_json(bad / META, meta | {"ego_extrinsics": (turn @ meta["ego_extrinsics"]).tolist()})
    said = []
    options = {"clips": tmp_path / "clips", "out": tmp_path / "set", "task": "work"}
    with refuses("1 of 2 clips.*b_bad"):
        said.extend(write_robots(RobotOptions(**options, strict=True)))
    assert [row["egox/name"] for row in rows_of(tmp_path / "set", "meta/episodes")] == ["a_good"]
    list(write_robots(RobotOptions(**options)))
    fits = [row["egox.camera_fits"] for row in rows_of(tmp_path / "set", "data")]
    assert fits == [1] * 9 + [0] * 9
