"""Camera paths of other programs, in files written by their public forms."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.poses import compose, invert
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.camera_files import CameraFile
from egox_core.exchange.trajectory_files import read_trajectory
from egox_core.frames import UNSAID, Frames
from egox_core.types import CameraTrajectory
from tests.path_forms import FORMS, Poses
from tests.poses import path_of
from tests.refusals import refuses

N = 12
K = np.array([[30.0, 0, 31.5], [0, 30, 31.5], [0, 0, 1]])
TURNS = Rotation.from_rotvec(np.linspace([0.1, -0.2, 0.05], [0.3, 0.4, -0.2], N))  # c2w, OpenCV
PLACES = np.linspace([0.0, 1.0, -2.0], [0.5, 1.2, 1.0], N)


def w2c() -> torch.Tensor:  # [N, 3, 4]
    return invert(torch.from_numpy(np.concatenate([TURNS.as_matrix(), PLACES[..., None]], 2)))


def trajectory() -> CameraTrajectory:
    return path_of(w2c(), preset_camera("pinhole", 64))


def written(form: str, folder: Path) -> Path:
    return FORMS[form](folder, Poses(w2c().numpy(), K, (64, 64), 30.0, w2c().numpy()))


@pytest.mark.parametrize("form", FORMS)
def test_a_path_is_read(form, tmp_path):
    path = CameraFile.read(file := written(form, tmp_path))
    assert (path.path.world == "take") == (form in ("vipe", "meta", "ours"))
    relative = [compose(poses, invert(poses[0])) for poses in (path.path.w2c, w2c())]
    assert torch.allclose(*relative, atol=1e-9)
    ego = read_trajectory(file, preset_camera("pinhole", 64))[0]
    assert torch.allclose(ego.ego.w2c, path.path.w2c)
    if form.startswith("colmap") or form == "transforms":
        assert torch.allclose(ego.ego.camera.intrinsics, torch.tensor(K))


def lines(file: Path, change: Callable[[str], str], head: str = "") -> None:
    text = "".join(change(line) for line in file.read_text("utf-8").splitlines(True))
    file.write_text(head + text, "utf-8")


def w_first(line: str) -> str:
    t, *place, x, y, z, w = line.split()
    return " ".join((t, *place, w, x, y, z)) + "\n"


def lost(zeros: str, rows: Sequence[str]) -> Callable[[str], str]:
    """Put a quaternion of zeros into lines whose first word is one of ``rows``."""
    at = slice(1, 5) if zeros == "colmap" else slice(4, 8)

    def change(line: str) -> str:
        words = line.split()
        if words and words[0] in rows:
            words[at] = ["0"] * 4
        return " ".join(words) + "\n"

    return change


def named(pattern: str) -> Callable[[str], str]:
    """Rename the pictures, in order."""

    def change(line: str) -> str:
        return re.sub(r"frame_(\d+)", lambda m: pattern.format(*[int(m[1])] * 3), line)

    return change


def digits(count: int) -> Callable[[str], str]:
    return lambda line: re.sub(r"-?\d\.\d+(?:e-\d+)?", lambda m: f"{float(m[0]):.{count}f}", line)


@pytest.mark.parametrize(
    "form, change, head",
    [
        ("tum", w_first, "#timestamp p_x p_y p_z q_w q_x q_y q_z\n"),
        ("tum", lambda line: w_first(line).replace(" ", ","), "# t,tx,ty,tz,qw,qx,qy,qz\n"),
        (
            "tum",
            w_first,
            "# by x\n#t [ns], p_x [m], p_y [m], p_z [m], q_w [], q_x [], q_y [], q_z []\n",
        ),
        ("tum", str, "# timestamp tx ty tz qx qy qz qw\n"),
        ("tum", str, "# made by q 1\n"),
        ("tum", lost("tum", ["1.000000000000000056e-01"]), ""),
        ("colmap text", lost("colmap", ["3", "4", "5"]), ""),
        ("chan", lambda line: f"{line.strip()} 45.0 24.0\n", ""),
        ("chan", lambda line: f"{line.strip()} 45.0\n", ""),
        ("colmap text", named("IMG_20240101_1200{:02d}_{:03d}"), ""),
        ("transforms", named("2024-01-31 09-10-{:02d} take 2 {:04d}"), ""),
        ("transforms", named("VID_20240101_120000_{:05d}"), ""),
        ("transforms", digits(3), ""),
        ("transforms", digits(4), ""),
    ],
)
def test_a_habit_of_other_writers_is_read(form, change, head, tmp_path):
    file = written(form, tmp_path)
    lines(file, change, head)
    frames = replace(Frames.timed(torch.arange(N).double() / 30.0), total=N)
    ego, _ = read_trajectory(file, preset_camera("pinhole", 64), frames)
    assert torch.allclose(ego.ego.w2c, w2c(), atol=5e-3)


@pytest.mark.parametrize(
    "form, change, words",
    [
        ("colmap text", lambda line: line.replace("frame_000007", "frame_000006"), "no refusal"),
        ("colmap text", named("left/{0:02d}"), "no refusal"),
        ("colmap text", lambda line: re.sub(r"frame_0+(\d+)", _side, line), "images of one camera"),
        ("transforms", lambda line: re.sub(r"frame_0+(\d+)", _side, line), "images of one camera"),
        ("transforms", digits(2), "not a rotation"),
        ("transforms", lambda line: line.replace("[[0.9", "[[0.7"), "not a rotation"),
    ],
)
def test_another_habit_is_named(form, change, words, tmp_path):
    file = written(form, tmp_path)
    lines(file, change)
    if words == "no refusal":
        assert len(CameraFile.read(file).track(UNSAID)[0].w2c) >= N - 1
        return
    with refuses(words):
        CameraFile.read(file).track(None)


def _side(match: re.Match) -> str:
    """Name every second picture after the other of two cameras."""
    number = int(match[1] or 0)
    return f"{('left', 'right')[number % 2]}/{number // 2:06d}"


def test_a_text_is_what_it_is_named(tmp_path):
    """TUM's text beside a COLMAP model of another path."""
    written("colmap text", tmp_path)
    other = Poses(w2c().numpy()[::-1].copy(), K, (64, 64), 30.0)
    file = FORMS["tum"](tmp_path, other)
    assert torch.allclose(CameraFile.read(file).path.w2c, w2c().flip(0))


def test_what_holds_no_path_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3\n")
    (tmp_path / "b.csv").write_text("")
    for name in ("a.txt", "b.csv"):
        with refuses(f"camera path: got {name}.*expected images.txt or images.bin of COLMAP"):
            CameraFile.read(tmp_path / name)
    with refuses("camera path"):
        CameraFile.parse({"cameras": [{}], "timeline": {}}, "motion_scene")
