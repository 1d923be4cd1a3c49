"""Test that what a user declares, and what a file states, is applied at each door and recorded."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel, CameraPath, look_at
from egox_core.facts import Declared
from egox_core.frames import Frames
from egox_core.stages import align, path
from egox_core.takes import read_meta
from egox_core.types import DepthVideo
from tests.refusals import refuses

COUNT = 5
FRAMES = Frames.timed(torch.arange(COUNT) / 10)
W2C = torch.stack(
    [look_at((0.3 * t, -0.2 * t, 1.0 + 0.1 * t), (0.5, 0.4, 4.0 + t)) for t in range(COUNT)]
)
FLIP_YZ, FLIP_Y = np.diag([1.0, -1, -1]), np.diag([1.0, -1, 1])
LENS = CameraModel.pinhole(32, 16, 20.0)


def c2w_of(w2c: torch.Tensor) -> np.ndarray:  # [T, 4, 4], by the definition of an inverse
    matrices = np.tile(np.eye(4), (len(w2c), 1, 1))
    matrices[:, :3] = w2c.numpy()
    return np.linalg.inv(matrices)


def write_transforms(folder, matrices, **fields):
    frames = [
        {"file_path": f"frame_{number:03d}.png", "transform_matrix": matrix.tolist()}
        for number, matrix in enumerate(matrices)
    ]
    content = {"w": 32, "h": 32, "fl_x": 20.0, "frames": frames} | fields
    file = folder / "transforms.json"
    file.write_text(json.dumps(content), "utf-8")
    return file


def in_axes(matrices, camera_flip, world_flip, unit=1.0):
    turned = matrices.copy()
    turned[:, :3, :3] = world_flip @ matrices[:, :3, :3] @ camera_flip
    turned[:, :3, 3] = matrices[:, :3, 3] @ world_flip / unit
    return turned


@pytest.mark.parametrize(
    ("camera_flip", "world_flip", "unit", "fields", "declared"),
    [
        (FLIP_YZ, FLIP_YZ, 1.0, {}, None),
        (FLIP_YZ, np.eye(3), 1.0, {"applied_transform": np.eye(4)[:3].tolist()}, None),
        (FLIP_YZ, np.eye(3), 1.0, {}, "ego.world_axes=stored"),
        (np.eye(3), np.eye(3), 0.01, {}, "ego.axes=opencv, ego.unit=cm"),
        (FLIP_Y, FLIP_Y, 0.3048, {}, {"ego.axes": "unity", "ego.unit": "ft"}),
    ],
    ids=["form", "applied_transform", "world stored", "opencv in cm", "unity in feet"],
)
def test_axes_and_unit_of_transforms_json(
    tmp_path, camera_flip, world_flip, unit, fields, declared
):
    matrices = in_axes(c2w_of(W2C), camera_flip, world_flip, unit)
    trajectory, _ = path(
        write_transforms(tmp_path, matrices, **fields), frames=FRAMES, declared=declared
    )
    assert torch.allclose(trajectory.ego.upright_w2c, W2C, atol=1e-9)
    values = {row.fact: row for row in trajectory.facts}
    assert values["ego.unit"].by == ("declared" if unit != 1 else "default")


def test_axes_and_unit_of_arrays_and_meta(tmp_path):
    opengl_cm = np.linalg.inv(in_axes(c2w_of(W2C), FLIP_YZ, FLIP_YZ, 0.01))
    declared = {"ego.axes": "opengl", "ego.unit": "cm"}
    trajectory, _ = path(opengl_cm, frames=FRAMES, declared=declared)
    assert torch.allclose(trajectory.ego.w2c, W2C, atol=1e-9)
    content = {
        "ego_extrinsics": opengl_cm[:, :3].tolist(),
        "camera_extrinsics": opengl_cm[0, :3].tolist(),
        "declared": declared | {"exo.axes": "opengl", "exo.unit": "cm"},
    }
    file = tmp_path / "meta.json"
    file.write_text(json.dumps(content), "utf-8")
    trajectory, _ = path(file, frames=FRAMES)
    assert torch.allclose(trajectory.ego.w2c, W2C, atol=1e-9)
    assert torch.allclose(trajectory.exo.w2c[0], W2C[0], atol=1e-9)
    content["declared"]["ego.camera_from_tracker"] = "0 -0.12 -0.08"
    file.write_text(json.dumps(content), "utf-8")
    camera_centres = np.linalg.inv(
        np.concatenate((path(file, frames=FRAMES)[0].ego.upright_w2c, c2w_of(W2C)[:, 3:]), 1)
    )[:, :3, 3]
    tracker_distances = np.linalg.norm(camera_centres - c2w_of(W2C)[:, :3, 3], axis=1)
    np.testing.assert_allclose(tracker_distances, math.hypot(0.12, 0.08), rtol=1e-6)
    # The user's word goes before the file's, and the row tells both.
    meta = read_meta(file, declared=Declared.of("ego.unit=mm"))
    assert math.isclose(
        float(meta.ego.w2c[1, :, 3].norm()),
        0.1 * float(W2C[1, :, 3].norm()),
        rel_tol=1e-6,  # matrices were inverted by numpy, and as rigid ones
    )


def test_declared_exo_poses_of_arrays(z_depth):
    opengl_cm = np.linalg.inv(in_axes(c2w_of(W2C), FLIP_YZ, FLIP_YZ, 0.01))
    declared = {"exo.axes": "opengl", "exo.unit": "cm"}
    depth, report = align(z_depth, frames=FRAMES, camera=LENS, exo_w2c=opengl_cm, declared=declared)
    assert torch.allclose(depth.exo.w2c, W2C, atol=1e-9)
    assert {("exo.axes", "declared"), ("exo.unit", "declared")} <= {
        (row.fact, row.by) for row in report.facts
    }
    with refuses("exo.unit"):
        align(z_depth, camera=LENS, declared="exo.unit=cm")
    with refuses("ego.unit"):
        align(z_depth, camera=LENS, declared="ego.unit=cm")


def test_a_meta_file_declares_its_own_world(tmp_path):
    exo_from_take = W2C[0].numpy()
    ego_from_exo = np.linalg.inv(c2w_of(W2C)) @ c2w_of(W2C)[0]
    content = {
        "ego_extrinsics": ego_from_exo[:, :3].tolist(),
        "camera_extrinsics": exo_from_take.tolist(),
        "declared": {"ego.world": "exo"},
    }
    file = tmp_path / "meta.json"
    file.write_text(json.dumps(content), "utf-8")
    trajectory, _ = path(file, frames=FRAMES)
    assert torch.allclose(trajectory.ego.w2c, W2C, atol=1e-9)
    assert ("ego.world", "declared in meta.json") in {
        (row.fact, row.by) for row in trajectory.facts
    }


def test_a_tracker_of_another_clock_on_a_hat(tmp_path):
    mount = "0 -0.12 -0.08 10 20 5"
    camera_from_tracker = torch.tensor(
        Declared.of({"ego.camera_from_tracker": mount}).value("ego.camera_from_tracker")
    ).reshape(3, 4)
    matrix = np.eye(4)
    matrix[:3] = camera_from_tracker.numpy()
    tracker_c2w = c2w_of(W2C) @ matrix
    from scipy.spatial.transform import Rotation

    seconds = np.arange(COUNT) / 10 + 100.5
    rows = np.c_[
        seconds, tracker_c2w[:, :3, 3], Rotation.from_matrix(tracker_c2w[:, :3, :3]).as_quat()
    ]
    before = np.r_[100.3, rows[0, 1:]], np.r_[100.4, rows[0, 1:]]
    file = tmp_path / "hat.tum"
    np.savetxt(file, np.vstack([*before, rows]))
    declared = {"ego.camera_from_tracker": mount, "ego.time_offset_s": -0.2}
    trajectory, _ = path(file, frames=FRAMES, declared=declared)
    assert torch.allclose(trajectory.ego.upright_w2c, W2C, atol=1e-6)
    assert {"ego.time_offset_s", "ego.camera_from_tracker"} <= {
        row.fact for row in trajectory.facts
    }


@pytest.fixture
def z_depth():
    # Float32 values whose every conversion below is inverted to float32's rounding.
    rng = np.random.default_rng(3)
    return rng.uniform(1, 8, (COUNT, 16, 32)).astype(np.float32)


def ray_lengths() -> np.ndarray:
    rows, columns = np.mgrid[0:16, 0:32]
    return np.sqrt(((columns - LENS.cx) / LENS.fx) ** 2 + ((rows - LENS.cy) / LENS.fy) ** 2 + 1)


@pytest.mark.parametrize(
    ("key", "convert", "declared"),
    [
        ("depth_m", lambda z: z, None),
        ("depth_mm", lambda z: z * 1000, None),
        ("inverse_depth", lambda z: 1 / z, None),
        ("ray_depth", lambda z: z * ray_lengths(), None),
        ("distance", lambda z: z * ray_lengths(), None),
        ("depth", lambda z: z / 0.3048, "depth.unit=ft"),
        ("depth", lambda z: z * 5000, "depth.unit=0.0002"),
        ("depth", lambda z: z * ray_lengths(), "depth.kind=ray"),
        ("disparity", lambda z: 1 / z, "depth.kind=inverse"),
        ("depth", lambda z: np.where(z > 7, 200, z), "depth.far_m=100"),
    ],
)
def test_kind_and_unit_of_depth(tmp_path, z_depth, key, convert, declared):
    file = tmp_path / "depth.npz"
    np.savez(file, **{key: convert(z_depth).astype(np.float32)})
    depth, report = align(file, frames=None, camera=None, declared=declared, fov_deg=0)
    if key in ("ray_depth", "distance") or declared == "depth.kind=ray":
        np.savez(file, **{key: convert(z_depth).astype(np.float32)}, K=LENS.intrinsics.numpy())
        depth, report = align(file, declared=declared)
    expected = np.where(z_depth > 7, np.nan, z_depth) if declared == "depth.far_m=100" else z_depth
    np.testing.assert_allclose(depth.depth_m.numpy(), expected, rtol=2e-6)
    by = {row.fact: row.by for row in report.facts}
    if declared is None and key != "depth_m":
        assert any(key in source for source in by.values())


def test_an_array_along_rays_is_converted_by_the_lens_that_is_settled(z_depth):
    distances = (z_depth * ray_lengths()).astype(np.float32)
    depth, report = align(distances, camera=LENS, declared="depth.kind=ray")
    np.testing.assert_allclose(depth.depth_m.numpy(), z_depth, rtol=2e-6)
    lens_rows = [row for row in report.facts if row.fact == "exo.lens"]
    assert [row.by for row in lens_rows] == ["argument camera"]
    with refuses("give camera, meta or fov_deg"):
        align(distances, declared="depth.kind=ray")


def test_the_exo_lens_says_who_stated_it_and_who_said_otherwise(tmp_path, z_depth):
    (tmp_path / "meta.json").write_text(
        json.dumps({"camera_intrinsics": LENS.intrinsics.tolist()}), "utf-8"
    )
    np.savez(tmp_path / "depth.npz", depth=z_depth, K=replace(LENS, fx=30.0).intrinsics.numpy())
    meta = read_meta(tmp_path / "meta.json")
    depth, report = align(tmp_path / "depth.npz", meta=meta)
    (lens_row,) = (row for row in report.facts if row.fact == "exo.lens")
    assert lens_row.by.startswith("camera_intrinsics") and "K of depth.npz" in lens_row.others[0]
    assert depth.exo.camera.fx == LENS.fx
    assert "exo camera from camera_intrinsics" in report.text()
    with refuses("camera given with the depth"):
        align(depth, camera=replace(LENS, fx=30.0))


def test_what_has_no_scale_is_refused_by_its_fact(tmp_path, z_depth):
    file = tmp_path / "depth.npz"
    np.savez(file, depth=z_depth, is_metric=np.array(False))
    with refuses("depth.unit"):
        align(file)
    scaled, _ = align(file, declared="depth.unit=0.5")
    np.testing.assert_allclose(scaled.depth_m.numpy(), 0.5 * z_depth, rtol=1e-6)
    np.savez(file, disparity=1 / z_depth)
    with refuses("depth.kind"):
        align(file)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ego.unit=stones", "ego.unit"),
        ("ego.unti=cm", "ego.unit"),
        ("depth.kind=disparity", "inverse"),
        ("ego.unit", "FACT=VALUE"),
        ("ego.unit=cm; ego.unit=m", "second time"),
        ("depth.far_m=-1", "positive"),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_choices(text, named):
    with refuses(named):
        Declared.of(text)


def test_a_declaration_that_the_source_has_no_use_for_is_refused(tmp_path, z_depth):
    with refuses("ego.time_offset_s"):
        path(W2C, frames=FRAMES, declared="ego.time_offset_s=1")
    with refuses("ego.world_axes"):
        path(W2C, frames=FRAMES, declared="ego.world_axes=stored")
    file = tmp_path / "meta.json"
    file.write_text(json.dumps({"ego_extrinsics": W2C.tolist()}), "utf-8")
    with refuses("read_meta"):
        path(read_meta(file), frames=FRAMES, declared="ego.unit=cm")
    assert path(read_meta(file), frames=FRAMES)[0].facts
    relative = DepthVideo(depth_m=torch.from_numpy(z_depth), exo=CameraPath.of_exo(LENS))
    with refuses("depth.unit"):
        align(relative, declared="depth.unit=cm")


def test_two_inputs_that_declare_one_fact_differently_are_refused():
    declared = Declared.of("depth.unit=cm, ego.world=take\nego.time_factor=1e-9")
    assert declared.value("ego.time_factor") == 1e-9
    assert declared.beside("depth.unit", 0.01, 1.0, "scale").value("depth.unit") == 0.01
    with refuses("one of them"):
        declared.beside("depth.unit", 0.001, 1.0, "scale")
