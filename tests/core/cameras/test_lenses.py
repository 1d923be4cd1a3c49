"""Test that a lens added to the table works wherever cameras are used."""

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
from tests.poses import make_path, replace_ego, still_poses
from tests.refusals import refuses


def project_equisolid(points, distortion, max_angle):
    """Project by an equisolid fisheye of radius 2 sin(theta / 2), shifted along x."""
    radius = points[..., :2].norm(dim=-1)
    theta = torch.atan2(radius, points[..., 2])
    plane_points = points[..., :2] * (2 * torch.sin(theta / 2) / radius.clamp_min(1e-12))[..., None]
    return plane_points + plane_points.new_tensor(
        (distortion[0] if distortion else 0.0, 0.0)
    ), theta <= max_angle


def unproject_equisolid(plane, distortion, max_angle):
    plane = plane - plane.new_tensor((distortion[0] if distortion else 0.0, 0.0))
    radius = plane.norm(dim=-1)
    theta = 2 * torch.asin((radius / 2).clamp(max=1))
    rays = torch.cat(
        (plane * (theta.sin() / radius.clamp_min(1e-12))[..., None], theta.cos()[..., None]), dim=-1
    )
    return rays, (theta <= max_angle) & (radius <= 2)


@pytest.fixture
def equisolid_camera(monkeypatch) -> CameraModel:
    """Build a camera whose lens model is added to the lens table by one entry."""
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


def test_added_lens_projects_and_is_stored_as_json(equisolid_camera, device):
    pixel_grid = equisolid_camera.pixel_grid(torch.float64).to(device)
    rays, valid_mask = equisolid_camera.unproject(pixel_grid)
    uv, seen_mask = equisolid_camera.project(3 * rays)
    assert valid_mask.float().mean() > 0.9
    assert bool(seen_mask[valid_mask].all())
    assert (uv - pixel_grid)[valid_mask].abs().max() < 1e-9
    assert CameraModel.from_json(equisolid_camera.to_json()) == equisolid_camera
    with refuses("1 numbers"):
        replace(equisolid_camera, distortion=(0.1, 0.2))


def test_added_lens_is_exported_to_colmap_and_blender(equisolid_camera, tmp_path):
    w2c = torch.stack([look_at((0.1 * t, 0.0, 0.0), (0.0, 0.0, 3.0)) for t in range(3)])
    camera_path = make_path(w2c, equisolid_camera)
    write_colmap(tmp_path / "colmap", camera_path.ego, camera_path.frames.indices)
    assert "EQUISOLID 64 48" in (tmp_path / "colmap" / "cameras.txt").read_text("utf-8")
    assert read_pictures(tmp_path / "colmap" / "images.txt").read_lens() == equisolid_camera
    write_blender(tmp_path / "transforms.json", camera_path.ego)
    transforms_text = (tmp_path / "transforms.json").read_text("utf-8")
    assert (
        read_trajectory(tmp_path / "transforms.json", equisolid_camera)[0].ego.camera
        == equisolid_camera
    )
    # Other tools don't know our own camera object: the form's own keys give the same lens.
    (tmp_path / "theirs.json").write_text(transforms_text.replace("egox_camera", "other"), "utf-8")
    assert (
        read_trajectory(tmp_path / "theirs.json", equisolid_camera)[0].ego.camera
        == equisolid_camera
    )


def test_order_of_lens_entries_does_not_matter(equisolid_camera, tmp_path):
    """Check that paths are written and read with the right lens even if the lens table is
    reversed."""
    first_lens = replace(
        LENSES["equisolid"],
        colmap=None,
        blender="OPENCV_FISHEYE",
        blender_keys=("k1", "k2", "k3", "k4"),
        blender_fit=lambda distortion, max_angle: (0.0,) * 4,
    )
    camera_path = make_path(still_poses(2), equisolid_camera)
    fisheye_distortion = (0.02, 0.01, -0.01, 0.002)
    path_file, foreign_file = tmp_path / "own.json", tmp_path / "theirs.json"
    reversed_lenses = dict(reversed(LENSES.items())) | {"equisolid": first_lens}
    with patch.dict(LENSES, reversed_lenses, clear=True):
        for lens, lens_distortion in (
            ("opencv_fisheye", fisheye_distortion),
            ("pinhole", ()),
            ("equisolid", (0.05,)),
        ):
            lens_camera = replace(equisolid_camera, lens=lens, distortion=lens_distortion)
            write_blender(path_file, replace_ego(camera_path, lens=lens_camera).ego)
            assert read_trajectory(path_file, equisolid_camera)[0].ego.camera == lens_camera
            expected_lens = "opencv_fisheye" if lens == "equisolid" else lens
            foreign_file.write_text(
                path_file.read_text("utf-8").replace("egox_camera", "other"), "utf-8"
            )
            assert (
                read_trajectory(foreign_file, equisolid_camera)[0].ego.camera.lens == expected_lens
            )
        with refuses("COLMAP.*one of OPENCV, OPENCV_FISHEYE, PINHOLE, RAD_TAN"):
            write_colmap(tmp_path, camera_path.ego, camera_path.frames.indices)
