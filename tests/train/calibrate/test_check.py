"""Test ``calibrate --check``, which finds wrong cameras and clocks in a data set."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import train_egox
from egox_core.cameras import CameraModel
from egox_core.file_names import DEPTH, META, TRUTH
from egox_core.metrics import SceneFit
from egox_core.robots.fit import CameraFit
from egox_core.safe_files import read_json, write_json
from egox_core.takes import meta_entry
from egox_core.video import decode_frames, probe_video
from egox_train.calibrate.check import check_set
from egox_train.calibrate.view_pose import ViewPose
from egox_train.data import robot_clips
from egox_train.data.robot_clips import write_robots
from egox_train.options import RobotOptions
from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, make_take, write_take

FRAMES = 33
ERROR_ROTATION = Rotation.from_rotvec([5.0, -6.7, 5.5], degrees=True).as_matrix()  # 10 degrees


@pytest.fixture(autouse=True)
def two_compared_frames(monkeypatch) -> None:
    """Compare two frames of a take with its scene, instead of nine."""
    monkeypatch.setattr("egox_train.calibrate.view_fit.COMPARED_FRAMES", 2)


@pytest.fixture(scope="module")
def drawn_takes(tmp_path_factory) -> Path:
    """Write two drawn takes to a folder, of which one gives its poses alone."""
    folder = tmp_path_factory.mktemp("takes")
    spec = SyntheticSpec(
        seed=71, frames=FRAMES, exo_width=128, exo_height=80, ego_size=96, edge_samples=1
    )
    poses_spec = replace(spec, seed=72, exo_width=32, exo_height=16, ego_size=32)
    for take_spec, name in ((spec, "one"), (poses_spec, "another")):
        write_take(make_take(take_spec), folder / name)
    return folder


def copy_changed(drawn_takes: Path, folder: Path, **changes) -> dict:
    """Copy a take with changed entries in its meta.json."""
    shutil.copytree(drawn_takes / "one", folder)
    meta_content = read_json(folder / META)
    write_json(
        folder / META, meta_content | {key: np.array(x).tolist() for key, x in changes.items()}
    )
    return meta_content


def stated_poses(take: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the ego and exo poses that a take's meta.json states."""
    meta = meta_entry(read_json(take / META), take / META)
    return np.array(meta["ego_extrinsics"]), np.array(meta["camera_extrinsics"])


def test_a_right_take_passes_the_check(drawn_takes, tmp_path, capsys):
    takes = tmp_path / "takes"
    shutil.copytree(drawn_takes / "one", takes / "one")
    meta_content = read_json(takes / "one" / META)  # as released takes: a picture more than poses
    poses = meta_content["ego_extrinsics"][:-1]
    write_json(takes / "one" / META, meta_content | {"ego_extrinsics": poses})
    command = ["calibrate", str(takes), str(tmp_path), "--check", "--depth-sd", "0.01"]
    assert train_egox.main(command) == 0
    output = capsys.readouterr().out
    assert "0 of 1 episodes are wrong" in output
    assert "the clock of 1 of 1 by the head's turns, the turn of 1 of 1 by its view" in output
    (row,) = json.loads((tmp_path / "check.json").read_text("utf-8"))
    assert row["sigmas"] < 3 and abs(row["late_s"]) < 0.05
    assert np.linalg.norm(row["turn_deg"]) < row["turn_sd_deg"] < 2.5
    assert np.linalg.norm(row["shift_m"]) < 0.03


def test_right_take_whose_depth_has_another_size_is_not_accused(drawn_takes, tmp_path):
    """Check depth that is 12 % too small and bent: its size is found, unless it is said to be
    known."""
    take = tmp_path / "set" / "one"
    shutil.copytree(drawn_takes / "one", take)
    with np.load(take / DEPTH) as depth:
        arrays = dict(depth)
    bend = np.exp(0.06 * np.sin(np.linspace(0, 6, arrays["depth_m"].shape[2])))
    arrays["depth_m"] = (0.88 * bend * arrays["depth_m"]).astype(np.float16)
    np.savez(take / DEPTH, **arrays)
    (row,) = check_set(tmp_path / "set")
    assert not row.is_wrong and row.finding.startswith("its view fits; a move below ")
    assert row.view.length_m < 0.03
    (row_of_known_depth,) = check_set(tmp_path / "set", depth_sd=0.0)
    assert row_of_known_depth.is_wrong


def test_turn_and_move_are_named_where_they_can_be_told_apart():
    """Check a head camera 2 m before exo, as far as its view's turn and shift are known."""
    ego_from_exo = np.c_[np.eye(3), [0.0, 0.0, 2.0]]
    camera = CameraModel.pinhole(64, 64, 60.0)
    turn = Rotation.from_rotvec([0, 10, 0], degrees=True).as_matrix()
    fit = SceneFit(
        rotation=turn,
        shift_m=turn.T @ [0, 0, 2] - [0, 0, 2],  # exo turned about itself
        log_focal=0.0,
        log_size=0.0,
        covariance=1e-6 * np.eye(8),
        score=0.9,
        tile_errors=np.linspace(0.4, 0.6, 16),
        freedom=9,
    )
    surely_turned = ViewPose.of_fit(fit, ego_from_exo, camera)
    assert surely_turned.needed_text() == "its view fits if exo is turned by 10 degrees"
    exo_axes = np.zeros((8, 1))  # a turn about y, and the move of exo that looks like it
    exo_axes[[1, 3], 0] = 0.2, -0.39
    vague_fit = replace(fit, covariance=fit.covariance + exo_axes @ exo_axes.T)
    vague = ViewPose.of_fit(vague_fit, ego_from_exo, camera)
    assert vague.turn_interval_deg > 10 and not vague.is_turned
    tight_place = replace(vague, shift_interval_m=0.1)
    assert tight_place.is_off and tight_place.needed_text().startswith("exo's pose is off")
    moved = replace(surely_turned, turn_deg=np.zeros(3), exo_shift_m=0.3)
    assert moved.needed_text() == "its view fits if exo is moved by 30 cm"
    stated_fit = replace(fit, rotation=np.eye(3), shift_m=np.zeros(3))
    worse_fit = replace(stated_fit, tile_errors=fit.tile_errors + np.linspace(0.01, 0.02, 16))
    assert ViewPose.of_fit(fit.among([fit, worse_fit]), ego_from_exo, camera).is_off
    assert not ViewPose.of_fit(fit.among([fit, stated_fit]), ego_from_exo, camera).is_off


