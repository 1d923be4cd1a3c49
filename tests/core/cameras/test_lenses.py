"""A lens is one entry of a table: a made-up one works wherever cameras do."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from egox_core.cameras.lenses import LENSES, Lens
from egox_core.cameras.model import CameraModel
from egox_core.cameras.poses import look_at
from egox_core.exchange.blender import write_blender
from egox_core.exchange.colmap import read_pictures, write_colmap
from egox_core.exchange.trajectory_files import read_trajectory
from tests.poses import path_of, still, with_ego
from tests.refusals import refuses


def project_equisolid(points, distortion, max_angle):
    """Project with an equisolid fisheye, radius 2 sin(theta / 2), shifted along x by its one
    number."""
    norm = points[..., :2].norm(dim=-1)
    theta = torch.atan2(norm, points[..., 2])
    plane = points[..., :2] * (2 * torch.sin(theta / 2) / norm.clamp_min(1e-12))[..., None]
    return plane + plane.new_tensor((distortion[0] if distortion else 0.0, 0.0)), theta <= max_angle


def unproject_equisolid(plane, distortion, max_angle):
    plane = plane - plane.new_tensor((distortion[0] if distortion else 0.0, 0.0))
    radius = plane.norm(dim=-1)
    theta = 2 * torch.asin((radius / 2).clamp(max=1))
    rays = torch.cat(
        (plane * (theta.sin() / radius.clamp_min(1e-12))[..., None], theta.cos()[..., None]), dim=-1
    )
    return rays, (theta <= max_angle) & (radius <= 2)


@pytest.fixture
def camera(monkeypatch) -> CameraModel:
    """Make a camera with a lens that this one entry adds. A shift along x has no turned form, so it
    has no turns."""
    monkeypatch.setitem(
        LENSES,
        "equisolid",
        Lens(
            project=project_equisolid,
            unproject=unproject_equisolid,
            distortion_count=1,
            colmap="EQUISOLID",
            blender="EQUISOLID",
            blender_keys=("shift",),
        ),
    )
    return CameraModel(
        lens="equisolid",
        width=64,
        height=48,
        fx=24.0,
        fy=25.0,
        cx=30.0,
        cy=22.0,
        distortion=(0.05,),
    )


def test_project_unproject_json_and_refusals(camera, device):
    grid = camera.pixel_grid(torch.float64).to(device)
    rays, valid = camera.unproject(grid)
    uv, seen = camera.project(3 * rays)
    assert valid.float().mean() > 0.9 and bool(seen[valid].all())
    assert (uv - grid)[valid].abs().max() < 1e-9
    assert CameraModel.from_json(camera.to_json()) == camera
    with refuses("1 numbers"):
        replace(camera, distortion=(0.1, 0.2))


def test_colmap_and_blender(camera, tmp_path):
    w2c = torch.stack([look_at((0.1 * t, 0.0, 0.0), (0.0, 0.0, 3.0)) for t in range(3)])
    path = path_of(w2c, camera)
    write_colmap(tmp_path / "colmap", path.ego, path.frames.indices)
    assert "EQUISOLID 64 48" in (tmp_path / "colmap" / "cameras.txt").read_text("utf-8")
    assert read_pictures(tmp_path / "colmap" / "images.txt")[0]() == camera
    write_blender(tmp_path / "transforms.json", path.ego)
    text = (tmp_path / "transforms.json").read_text("utf-8")
    assert read_trajectory(tmp_path / "transforms.json", camera)[0].ego.camera == camera
    # Other tools don't know our own camera object: the form's own keys give the same lens.
    (tmp_path / "theirs.json").write_text(text.replace("egox_camera", "other"), "utf-8")
    assert read_trajectory(tmp_path / "theirs.json", camera)[0].ego.camera == camera


def test_an_entry_s_place_changes_nothing(camera, tmp_path):
    """One that comes first under the name of another's form, in a table turned round."""
    first = replace(
        LENSES["equisolid"],
        colmap=None,
        blender="OPENCV_FISHEYE",
        blender_keys=("k1", "k2", "k3", "k4"),
        blender_fit=lambda distortion, max_angle: (0.0,) * 4,
    )
    path = path_of(still(2), camera)
    numbers = (0.02, 0.01, -0.01, 0.002)
    file, theirs = tmp_path / "own.json", tmp_path / "theirs.json"
    table = dict(reversed(LENSES.items())) | {"equisolid": first}
    with patch.dict(LENSES, table, clear=True):
        for lens, values in (("opencv_fisheye", numbers), ("pinhole", ()), ("equisolid", (0.05,))):
            lens_camera = replace(camera, lens=lens, distortion=values)
            write_blender(file, with_ego(path, lens=lens_camera).ego)
            assert read_trajectory(file, camera)[0].ego.camera == lens_camera
            read = "opencv_fisheye" if lens == "equisolid" else lens
            theirs.write_text(file.read_text("utf-8").replace("egox_camera", "other"), "utf-8")
            assert read_trajectory(theirs, camera)[0].ego.camera.lens == read
        with refuses("COLMAP.*one of OPENCV, OPENCV_FISHEYE, PINHOLE, RAD_TAN"):
            write_colmap(tmp_path, path.ego, path.frames.indices)
