"""Test poses of programs with a form of their own: right, or refused by what is to be declared."""

import json
import re

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel, look_at
from egox_core.exchange import CameraFile
from egox_core.frames import Frames
from egox_core.stages import align, path, prior, scene
from tests.core.facts import pose_doors
from tests.core.facts.test_table import write_transforms
from tests.refusals import refuses

COUNT = 13
TIMES = np.arange(COUNT) / 10
FRAMES = Frames.stated(range(COUNT), TIMES.tolist(), COUNT)
W2C = torch.stack(
    [look_at((0.3 * t, -0.2 * t, 1 + 0.1 * t), (0.5, 0.4, 9.0 + t)) for t in range(COUNT)]
)
C2W = np.linalg.inv(np.concatenate([W2C.numpy(), np.tile([[[0.0, 0, 0, 1]]], (COUNT, 1, 1))], 1))
MOUNT = "ego.camera_from_tracker=0 0 0"


def test_lens_of_a_phone_scan(tmp_path):
    for form in ("record3d", "polycam"):
        (tmp_path / form).mkdir()
        lens = CameraFile.read(getattr(pose_doors, form)(tmp_path / form, C2W, TIMES)).lens
        camera = None if lens is None else lens()
        assert camera is not None
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == (40, 41, 31, 15)
        assert (camera.width, camera.height) == (64, 32)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda text: text.replace("Rigid Body Marker", "Rigid Body"), "2 rigid bodies"),
        (lambda text: text.replace(",W,X", ",,X"), "quaternions"),
        (lambda text: "time,a,b\n1,2,3\n", "columns time, a, b"),
        (lambda text: "", "columns"),
    ],
)
def test_tables_that_hold_no_poses_are_refused(tmp_path, change, refusal):
    file = pose_doors.optitrack(tmp_path, C2W, TIMES)
    file.write_text(change(file.read_text("utf-8")), "utf-8")
    with refuses(refusal):
        path(file, frames=FRAMES, declared=MOUNT)


def test_a_camera_without_its_scan_and_an_array_of_something_else_are_refused(tmp_path):
    file = pose_doors.polycam(tmp_path, C2W[:1], TIMES[:1])
    with refuses("corrected_cameras"):
        path(file, frames=FRAMES)
    np.save(tmp_path / "a.npy", np.zeros((3, 5)))
    with refuses("shape"):
        path(tmp_path / "a.npy", frames=FRAMES)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ("camera_convention=y_up", "warning: .*camera_convention"),
        ("scale=0.5 offset=1 aabb_scale=4", "warning: .*offset, scale"),
        ("n_images=13 sharpness=3", "not read: n_images"),
        ("units=mm applied_scale=2", "^((?!not read).)*$"),
    ],
)
def test_fields_of_a_transforms_json_that_no_reader_takes_are_named(tmp_path, fields, named):
    file = write_transforms(tmp_path, pose_doors.turned(C2W), None, fields)
    _, notes = path(file, frames=FRAMES)
    assert re.search(named, notes.placed)


def test_a_lens_that_breathes_has_its_median(tmp_path):
    file = write_transforms(tmp_path, pose_doors.turned(C2W), None, "")
    content = json.loads(file.read_text("utf-8"))
    for number, frame in enumerate(content["frames"]):
        frame["fl_x"] = 20 + number / 15
    file.write_text(json.dumps(content), "utf-8")
    trajectory, notes = path(file, frames=FRAMES)
    assert trajectory.ego.camera.fx == 20 + 6 / 15
    assert "fl_x from 20 to 20.8 px" in notes.placed


def test_numbers_with_a_decimal_comma_are_told_by_that(tmp_path):
    tum = np.c_[TIMES, C2W[:, :3, 3], pose_doors.quaternions(C2W)]
    lines = [" ".join(f"{value:.6f}" for value in row) for row in tum]
    for file, separator in ((tmp_path / "a.tum", " "), (tmp_path / "a.csv", ";")):
        text = "\n".join(lines).replace(" ", separator)
        file.write_text(text.replace(".", ","), "utf-8")
        with refuses("decimal comma.*replace each comma between digits by a point"):
            path(file, frames=FRAMES)
    (tmp_path / "a.tum").write_text("\n".join(lines), "utf-8")
    trajectory, _ = path(tmp_path / "a.tum", frames=FRAMES)
    assert torch.allclose(trajectory.ego.w2c, W2C, atol=1e-4)


