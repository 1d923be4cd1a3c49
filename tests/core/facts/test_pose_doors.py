"""Test poses of programs with a form of their own: right, or refused by what is to be declared."""

import json
import re

import numpy as np
import pytest
import torch

from egox_core.cameras import look_at
from egox_core.exchange import CameraFile
from egox_core.facts import Declared, StatedPoses, settle_poses
from egox_core.frames import Frames
from egox_core.stages import align, path
from tests.core.facts import pose_doors
from tests.refusals import refuses

COUNT = 13
TIMES = np.arange(COUNT) / 10
FRAMES = Frames.stated(range(COUNT), TIMES.tolist(), COUNT)
W2C = torch.stack(
    [look_at((0.3 * t, -0.2 * t, 1 + 0.1 * t), (0.5, 0.4, 9.0 + t)) for t in range(COUNT)]
)
C2W = np.linalg.inv(np.concatenate([W2C.numpy(), np.tile([[[0.0, 0, 0, 1]]], (COUNT, 1, 1))], 1))
MOUNT = "ego.camera_from_tracker=0 0 0"

# Forms that docs/other_programs.md has no line of, or that are refused without a word:
# (declarations under which its path is right; what the file alone is refused with, or None)
DOORS = {
    "kitti_360": ("", None),
    "npy": ("ego.direction=c2w, ego.axes=opencv", "ego.direction=c2w .*ego.axes"),
    "arkit_columns": ("ego.direction=c2w, ego.axes=opengl", "ego.direction=c2w .*ego.axes"),
    "arkit_numbers": ("ego.direction=c2w, ego.axes=opengl", "ego.direction=c2w .*ego.axes"),
    "euroc": (MOUNT, "ego.camera_from_tracker"),
    "optitrack": (MOUNT, "ego.camera_from_tracker"),
    "aria": (MOUNT, "ego.camera_from_tracker.*T_camera_device"),
}


@pytest.mark.parametrize("form", DOORS)
def test_paths_of_other_programs(tmp_path, form):
    declared, refusal = DOORS[form]
    file = getattr(pose_doors, form)(tmp_path, C2W, TIMES)
    if refusal is not None:
        with refuses(refusal):
            path(file, frames=FRAMES)
    trajectory, notes = path(file, frames=FRAMES, declared=declared)
    # Twelve digits in a table, float32 in npz.
    assert torch.allclose(trajectory.ego.upright_w2c, W2C, atol=3e-5), notes.placed
    rows = {row.fact: row for row in trajectory.facts}
    assert rows["ego.unit"].value == ("mm" if form == "optitrack" else "m")


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


def test_depth_of_depth_anything_3_and_vggt_has_its_exo_motion(tmp_path):
    depth, report = align(pose_doors.depth_anything_3(tmp_path, C2W, TIMES), frames=FRAMES)
    relative_w2c = W2C.numpy() @ C2W[0]
    np.testing.assert_allclose(depth.exo.w2c.numpy(), relative_w2c, atol=1e-5)
    assert any("world to camera by its name" in note.text for note in report.notes)
    file = pose_doors.vggt(tmp_path, C2W, TIMES)
    with refuses("without a scale, by predictions.npz of VGGT.*depth.unit"):
        align(file, frames=FRAMES)
    depth, _ = align(file, frames=FRAMES, declared="depth.unit=1.5")
    assert depth.depth_m.shape == (COUNT, 16, 32)
    assert float(depth.depth_m[3, 4, 5]) == 3
    np.testing.assert_allclose(depth.exo.w2c.numpy(), relative_w2c, atol=1e-5)


def transforms(folder, matrices, **fields):
    frames = [
        {"file_path": f"frame_{number:03d}.png", "transform_matrix": matrix.tolist()}
        for number, matrix in enumerate(matrices)
    ]
    content = {"w": 32, "h": 32, "fl_x": 20.0, "frames": frames} | fields
    (folder / "transforms.json").write_text(json.dumps(content), "utf-8")
    return folder / "transforms.json"


@pytest.mark.parametrize(
    ("fields", "unit_m", "is_opengl", "named"),
    [
        ({"applied_scale": 0.3}, 1 / 0.3, True, ""),
        ({"units": "mm"}, 0.001, True, ""),
        ({"unit": "cm", "applied_scale": 2}, 0.005, True, ""),
        ({"camera_convention": "opencv"}, 1, False, ""),
        ({"camera_convention": "OpenGL"}, 1, True, ""),
        ({"camera_convention": "y_up"}, 1, True, "warning: .*camera_convention"),
        ({"scale": 0.5, "offset": [0, 0, 1], "aabb_scale": 4}, 1, True, "warning: .*offset, scale"),
        ({"n_images": 13, "sharpness": 3}, 1, True, "not read: n_images"),
    ],
)
def test_what_a_transforms_json_states_is_applied_or_named(
    tmp_path, fields, unit_m, is_opengl, named
):
    matrices = pose_doors.turned(C2W) if is_opengl else C2W.copy()
    matrices[:, :3, 3] /= unit_m
    trajectory, notes = path(transforms(tmp_path, matrices, **fields), frames=FRAMES)
    assert torch.allclose(trajectory.ego.upright_w2c, W2C, atol=1e-9)

    assert re.search(named, notes.placed)
    assert ("not read" in notes.placed) == bool(named)


def test_a_lens_that_breathes_has_its_median(tmp_path):
    file = transforms(tmp_path, pose_doors.turned(C2W))
    content = json.loads(file.read_text("utf-8"))
    for number, frame in enumerate(content["frames"]):
        frame["fl_x"] = 20 + number / 15
    file.write_text(json.dumps(content), "utf-8")
    trajectory, notes = path(file, frames=FRAMES)
    assert trajectory.ego.camera.fx == 20 + 6 / 15
    assert "fl_x from 20 to 20.8 px" in notes.placed


def test_a_tracked_body_is_no_exo_camera():
    """Check that the refusal doesn't name a fact of the ego path."""
    stated = StatedPoses(
        name="x", poses=torch.from_numpy(C2W[:, :3]), camera_to_world=True, of_body=True
    )
    with refuses("give the product as TUM"):
        settle_poses(stated, Declared.of(MOUNT), "exo")


@pytest.mark.parametrize(
    "header", ["", "# time tx ty tz qw qx qy qz", "# time tx ty tz qx qy qz qw"]
)
def test_order_of_quaternions_is_stated_or_declared(tmp_path, header):
    x, y, z, w = pose_doors.quaternions(C2W).T
    is_w_last = header.endswith("qw")
    columns = np.stack((x, y, z, w) if is_w_last else (w, x, y, z), 1)
    file = tmp_path / "a.tum"
    np.savetxt(file, np.c_[TIMES, C2W[:, :3, 3], columns], header=header, comments="", fmt="%.17g")
    answers = {
        "": bool(header),
        "ego.quaternion=wxyz": not is_w_last,
        "ego.quaternion=xyzw": is_w_last,
    }
    for declared, is_right in answers.items():
        trajectory, _ = path(file, frames=FRAMES, declared=declared)
        assert torch.allclose(trajectory.ego.w2c, W2C, atol=1e-9) == is_right
        assert "ego.quaternion" in {row.fact for row in trajectory.facts}