@pytest.mark.parametrize(
    "fault, expected_text",
    [
        ("turned exo", "exo (or head )?camera turned or moved"),
        pytest.param("moved exo", "exo (or head )?camera turned or moved", marks=pytest.mark.slow),
        ("another lens", "exo camera has another lens"),
        ("late", "late; its view fits"),
    ],
)
def test_wrong_cameras_and_clocks_are_named(drawn_takes, tmp_path, fault, expected_text):
    ego, exo = stated_poses(drawn_takes / "one")
    wrong_poses = {}
    if fault == "turned exo":
        wrong_poses["camera_extrinsics"] = ERROR_ROTATION @ exo
    elif fault == "another lens":
        meta = read_json(drawn_takes / "one" / META)
        lens = meta["exo_camera"]
        wrong_poses["exo_camera"] = lens | {key: 1.3 * lens[key] for key in ("fx", "fy")}
        wrong_poses["camera_intrinsics"] = meta["camera_intrinsics"] * np.array([1.3, 1.3, 1])
    elif fault == "moved exo":
        wrong_poses["camera_extrinsics"] = np.c_[exo[:, :3], exo[:, 3] + [0.2, -0.1, 0.2]]
    else:
        wrong_poses["ego_extrinsics"] = np.concatenate([ego[:1], ego[:1], ego[:-2]])
    copy_changed(drawn_takes, tmp_path / "set" / "one", **wrong_poses)
    if fault == "late":  # in the form of the authors' lists
        meta_file = tmp_path / "set" / "one" / META
        write_json(
            meta_file, {"test_datasets": [{"exo_path": "one/exo.mp4"} | read_json(meta_file)]}
        )
    (row,) = check_set(tmp_path / "set", depth_sd=0.05 if fault == "late" else 0.0)
    assert row.is_wrong and row.is_view_tested and re.match(expected_text, row.finding)
    assert row.lag_s == pytest.approx(0.1 if fault == "late" else 0, abs=0.03)


@pytest.mark.parametrize(
    "wrong_part, expected_start",
    [
        ("other poses", "other poses: "),
        (TRUTH, "mirrored: the head turns to the left in its pictures"),
    ],
)
def test_other_poses_and_mirrored_videos_are_named(
    drawn_takes, tmp_path, wrong_part, expected_start
):
    folder = tmp_path / "set" / "one"
    copy_changed(drawn_takes, folder, ego_extrinsics=stated_poses(drawn_takes / "another")[0])
    if wrong_part != "other poses":
        shutil.copyfile(drawn_takes / "one" / META, folder / META)
        source, file = drawn_takes / "one" / wrong_part, folder / wrong_part
        video_info = probe_video(source)
        frames = decode_frames(source, video_info, range(FRAMES))
        pictures = [picture[:, ::-1] for _, picture in frames]
        write_video(file, torch.from_numpy(np.stack(pictures)), video_info.fps)
    (row,) = check_set(tmp_path / "set")
    assert row.is_wrong and row.finding.startswith(expected_start)


def test_set_of_which_nothing_can_be_tested_is_not_called_right(drawn_takes, tmp_path, capsys):
    ego, _ = stated_poses(drawn_takes / "one")
    copy_changed(drawn_takes, tmp_path / "set" / "one", ego_extrinsics=ego[:3])
    (tmp_path / "set" / "one" / DEPTH).unlink()
    assert train_egox.main(["calibrate", str(tmp_path / "set"), "--check"]) == 3
    assert "testable: the clock of 0 of 1 by" in capsys.readouterr().out


def test_robot_sets_and_takes_without_depth_are_checked(drawn_takes, tmp_path, monkeypatch):
    """Check that ``calibrate --check`` also works on LeRobot data sets and on takes without
    depth."""
    pytest.importorskip("pyarrow", reason="reads parquet")
    ego, _ = stated_poses(drawn_takes / "one")
    copy_changed(
        drawn_takes, tmp_path / "takes" / "late", ego_extrinsics=np.r_[ego[:1], ego[:1], ego[:-2]]
    )
    shutil.copytree(drawn_takes / "one", tmp_path / "takes" / "right")
    monkeypatch.setattr(  # the check reads no fit
        robot_clips,
        "camera_fit",
        lambda scene, path, ego, *more, **options: CameraFit.untested(len(ego)),
    )
    list(write_robots(RobotOptions(clips=tmp_path / "takes", out=tmp_path / "robots", task="x")))
    late_row, right_row = check_set(tmp_path / "robots")
    assert (late_row.name, late_row.is_wrong, right_row.name, right_row.is_wrong) == (
        "late",
        True,
        "right",
        False,
    )
    assert late_row.lag_s == pytest.approx(0.1, abs=0.03) and "no depth" in right_row.finding
    (tmp_path / "takes" / "right" / DEPTH).unlink()
    (row,) = check_set(tmp_path / "takes" / "right")
    assert "not testable" in row.finding and not row.is_wrong
