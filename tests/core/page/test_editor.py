"""Test the core functions behind the pose editor: previews, picks, lens outlines, paths."""

import json
import zipfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, invert, look_at
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.paths import EXPORTS, export_path, import_path, trajectory_of_keyframes
from egox_core.frames import Frames
from egox_core.page.queries import lens_outline, mark_seen, pick_point
from egox_core.prior.coarse import CoarsePoints
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from egox_core.trajectory.keyframe_fit import deviations, fit_keyframes
from egox_core.trajectory.keyframes import keyframe_track, sensor_pose, upright_pose
from egox_core.types import DOUBTFUL, NOW, UNOBSERVED, DepthVideo, PointCloud
from tests.core.box_room import view_room
from tests.poses import make_path
from tests.refusals import refuses

EXO = CameraModel.pinhole(192, 128, 120)
EXO_W2C = look_at((-2.0, -0.8, -2.0), (0.5, 0.7, 1.5))  # tilted down into the room
EGO = preset_camera("aria_released", 64)
CLIP = Frames.stated(list(range(8, 48)), [i / 20 for i in range(8, 48)])
DOCUMENT = {
    "up": [0.0, -1.0, 0.0],
    "interpolation": "spline",
    "keyframes": [
        {"frame": 8, "position": [0.0, -0.4, -1.0], "yaw_deg": 10, "pitch_deg": -20},
        {
            "frame": 20,
            "position": [0.5, -0.5, -0.6],
            "yaw_deg": 30,
            "pitch_deg": -30,
            "roll_deg": 5,
        },
        {"frame": 33, "position": [0.6, -0.5, -0.2], "yaw_deg": -20, "pitch_deg": -25},
        {"frame": 47, "position": [0.2, -0.3, 0.0], "yaw_deg": -40, "pitch_deg": -10},
    ],
}


def draw_room(has_world: bool, frame_count: int = 5) -> PointCloud:
    exo_view = view_room(EXO, EXO_W2C)
    depth = DepthVideo(
        depth_m=exo_view.depth_m.expand(frame_count, -1, -1),
        exo=CameraPath.of_exo(EXO, EXO_W2C if has_world else None),
    )
    return build_scene(exo_view.rgb.expand(frame_count, -1, -1, -1), depth)


def test_coarse_preview_agrees_with_the_released_prior():
    scene = draw_room(has_world=True)
    coarse_points = CoarsePoints.of(scene.static)
    assert (
        0 < len(coarse_points) <= len(scene.static)
        and len(CoarsePoints.of(scene.static, 100)) == 100
    )
    pose = upright_pose(torch.tensor([0.0, -0.4, -1.0]), 20, -25, 0)
    path = make_path(sensor_pose(pose, EGO.quarter_turns).expand(5, 3, 4), EGO)
    options = replace(prior_preset("released"), device="cpu")
    full_prior = render_ego_prior(scene, path, options, classes=True)
    many_points = CoarsePoints.of(
        replace(scene.static, coarse=torch.arange(len(scene.static)) % 4 == 0), 5000
    )
    assert many_points.released == 5000 == len(many_points)  # the released renderer's come first
    coarse_points = coarse_points.first(coarse_points.released)
    picture, coverage, classes = coarse_points.picture(path.ego.one(0), size=64, of=(scene, 0))
    assert picture.dtype == torch.uint8 and coverage == pytest.approx(
        float(full_prior.coverage[0].float().mean()), abs=0.01
    )
    assert classes is not None
    assert full_prior.seen is not None
    for point_class in (UNOBSERVED, DOUBTFUL, NOW):
        expected_share = (full_prior.seen[0] == point_class).double().mean()
        assert (classes == point_class).double().mean() == pytest.approx(
            float(expected_share), abs=0.02
        )
    for point_class, shares in ((NOW, (0, 0)), (DOUBTFUL, (0.03, 0.1)), (UNOBSERVED, (0.1, 0.2))):
        changed_mask = mark_seen(picture, torch.full_like(classes, point_class)) != picture
        assert shares[0] <= changed_mask.any(-1).double().mean() <= shares[1]
    # Fewer layers are laid over each other: where discs are dense nothing changes by more than a
    # few grey levels.
    assert (picture.float() / 255 - full_prior.rgb[0]).abs().mean() < 0.02
    far_pose = upright_pose(torch.tensor([0.0, 0, -50]), 180, 0, 0)
    empty_picture, expected_share, _ = coarse_points.picture(
        make_path(sensor_pose(far_pose, EGO.quarter_turns)[None], EGO).ego, size=64
    )
    assert expected_share == 0
    assert not empty_picture.any()
    assert len(coarse_points.packed()) == 15 * len(coarse_points)


