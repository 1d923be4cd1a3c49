"""Paths written for other programs and read back: the same rays for the same pixels."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras.lenses import LENSES
from egox_core.cameras.model import CameraModel, sensor_from_upright
from egox_core.cameras.poses import camera_centre, look_at
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.blender import opengl_c2w, write_blender
from egox_core.exchange.colmap import read_pictures, write_colmap
from egox_core.safe_files import read_json
from egox_core.types import CameraTrajectory
from tests.core.cameras.test_cameras import FISHEYE as LARGE_FISHEYE
from tests.poses import path_of
from tests.refusals import refuses

FISHEYE = LARGE_FISHEYE.rescale(60, 40)


def looking(camera: CameraModel) -> CameraTrajectory:
    turn = sensor_from_upright(camera.quarter_turns)
    poses = torch.stack(
        [turn @ look_at((0.1 * t, -1.0, 0.2), (1.0, 0.1 * t, 3.0)) for t in range(12)]
    )
    return path_of(poses, camera, 20)


@pytest.mark.parametrize(
    "camera",
    [
        preset_camera("pinhole", 32),
        FISHEYE,
        preset_camera("aria_meta", 32),
        replace(FISHEYE, quarter_turns=3),
    ],
    ids=["pinhole", "fisheye", "aria", "turned"],
)
def test_colmap_round_trip(tmp_path, camera):
    before = looking(camera)
    write_colmap(tmp_path / "sparse", before.ego, before.frames.indices)
    lens, poses, names = read_pictures(tmp_path / "sparse" / "images.txt")
    read = lens()
    assert (
        names[0] == "frame_000000.png"
        and len(names) == 12
        and read.stored_size == camera.stored_size
    )
    expected, known = camera.pixel_rays(torch.float64)
    rays, _ = read.pixel_rays(torch.float64)
    for was, pose in zip(before.ego.w2c, poses, strict=True):
        off = expected @ was[:, :3] - rays @ pose[:, :3]  # in the world
        assert off[known].abs().max() < 1e-9
        assert torch.allclose(camera_centre(pose), camera_centre(was))


def test_bad_colmap_folders_are_refused(tmp_path):
    path = looking(FISHEYE)
    write_colmap(tmp_path, path.ego, path.frames.indices)
    images = (tmp_path / "images.txt").read_bytes()
    without_camera = images.replace(b" 1 frame_000003.png", b" frame_000003.png")
    for name, content, words in (
        ("cameras.txt", b"1 PINHOLE ten 3 1 2 3 4", "damaged.*text or binary format"),
        ("cameras.txt", b"", "0 cameras"),
        ("images.txt", without_camera, "damaged.*text or binary format"),
        ("images.txt", b"\xff\xfe\x00\x01" * 10, "damaged.*export the model"),
    ):
        good = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        with refuses(words):
            read_pictures(tmp_path / "images.txt")[0]()
        (tmp_path / name).write_bytes(good)
    (tmp_path / "images.txt").unlink()
    with refuses("not there"):
        read_pictures(tmp_path / "images.txt")


def test_blender_matrices_look_the_right_way(tmp_path):
    before = looking(preset_camera("aria_released", 32))
    write_blender(tmp_path / "transforms.json", before.ego)
    content = read_json(tmp_path / "transforms.json")
    assert len(content["frames"]) == 12 and content["frames"][3]["time"] == pytest.approx(0.15)
    matrix = np.array(content["frames"][2]["transform_matrix"])
    assert (
        np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3))
        and np.linalg.det(matrix[:3, :3]) > 0
    )
    # An OpenGL camera looks along its -z; y is up in the world, so OpenCV's (x, y, z) is (x, -y,
    # -z) there.
    ahead, target = -matrix[:3, 2], np.array([1.0, 0.2, 3.0]) * [1, -1, -1] - matrix[:3, 3]
    assert np.allclose(ahead, target / np.linalg.norm(target), atol=1e-9)
    assert matrix[1, 1] > 0.9  # upright: the picture's up is the world's up
    assert torch.allclose(opengl_c2w(torch.eye(3, 4)[None])[0], torch.eye(4, dtype=torch.float64))


def test_the_fitted_fisheye_is_close():
    camera = replace(preset_camera("aria_meta", 448), max_angle_deg=70, quarter_turns=0)
    numbers = LENSES["aria_fisheye"].blender_fit(camera.distortion, math.radians(70))
    fitted = replace(camera, lens="opencv_fisheye", distortion=numbers)
    without_tangential = replace(camera, distortion=(*camera.distortion[:6], *(0.0,) * 6))
    rays, known = without_tangential.pixel_rays(torch.float64)
    uv, valid = fitted.project(rays[known])
    assert (uv - without_tangential.project(rays[known])[0])[valid].norm(dim=-1).max() < 0.1
