"""Test poses of programs with a form of their own: right, or refused by what is to be declared."""

import json
import re

import numpy as np
import pytest
import torch

from egox_core.cameras import look_at
from egox_core.exchange import CameraFile
from egox_core.frames import Frames
from egox_core.stages import path
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