@pytest.mark.parametrize("has_world", [True, False])
def test_clicked_pixel_gives_the_surface_point(has_world):
    scene = draw_room(has_world)
    coarse_points = CoarsePoints.of(scene.static, 12000)  # of 24,000
    exo_view = view_room(EXO, EXO_W2C)
    exo_camera, exo_pose = scene.exo.one(0), scene.exo.at(0)
    for u, v in ((60, 80), (140, 100), (96, 24)):
        picked_point = pick_point(coarse_points, exo_camera, (u, v))
        assert picked_point is not None
        uv, _ = EXO.project((exo_pose[:, :3] @ picked_point.point + exo_pose[:, 3])[None])
        assert torch.allclose(
            uv[0], torch.tensor([u, v], dtype=torch.float64), atol=1e-3
        )  # on the pixel's own ray
        assert picked_point.depth_m == pytest.approx(float(exo_view.depth_m[v, u]), rel=0.03)
    assert pick_point(coarse_points, exo_camera, (-500.0, 0.0)) is None
    # What is near the wearer's head is the wearer: the click goes on to what is behind, or nowhere.
    wall_hit = pick_point(coarse_points, exo_camera, (60, 80))
    nearer_point = (wall_hit.point - invert(exo_pose)[:, 3]) * 0.6 + invert(exo_pose)[:, 3]
    body_points = replace(
        coarse_points.first(200), xyz=nearer_point.float() + 0.02 * torch.randn(200, 3)
    )
    body_and_room = body_points.joined(coarse_points)
    assert pick_point(body_and_room, exo_camera, (60, 80)).depth_m < 0.7 * wall_hit.depth_m
    hit_behind_wearer = pick_point(body_and_room, exo_camera, (60, 80), wearer=nearer_point)
    assert hit_behind_wearer.depth_m == pytest.approx(wall_hit.depth_m, rel=1e-3)
    assert pick_point(body_points, exo_camera, (60, 80), wearer=nearer_point) is None


def test_lens_outline_lies_on_the_picture_edge():
    for name in ("aria_released", "aria_meta", "pinhole"):
        camera = preset_camera(name, 64).upright()
        outline_rays = lens_outline(preset_camera(name, 64), 16)
        assert torch.allclose(outline_rays.norm(dim=-1), torch.ones(16, dtype=torch.float64))
        uv, valid = camera.project(outline_rays)
        assert valid.all()
        assert (uv > -1).all()
        assert (uv < 64).all()
        assert (
            uv[0, 1] < 16 and uv[8, 1] > 48 and uv[4, 0] > 48 and uv[12, 0] < 16
        )  # clockwise from the top


def test_fitted_keyframes_stay_close_to_the_path():
    pose_track = keyframe_track(DOCUMENT, EGO)
    moments = CLIP.indices
    path_poses = pose_track.at(moments)
    keyframes = fit_keyframes(path_poses, moments)
    assert keyframes[0] == 0
    assert keyframes[-1] == 39
    assert len(keyframes) < 20
    errors_m, errors_deg = deviations(path_poses, moments, keyframes)
    assert errors_m.max() <= 0.005
    assert errors_deg.max() <= 0.5
    still_path = path_poses[:1].expand(40, 3, 4)
    assert fit_keyframes(still_path, moments) == [0, 39]


