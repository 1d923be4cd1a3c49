"""Test reading camera path files of other programs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.poses import invert
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.camera_files import CameraFile
from egox_core.exchange.trajectory_files import read_trajectory
from egox_core.facts import Declared
from egox_core.frames import Frames
from tests.path_forms import FORMS, Poses
from tests.refusals import refuses

POSE_COUNT = 12
INTRINSICS = np.array([[30.0, 0, 31.5], [0, 30, 31.5], [0, 0, 1]])
ROTATIONS = Rotation.from_rotvec(
    np.linspace([0.1, -0.2, 0.05], [0.3, 0.4, -0.2], POSE_COUNT)
)  # c2w, OpenCV
POSITIONS = np.linspace([0.0, 1.0, -2.0], [0.5, 1.2, 1.0], POSE_COUNT)


def path_w2c() -> torch.Tensor:  # [N, 3, 4]
    return invert(
        torch.from_numpy(np.concatenate([ROTATIONS.as_matrix(), POSITIONS[..., None]], 2))
    )


def read_settled(file: Path) -> CameraFile:
    return CameraFile.read(file).settled(Declared())


def write_path(form: str, folder: Path) -> Path:
    return FORMS[form](
        folder, Poses(path_w2c().numpy(), INTRINSICS, (64, 64), 30.0, path_w2c().numpy())
    )


def edit_lines(file: Path, edit_line: Callable[[str], str], header: str = "") -> None:
    edited_text = "".join(edit_line(line) for line in file.read_text("utf-8").splitlines(True))
    file.write_text(header + edited_text, "utf-8")


def move_w_first(line: str) -> str:
    t, *position, x, y, z, w = line.split()
    return " ".join((t, *position, w, x, y, z)) + "\n"


def zero_quaternions(form: str, rows: Sequence[str]) -> Callable[[str], str]:
    """Make a function that sets the quaternion to zero in text lines that begin with a word of
    ``rows``."""
    quaternion_slice = slice(1, 5) if form == "colmap" else slice(4, 8)

    def zero_line(line: str) -> str:
        words = line.split()
        if words and words[0] in rows:
            words[quaternion_slice] = ["0"] * 4
        return " ".join(words) + "\n"

    return zero_line


def rename_images(pattern: str) -> Callable[[str], str]:
    """Make a function that renames the image in a line of a pose file by a regular expression."""

    def rename_line(line: str) -> str:
        return re.sub(r"frame_(\d+)", lambda match: pattern.format(*[int(match[1])] * 3), line)

    return rename_line


def round_numbers(count: int) -> Callable[[str], str]:
    return lambda line: re.sub(
        r"-?\d\.\d+(?:e-\d+)?", lambda match: f"{float(match[0]):.{count}f}", line
    )


@pytest.mark.parametrize(
    "form, edit_line, header",
    [
        ("tum", lambda line: move_w_first(line).replace(" ", ","), "# t,tx,ty,tz,qw,qx,qy,qz\n"),
        (
            "tum",
            move_w_first,
            "# by x\n#t [ns], p_x [m], p_y [m], p_z [m], q_w [], q_x [], q_y [], q_z []\n",
        ),
        ("tum", str, "# made by q 1\n"),
        ("tum", zero_quaternions("tum", ["1.000000000000000056e-01"]), ""),
        ("colmap text", zero_quaternions("colmap", ["3", "4", "5"]), ""),
        ("chan", lambda line: f"{line.strip()} 45.0 24.0\n", ""),
        ("chan", lambda line: f"{line.strip()} 45.0\n", ""),
        ("colmap text", rename_images("IMG_20240101_1200{:02d}_{:03d}"), ""),
        ("transforms", rename_images("2024-01-31 09-10-{:02d} take 2 {:04d}"), ""),
        ("transforms", rename_images("VID_20240101_120000_{:05d}"), ""),
        ("transforms", round_numbers(3), ""),
        ("transforms", round_numbers(4), ""),
    ],
)
def test_variants_of_other_programs_are_read(form, edit_line, header, tmp_path):
    path_file = write_path(form, tmp_path)
    edit_lines(path_file, edit_line, header)
    frames = replace(Frames.timed(torch.arange(POSE_COUNT).double() / 30.0), total=POSE_COUNT)
    ego_path, _ = read_trajectory(path_file, preset_camera("pinhole", 64), frames)
    assert torch.allclose(ego_path.ego.w2c, path_w2c(), atol=5e-3)


@pytest.mark.parametrize(
    "form, edit_line, message_pattern",
    [
        ("colmap text", lambda line: line.replace("frame_000007", "frame_000006"), "no refusal"),
        ("colmap text", rename_images("left/{0:02d}"), "no refusal"),
        (
            "colmap text",
            lambda line: re.sub(r"frame_0+(\d+)", _name_by_side, line),
            "images of one camera",
        ),
        (
            "transforms",
            lambda line: re.sub(r"frame_0+(\d+)", _name_by_side, line),
            "images of one camera",
        ),
        ("transforms", round_numbers(2), "not a rotation"),
        ("transforms", lambda line: line.replace("[[0.9", "[[0.7"), "not a rotation"),
    ],
)
def test_unreadable_variants_are_refused(form, edit_line, message_pattern, tmp_path):
    path_file = write_path(form, tmp_path)
    edit_lines(path_file, edit_line)
    if message_pattern == "no refusal":
        assert len(read_settled(path_file).track(None)[0].w2c) >= POSE_COUNT - 1
        return
    with refuses(message_pattern):
        read_settled(path_file).track(None)


def _name_by_side(match: re.Match) -> str:
    """Rename the images so that they alternate between a left and a right camera."""
    image_number = int(match[1] or 0)
    return f"{('left', 'right')[image_number % 2]}/{image_number // 2:06d}"


def test_text_file_is_read_as_the_form_of_its_name(tmp_path):
    """Check that the file's name decides between TUM's text and a COLMAP model when both are in a
    folder."""
    write_path("colmap text", tmp_path)
    other_poses = Poses(path_w2c().numpy()[::-1].copy(), INTRINSICS, (64, 64), 30.0)
    tum_file = FORMS["tum"](tmp_path, other_poses)
    assert torch.allclose(read_settled(tum_file).path.w2c, path_w2c().flip(0))
    tum_file = tum_file.rename(tum_file.with_suffix(".tum"))
    assert torch.allclose(read_settled(tum_file).path.w2c, path_w2c().flip(0))


def test_unsettled_poses_are_refused(tmp_path):
    with refuses("got poses as the file has them.*call its settled"):
        CameraFile.read(write_path("tum", tmp_path)).track(None)


def test_files_without_a_path_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3\n")
    (tmp_path / "b.fbx").write_text("")
    for name in ("a.txt", "b.fbx"):
        with refuses(f"camera path: got {name}.*expected images.txt or images.bin of COLMAP"):
            CameraFile.read(tmp_path / name)
    with refuses("camera path"):
        CameraFile.parse({"cameras": [{}], "timeline": {}}, "motion_scene")
