"""Test paths exported to other programs and read back with the same pixel rays."""

import math
from dataclasses import replace

import torch

from egox_core.cameras.lenses import LENSES
from egox_core.cameras.model import CameraModel, sensor_from_upright
from egox_core.cameras.poses import look_at
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.colmap import read_pictures, write_colmap
from egox_core.types import CameraTrajectory
from tests.core.cameras.test_cameras import FISHEYE as LARGE_FISHEYE
from tests.poses import make_path
from tests.refusals import refuses

FISHEYE = LARGE_FISHEYE.rescale(60, 40)


def make_looking_path(camera: CameraModel) -> CameraTrajectory:
    sensor_rotation = sensor_from_upright(camera.quarter_turns)
    poses = torch.stack(
        [sensor_rotation @ look_at((0.1 * t, -1.0, 0.2), (1.0, 0.1 * t, 3.0)) for t in range(12)]
    )
    return make_path(poses, camera, 20)


def test_bad_colmap_folders_are_refused(tmp_path):
    path = make_looking_path(FISHEYE)
    write_colmap(tmp_path, path.ego, path.frames.indices)
    images_bytes = (tmp_path / "images.txt").read_bytes()
    bytes_without_camera = images_bytes.replace(b" 1 frame_000003.png", b" frame_000003.png")
    for name, content, message_pattern in (
        ("cameras.txt", b"1 PINHOLE ten 3 1 2 3 4", "damaged.*text or binary format"),
        ("cameras.txt", b"", "0 cameras"),
        ("images.txt", bytes_without_camera, "damaged.*text or binary format"),
        ("images.txt", b"\xff\xfe\x00\x01" * 10, "damaged.*export the model"),
    ):
        original_content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        with refuses(message_pattern):
            read_pictures(tmp_path / "images.txt").read_lens()
        (tmp_path / name).write_bytes(original_content)
    (tmp_path / "images.txt").unlink()
    with refuses("not there"):
        read_pictures(tmp_path / "images.txt")


def test_fitted_fisheye_lens_is_within_a_tenth_pixel():
    camera = replace(preset_camera("aria_meta", 448), max_angle_deg=70, quarter_turns=0)
    fitted_distortion = LENSES["aria_fisheye"].blender_fit(camera.distortion, math.radians(70))
    fitted_camera = replace(camera, lens="opencv_fisheye", distortion=fitted_distortion)
    radial_camera = replace(camera, distortion=(*camera.distortion[:6], *(0.0,) * 6))
    rays, known_mask = radial_camera.pixel_rays(torch.float64)
    uv, valid = fitted_camera.project(rays[known_mask])
    assert (uv - radial_camera.project(rays[known_mask])[0])[valid].norm(dim=-1).max() < 0.1
