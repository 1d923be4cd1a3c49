"""Test the ranking of exo cameras by true coverage of a room, and scenes fused from several
cameras."""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel, sensor_from_upright
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import look_at
from egox_core.cameras.presets import preset_camera
from egox_core.frames import Frames
from egox_core.prior.rank import ExoCandidate, rank_exo_cameras
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from egox_core.types import CameraTrajectory, DepthVideo, PointCloud
from tests.poses import make_path
from tests.refusals import refuses

from ..box_room import true_coverage, view_room

EXO = CameraModel.pinhole(256, 144, 150.0)
EGO = preset_camera("aria_released", 64)
# the wearer stands in the middle and looks along x; who looks the same way sees the most
CAMERA_POSES = {
    "behind": look_at((-2.6, -0.6, 0.3), (3.0, 0.4, 0.0)),
    "beside": look_at((0.3, -0.6, -2.2), (1.5, 0.3, 2.5)),
    "opposite": look_at((2.6, -0.6, 0.3), (-3.0, 0.4, 0.0)),
}
HALF_POSES = {
    "left half": look_at((-1.0, -0.6, 0.0), (3.0, 0.4, 4.0)),
    "right half": look_at((-1.0, -0.6, 0.0), (3.0, 0.4, -4.0)),
}


def ego_path(exo_w2c: torch.Tensor | None = None) -> CameraTrajectory:
    sensor_rotation = sensor_from_upright(EGO.quarter_turns)
    poses = torch.stack(
        [sensor_rotation @ look_at((0.1 * t, -0.2, 0.0), (3.0, 0.3, 0.1 * t)) for t in range(4)]
    )
    return make_path(poses, EGO, 10, exo_w2c=exo_w2c, exo_camera=EXO)


def draw_depth(w2c: torch.Tensor, count: int = 4) -> DepthVideo:
    return DepthVideo(
        depth_m=view_room(EXO, w2c).depth_m.expand(count, -1, -1),
        exo=CameraPath.of_exo(
            EXO, w2c, Frames.timed(torch.arange(count, dtype=torch.float64) / 10)
        ),
    )


def candidates(has_depth: bool) -> list[ExoCandidate]:
    return [
        ExoCandidate(
            name=name, trajectory=ego_path(w2c), depth=draw_depth(w2c) if has_depth else None
        )
        for name, w2c in CAMERA_POSES.items()
    ]


def true_share(name: str) -> float:
    return sum(true_coverage(EGO, w2c, EXO, CAMERA_POSES[name]) for w2c in ego_path().ego.w2c) / 4


def test_ranking_by_depth_agrees_with_true_coverage():
    ranks = rank_exo_cameras(candidates(True), frames=4)
    assert (
        [rank_entry.name for rank_entry in ranks]
        == sorted(CAMERA_POSES, key=true_share, reverse=True)
        == [*CAMERA_POSES]
    )
    for exo_rank in ranks:
        assert exo_rank.method == "depth"
        assert exo_rank.frames == (0, 1, 2, 3)
        # A few per cent of slack: at this size one row of pixels along the outline of what is seen
        # is 2 %.
        assert exo_rank.coverage == pytest.approx(true_share(exo_rank.name), abs=0.04)


def test_ranking_by_poses_gives_the_same_order():
    ranks = rank_exo_cameras(candidates(False), frames=2)
    assert [rank_entry.name for rank_entry in ranks] == [*CAMERA_POSES]
    assert all(rank_entry.method == "poses" and rank_entry.frames == (0, 3) for rank_entry in ranks)
    assert ranks[0].coverage > ranks[1].coverage > 3 * ranks[2].coverage
    mixed_candidates = candidates(True)
    mixed_candidates[1] = replace(mixed_candidates[1], depth=None)
    assert {rank_entry.method for rank_entry in rank_exo_cameras(mixed_candidates, frames=2)} == {
        "poses"
    }


def test_bad_candidates_are_refused():
    for bad_candidates in ([], candidates(False)[:1] * 2):
        with refuses("exo cameras"):
            rank_exo_cameras(bad_candidates)


def draw_scene(name: str, count: int = 4, dynamic: torch.Tensor | None = None) -> PointCloud:
    w2c = (CAMERA_POSES | HALF_POSES)[name]
    exo_frames = view_room(EXO, w2c).rgb.expand(count, -1, -1, -1)
    depth = draw_depth(w2c, count)
    return build_scene(exo_frames, replace(depth, dynamic=dynamic), "mask")


def test_fused_scene_covers_the_union_of_its_scenes():
    path = ego_path()
    scenes = [draw_scene(name) for name in ("left half", "right half")]
    left_mask, right_mask = (render_ego_prior(scene, path).coverage for scene in scenes)
    fused_prior = render_ego_prior(fuse_scenes(scenes), path)
    union_mask = left_mask | right_mask
    assert (fused_prior.coverage & union_mask).sum() >= 0.99 * union_mask.sum()
    assert fused_prior.coverage.sum() > 1.3 * max(left_mask.sum(), right_mask.sum())
    # What they show is the room: the colour that a ray cast from the ego camera finds there.
    for t in (0, 3):
        expected_picture = view_room(EGO, path.ego.w2c[t]).rgb.float() / 255
        error = (fused_prior.rgb[t] - expected_picture).abs().amax(-1)[fused_prior.coverage[t]]
        assert error.median() < 0.02
        assert error.quantile(0.9) < 0.08
    assert fuse_scenes([draw_scene("beside")]).notes == draw_scene("beside").notes


def test_fused_moving_points_have_separate_instances():
    box_mask = torch.zeros(4, EXO.height, EXO.width, dtype=torch.bool)
    box_mask[:, 60:80, 100:130] = True
    scenes = [draw_scene(name, dynamic=box_mask) for name in ("beside", "behind")]
    fused_scene = fuse_scenes(scenes)
    assert len(fused_scene.moving) == 4 and len(fused_scene.static) == sum(
        len(part_scene.static) for part_scene in scenes
    )
    moving_points = fused_scene.moving[2]
    assert sorted(moving_points.instance.unique().tolist()) == [1, 2]
    assert len(moving_points) == sum(len(part_scene.moving[2]) for part_scene in scenes)


def test_unrelated_scenes_are_not_fused():
    beside_path, behind_path = draw_scene("beside").exo, draw_scene("behind").exo
    scene_without_pose = replace(draw_scene("beside"), exo=CameraPath.of_exo(beside_path.lens))
    late_scene = replace(
        draw_scene("behind"),
        exo=replace(behind_path, frames=Frames.timed(torch.arange(4).double() / 5)),
    )
    for bad_scenes, message in (
        ([draw_scene("beside"), scene_without_pose], "scene 2: got points in the exo camera's own"),
        ([draw_scene("beside"), draw_scene("behind", 3)], "3 frames"),
        ([draw_scene("beside"), late_scene], "other times"),
        ([], "none"),
    ):
        with refuses(message):
            fuse_scenes(bad_scenes)
