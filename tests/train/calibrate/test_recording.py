"""``calibrate`` runs on a drawn pair, by the commands of docs/own_recordings.md up to ten steps of
training. Its refusals are tested, too."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import train_egox
from egox_core.safe_files import read_json, write_json
from egox_train.calibrate import structure
from egox_train.calibrate.recording import calibrate
from egox_train.calibrate.scale import similarity
from egox_train.options import CalibrateOptions
from tests.refusals import refuses
from tests.train.cli.test_first_commands import (
    SMALL_OPTIONS,
    run_page,
    workplace as workplace,  # a fixture
)
from tests.train.drawn_recordings import Filmed, write_film, write_recording

FILMED = Filmed(
    seed=5, seconds=11, late_frames=-9, depth_scale=1.0, keypoints=True, size=(448, 256, 224)
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    """Film a recording, and return its folder, the true poses of the head camera by its own frames,
    and exo's."""
    folder = tmp_path_factory.mktemp("filmed") / "recording"
    take = write_recording(FILMED, folder)
    write_json(folder / "lens.json", take.ego.camera.to_json())
    return folder, take.ego.upright_w2c.numpy(), take.exo.w2c[0].numpy()


def centres(w2c: np.ndarray) -> np.ndarray:
    return -np.einsum("nji,nj->ni", w2c[:, :, :3], w2c[:, :, 3])


def test_from_two_videos_to_a_training(recording, workplace, capsys):
    """Two mp4 and a lens become a training. With exo's true depth, offset, path, fixed camera and
    scale are right."""
    pytest.importorskip("pycolmap", reason="pycolmap has no wheel here (extra calibrate)")
    filmed, truth, exo_truth = recording
    (workplace / "recording").mkdir()
    for file in ("ego.mp4", "exo.mp4"):
        shutil.copyfile(filmed / file, workplace / "recording" / file)
    shutil.copyfile(filmed / "lens.json", workplace / "lens.json")
    more = SMALL_OPTIONS | {
        "calibrate": "--ego-lens lens.json --exo-lens phone",
        "prepare": "--size 112x64 --frames 5 --clips-per-camera 2",
    }
    run_page("own_recordings.md", workplace, more)
    report = read_json(workplace / "data" / "takes" / "calibration.json")
    assert "exo's metric depth" in report["scale"]["how"], "that of a random network"
    shutil.copyfile(filmed / "exo_depth.npz", workplace / "recording" / "exo_depth.npz")
    again = ["calibrate", "recording", "data/takes", *more["calibrate"].split()]
    assert train_egox.main(again) == 0
    report = read_json(workplace / "data" / "takes" / "calibration.json")
    (exo,) = report["fixed_cameras"]
    kept, given = report["head_camera"]["lens"], read_json(filmed / "lens.json")
    assert kept["fx"] == pytest.approx(given["fx"]) and not report["notes"], "a file's lens is held"
    assert exo["how"].startswith("by pictures") and "exo's metric depth" in report["scale"]["how"]
    assert abs(exo["offset_s"] - FILMED.offset_s) < 0.01 + exo["distance_m"] / 343
    meta = read_json(workplace / "data" / "takes" / "recording_exo" / "meta.json")
    assert meta["ego_camera"]["quarter_turns"] == 0
    pose, way = np.array(meta["camera_extrinsics"]), np.array(meta["ego_extrinsics"])
    # ego begins 9 frames before exo, so exo's first frame is ego's tenth
    true_way = truth[9 : 9 + len(way)]
    turn = Rotation.from_matrix(true_way[:, :, :3].transpose(0, 2, 1) @ way[:, :, :3]).mean()
    turn = turn.as_matrix()
    scale, _, _ = similarity(centres(way), centres(true_way))
    shift = (centres(true_way) - centres(way) @ turn.T).mean(0)
    off = centres(pose[None])[0] @ turn.T + shift - centres(exo_truth[None])[0]
    turned = Rotation.from_matrix(pose[:, :3] @ turn.T @ exo_truth[:, :3].T).magnitude()
    assert 0.9 < scale < 1.1
    assert np.linalg.norm(off) < 3 * exo["sd_m"] and exo["sd_m"] < 0.12 * exo["distance_m"]
    assert np.degrees(turned) < 3 * exo["sd_deg"] < 3
    assert np.abs(turn[2, :2]).max() < 0.1, "z is up"
    assert (workplace / "data" / "takes" / "recording_exo" / "cameras.png").is_file()


def test_without_pycolmap_the_rest_goes_on(recording, tmp_path, monkeypatch):
    """With a path, the wearer's head tells the camera, or says how badly."""
    filmed, truth, _ = recording

    def missing(name: str):
        assert name == "pycolmap"

    monkeypatch.setattr("importlib.util.find_spec", missing)
    with refuses("package pycolmap.*calibrate"):
        structure.require_pycolmap()
    with refuses("package pycolmap"):
        calibrate(filmed, tmp_path / "none", CalibrateOptions())
    path = tmp_path / "path.txt"
    rows = []
    for t, pose in enumerate(truth):
        place = centres(pose[None])[0]
        turn = Rotation.from_matrix(pose[:, :3].T).as_quat()
        rows.append(" ".join(map(str, (t / FILMED.fps, *place, *turn))))
    path.write_text("\n".join(rows), "utf-8")
    options = CalibrateOptions(
        path=path, ego_lens=str(filmed / "lens.json"), exo_lens="phone", offset_s=FILMED.offset_s
    )
    outcome = calibrate(filmed, tmp_path / "out", options)
    assert any("not by pictures: package pycolmap" in note for note in outcome.notes)
    assert outcome.scale.how == "the path of path.txt"
    assert np.allclose(outcome.ego_w2c, truth, atol=1e-3)
    assert "lens is not known" in outcome.exos[0].how and not outcome.takes


def test_recordings_that_are_none(tmp_path):
    with refuses("expected ego.mp4 of the head camera"):
        calibrate(tmp_path, tmp_path / "out", CalibrateOptions())
    for name in ("ego.mp4", "exo.mp4"):
        write_film(tmp_path / name, np.zeros((16, 16, 32, 3), np.uint8), 8, None, "aac")
    with refuses("got 2.0 s; expected 8 s or more"):
        calibrate(tmp_path, tmp_path / "out", CalibrateOptions())