def test_matrices_of_16_numbers_are_of_rows_or_columns(tmp_path):
    """Check both orders in each form, and that matrices without a place are refused."""
    turns = C2W.copy()
    turns[:, :3, 3] = 0
    declared = "ego.direction=c2w, ego.axes=opencv"
    for matrices in (C2W, C2W.transpose(0, 2, 1), turns):
        numbers = matrices.reshape(COUNT, 16)
        np.save(tmp_path / "a.npy", numbers)
        np.savetxt(tmp_path / "a.txt", numbers, fmt="%.17g")
        pose_doors.write_json(tmp_path / "a.json", numbers.tolist())
        for name in ("a.npy", "a.txt", "a.json"):
            if matrices is turns:
                with refuses("give 12 numbers"):
                    path(tmp_path / name, frames=FRAMES, declared=declared)
                continue
            trajectory, _ = path(tmp_path / name, frames=FRAMES, declared=declared)
            assert torch.allclose(trajectory.ego.w2c, W2C, atol=1e-9)
    np.save(tmp_path / "a.npy", turns[:, :3].reshape(COUNT, 12))
    trajectory, _ = path(tmp_path / "a.npy", frames=FRAMES, declared=declared)
    assert torch.allclose(trajectory.ego.w2c[:, :, :3], W2C[:, :, :3], atol=1e-9)


EXO_IN_ARKIT = pose_doors.turned(np.linalg.inv(C2W[3]) @ C2W[9] @ C2W[2])  # c2w as ARKit has it
SMALL_EGO = CameraModel.pinhole(32, 32, 12.0)
STORED = np.linalg.inv(EXO_IN_ARKIT @ pose_doors.FLIP_YZ)[:3]  # its camera's axes turned alone


@pytest.mark.parametrize(
    ("exo_w2c", "facts", "refusal"),
    [
        (np.linalg.inv(EXO_IN_ARKIT)[:3], "exo.axes=opengl", ""),
        (np.linalg.inv(EXO_IN_ARKIT)[:3], "exo.axes=opengl, exo.world_axes=stored", ""),
        (STORED, "exo.axes=opencv", ""),
        (STORED, "", "ego.world_axes=stored"),
        (STORED @ pose_doors.FLIP_YZ, "", "ego.world_axes=turned"),
    ],
)
@pytest.mark.parametrize("door", ["scene", "exo_w2c", "prior"])
def test_arkit_beside_its_own_exo_camera(tmp_path, door, exo_w2c, facts, refusal):
    """Check where the wearer is from exo, however exo's pose was given, and what is asked for."""
    file = pose_doors.arkit_columns(tmp_path, C2W, TIMES)
    lens = CameraModel.pinhole(32, 24, 20.0)
    maps = torch.full((COUNT, 24, 32), 4.0)
    aligned, _ = align(maps, camera=lens, exo_w2c=exo_w2c, frames=FRAMES, declared=facts)
    points, _ = scene(torch.zeros(COUNT, 24, 32, 3, dtype=torch.uint8), aligned)

    def tied(declared):
        if door == "exo_w2c":
            declared = ", ".join(filter(None, (declared, facts)))
            return path(file, frames=FRAMES, declared=declared, exo_w2c=exo_w2c)[0]
        options = {"scene": points} if door == "scene" else {"camera": SMALL_EGO}
        trajectory, _ = path(file, frames=FRAMES, declared=declared, **options)
        if door == "prior":
            prior(points, trajectory, draw_anyway=True)
        return trajectory.in_world_of(points.exo)

    bare = "ego.direction=c2w, ego.axes=opengl"
    asked = refusal or ("ego.world_axes=stored" if facts[-6:] in ("stored", "opencv") else "")
    if refusal or (door == "prior" and asked):
        with refuses(asked):
            tied(bare)
        bare = f"{bare}, {asked}"
    trajectory = tied(bare)
    exo_from_ego = np.linalg.inv(EXO_IN_ARKIT @ pose_doors.FLIP_YZ) @ (
        pose_doors.turned(C2W) @ pose_doors.FLIP_YZ
    )
    found = trajectory.required_exo.at(0).numpy() @ np.linalg.inv(to_square(trajectory.ego.w2c))
    assert np.allclose(found, exo_from_ego[:, :3], atol=1e-6)


def to_square(poses) -> np.ndarray:  # [N, 3, 4] -> [N, 4, 4]
    return np.concatenate([poses.numpy(), np.tile([[[0.0, 0, 0, 1]]], (len(poses), 1, 1))], 1)
