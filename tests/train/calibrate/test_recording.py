"""Test ``calibrate`` on a drawn recording."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egox_core.safe_files import read_json, write_json
from egox_train.calibrate import structure
from egox_train.calibrate.recording import calibrate
from egox_train.calibrate.scale import similarity
from egox_train.calibrate.world import scale_by_depth
from egox_train.options import CalibrateOptions
from tests.refusals import refuses
from tests.train.cli.test_first_commands import (
    SMALL_RUN_OPTIONS,
    run_page,
    training_folder as training_folder,  # a fixture
)
from tests.train.drawn_recordings import RecordingSpec, write_film, write_recording

RECORDING = RecordingSpec(seed=307806134, seconds=9.5, late_frames=-9, size=(320, 192, 192))


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    """Write a drawn recording, and return its folder and the true camera poses."""
    folder = tmp_path_factory.mktemp("filmed") / "recording"
    take = write_recording(RECORDING, folder)
    write_json(folder / "lens.json", take.ego.camera.to_json())
    return folder, take.ego.upright_w2c.numpy(), take.exo.w2c[0].numpy()


def camera_centres(w2c: np.ndarray) -> np.ndarray:
    return -np.einsum("nji,nj->ni", w2c[:, :, :3], w2c[:, :, 3])


def test_own_recordings_page_leads_to_a_training(recording, training_folder, monkeypatch):
    """Run the commands of docs/own_recordings.md, and compare the calibration with the true
    cameras."""
    pytest.importorskip("pycolmap", reason="pycolmap has no wheel here (extra calibrate)")
    recording_folder, true_head_poses, true_exo_pose = recording
    (training_folder / "recording").mkdir()
    for file in ("ego.mp4", "exo.mp4", "exo_depth.npz"):
        shutil.copyfile(recording_folder / file, training_folder / "recording" / file)
    shutil.copyfile(recording_folder / "lens.json", training_folder / "lens.json")
    options_by_command = SMALL_RUN_OPTIONS | {
        "calibrate": "--ego-lens lens.json --exo-lens phone",
        "prepare": "--size 112x64 --frames 5 --clips-per-camera 2",
    }
    scale_arguments = []

    def record_arguments(*arguments):
        scale_arguments.append(arguments)
        return scale_by_depth(*arguments)

    monkeypatch.setattr("egox_train.calibrate.recording.scale_by_depth", record_arguments)
    run_page("own_recordings.md", training_folder, options_by_command)
    structure, exo_files, *others = scale_arguments[0]
    files_without_depth = [replace(file, depth=None) for file in exo_files]
    _, _, how = scale_by_depth(structure, files_without_depth, *others[:-1], training_folder)
    assert "exo's metric depth" in how, "that of the page's depth model"
    report = read_json(training_folder / "data" / "takes" / "recording_calibration.json")
    (exo_report,) = report["fixed_cameras"]
    written_lens = report["head_camera"]["lens"]
    given_lens = read_json(recording_folder / "lens.json")
    assert written_lens["fx"] == pytest.approx(given_lens["fx"]) and not report["notes"], (
        "a file's lens is held"
    )
    assert (
        exo_report["how"].startswith("by pictures")
        and "exo's metric depth" in report["scale"]["how"]
    )
    assert abs(exo_report["offset_s"] - RECORDING.offset_s) < 0.01 + exo_report["distance_m"] / 343
    exo_meta = read_json(training_folder / "data" / "takes" / "recording_exo" / "meta.json")
    assert exo_meta["ego_camera"]["quarter_turns"] == 0
    exo_pose, ego_w2c = (
        np.array(exo_meta["camera_extrinsics"]),
        np.array(exo_meta["ego_extrinsics"]),
    )
    # ego begins 9 frames before exo, so exo's first frame is ego's tenth
    true_ego_w2c = true_head_poses[9 : 9 + len(ego_w2c)]
    world_rotation = Rotation.from_matrix(
        true_ego_w2c[:, :, :3].transpose(0, 2, 1) @ ego_w2c[:, :, :3]
    ).mean()
    world_rotation = world_rotation.as_matrix()
    scale, _, _ = similarity(camera_centres(ego_w2c), camera_centres(true_ego_w2c))
    shift = (camera_centres(true_ego_w2c) - camera_centres(ego_w2c) @ world_rotation.T).mean(0)
    position_error = (
        camera_centres(exo_pose[None])[0] @ world_rotation.T
        + shift
        - camera_centres(true_exo_pose[None])[0]
    )
    rotation_error = Rotation.from_matrix(
        exo_pose[:, :3] @ world_rotation.T @ true_exo_pose[:, :3].T
    ).magnitude()
    assert 0.9 < scale < 1.1
    assert (
        np.linalg.norm(position_error) < 3 * exo_report["sd_m"]
        and exo_report["sd_m"] < 0.12 * exo_report["distance_m"]
    )
    assert np.degrees(rotation_error) < 3 * exo_report["sd_deg"] < 3
    assert np.abs(world_rotation[2, :2]).max() < 0.1, "z is up"
    assert (training_folder / "data" / "takes" / "recording_exo" / "cameras.png").is_file()


def test_calibration_without_pycolmap_uses_the_wearers_head(recording, tmp_path, monkeypatch):
    """Check that ``calibrate`` finds the cameras by the wearer's head if pycolmap is missing."""
    recording_folder, true_head_poses, _ = recording

    def report_missing(name: str):
        assert name == "pycolmap"

    monkeypatch.setattr("importlib.util.find_spec", report_missing)
    with refuses("package pycolmap.*calibrate"):
        structure.require_pycolmap()
    with refuses("package pycolmap"):
        calibrate(recording_folder, tmp_path / "none", CalibrateOptions())
    path_file = tmp_path / "path.txt"
    rows = []
    for t, pose in enumerate(true_head_poses):
        position = 1000 * camera_centres(pose[None])[0]
        quaternion = Rotation.from_matrix(pose[:, :3].T).as_quat()
        rows.append(" ".join(map(str, (t / RECORDING.fps, *position, *quaternion))))
    path_file.write_text("\n".join(rows), "utf-8")
    options = CalibrateOptions(
        path=path_file,
        ego_lens=str(recording_folder / "lens.json"),
        exo_lens="phone",
        offset_s=RECORDING.offset_s,
        declare=("ego.unit=mm",),
    )
    stages = []
    outcome = calibrate(
        recording_folder, tmp_path / "out", options, lambda *counts: stages.append(counts[2])
    )
    assert stages[-1] == "stage 4 of 5: fixed cameras"
    assert any("not by pictures: package pycolmap" in note for note in outcome.notes)
    assert outcome.scale.how_found == "the path of path.txt"
    assert np.allclose(outcome.ego_w2c, true_head_poses, atol=1e-3)
    assert "lens is not known" in outcome.exos[0].how_found and not outcome.takes


def test_incomplete_recordings_are_refused(tmp_path):
    with refuses("expected ego.mp4 of the head camera"):
        calibrate(tmp_path, tmp_path / "out", CalibrateOptions())
    for name in ("ego.mp4", "exo.mp4"):
        write_film(tmp_path / name, np.zeros((16, 16, 32, 3), np.uint8), 8, None, "aac")
    with refuses("got 2.0 s; expected 8 s or more"):
        calibrate(tmp_path, tmp_path / "out", CalibrateOptions())