@pytest.mark.parametrize("form", sorted(EXPORTS.keys() - {"chan"}))  # Nuke's is for others alone
@pytest.mark.parametrize("has_world", [True, False])
def test_exported_paths_are_imported_again(form, has_world):
    scene = draw_room(has_world, len(CLIP))
    exported_path = trajectory_of_keyframes(DOCUMENT, EGO, CLIP, scene)
    file_name, exported_bytes = export_path(form, DOCUMENT, EGO, CLIP, scene, "a room")
    if file_name.endswith(".zip"):
        with zipfile.ZipFile(BytesIO(exported_bytes)) as archive:
            texts_by_name = {
                member: archive.read(member).decode("utf-8")
                for member in sorted(archive.namelist())
                if member != "points3D.txt"
            }
        texts_by_name = {"about.md": "the folder's files, chosen together"} | texts_by_name
    else:
        texts_by_name = {file_name: exported_bytes.decode("utf-8")}
    keyframe_document, import_note = import_path(texts_by_name, EGO, CLIP, scene)
    assert "keyframes" in import_note
    imported_path = trajectory_of_keyframes(keyframe_document, EGO, CLIP, scene)
    pose_difference = EGO.upright_poses(imported_path.ego.w2c) - EGO.upright_poses(
        exported_path.ego.w2c
    )
    assert (
        len(imported_path.ego.w2c) == 40 and pose_difference.abs().max() < 0.02
    )  # 5 mm and half a degree, at a metre or two
    if form == "meta":
        meta = json.loads(exported_bytes)
        assert (
            meta["prompt"] == "a room"
            and len(meta["ego_extrinsics"]) == 48
            and "camera_extrinsics" in meta
        )
        exported_name, exported_bytes = export_path(
            form, {"keyframes": []}, EGO, CLIP.select(slice(1)), scene
        )
        poses = np.array(json.loads(exported_bytes)["ego_extrinsics"])
        assert poses.shape == (9, 3, 4)
        assert np.ptp(poses, 0).max() == 0


def test_invalid_imports_are_refused():
    for texts_by_name, message in (
        ({"../x.json": "{}"}, "plain file name"),
        ({"a\\b.json": "{}"}, "plain file name"),
        ({}, "1 to 4"),
        ({"x.json": "{"}, "not JSON"),
        ({"images.txt": "1 2"}, "COLMAP"),
    ):
        with refuses(message):
            import_path(texts_by_name, EGO, CLIP)
    for file_name in ("😀" * 63 + ".json", "a\0b.json", "\ud800.json"):  # no file's on some system
        with refuses("meta file"):
            import_path({file_name: '{"x": "\ud800"}'}, EGO, CLIP)
    with refuses("form"):
        export_path("fbx", DOCUMENT, EGO, CLIP)


def test_keyframe_interpolation_can_be_set_per_keyframe():
    pose_track = keyframe_track(DOCUMENT | {"interpolation": "hold"}, EGO)
    moments = torch.tensor([0.0, 8, 19.9, 20, 46.9, 47, 90], dtype=torch.float64)
    poses = pose_track.at(moments)
    assert torch.equal(poses, pose_track.w2c[[0, 0, 0, 1, 2, 3, 3]])
    mixed_document = json.loads(json.dumps(DOCUMENT))
    mixed_document["keyframes"][1]["interpolation"] = "linear"
    pose_track = keyframe_track(mixed_document, EGO)
    assert pose_track.between == ("spline", "linear", "spline")
    moments = torch.tensor([20.0, 26.5, 33]).double()
    begin_centre, middle_centre, end_centre = camera_centre(pose_track.at(moments))
    assert torch.allclose((begin_centre + end_centre) / 2, middle_centre, atol=1e-9)
