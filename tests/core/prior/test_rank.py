"""Ranking exo cameras against the true coverage of a room, and several cameras fused into one
scene."""

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
from egox_core.types import EARLIER, CameraTrajectory, DepthVideo, PointCloud
from lab.drawn import SyntheticSpec, make_take
from tests.poses import path_of, with_exo
from tests.refusals import refuses

from ..box_room import true_coverage, view

EXO = CameraModel.pinhole(256, 144, 150.0)
EGO = preset_camera("aria_released", 64)
PLACES = {  # the wearer stands in the middle and looks along x; who looks the same way sees the most
    "behind": look_at((-2.6, -0.6, 0.3), (3.0, 0.4, 0.0)),
    "beside": look_at((0.3, -0.6, -2.2), (1.5, 0.3, 2.5)),
    "opposite": look_at((2.6, -0.6, 0.3), (-3.0, 0.4, 0.0)),
}
HALVES = {
    "left half": look_at((-1.0, -0.6, 0.0), (3.0, 0.4, 4.0)),
    "right half": look_at((-1.0, -0.6, 0.0), (3.0, 0.4, -4.0)),
}


def ego_path(exo_w2c: torch.Tensor | None = None) -> CameraTrajectory:
    turn = sensor_from_upright(EGO.quarter_turns)
    poses = torch.stack(
        [turn @ look_at((0.1 * t, -0.2, 0.0), (3.0, 0.3, 0.1 * t)) for t in range(4)]
    )
    return path_of(poses, EGO, 10, exo_w2c=exo_w2c, exo_camera=EXO)


def depth_of(w2c: torch.Tensor, count: int = 4) -> DepthVideo:
    return DepthVideo(
        depth_m=view(EXO, w2c).depth_m.expand(count, -1, -1),
        exo=CameraPath.of_exo(
            EXO, w2c, Frames.timed(torch.arange(count, dtype=torch.float64) / 10)
        ),
    )


def candidates(with_depth: bool) -> list[ExoCandidate]:
    return [
        ExoCandidate(
            name=name, trajectory=ego_path(w2c), depth=depth_of(w2c) if with_depth else None
        )
        for name, w2c in PLACES.items()
    ]


def truth(name: str) -> float:
    return sum(true_coverage(EGO, w2c, EXO, PLACES[name]) for w2c in ego_path().ego.w2c) / 4


def test_depth_predicts_the_true_coverage():
    ranks = rank_exo_cameras(candidates(True), frames=4)
    assert [r.name for r in ranks] == sorted(PLACES, key=truth, reverse=True) == [*PLACES]
    for rank in ranks:
        assert rank.method == "depth" and rank.frames == (0, 1, 2, 3)
        # A few per cent of slack: at this size one row of pixels along the outline of what is seen
        # is 2 %.
        assert rank.coverage == pytest.approx(truth(rank.name), abs=0.04)


def test_poses_alone_give_the_same_order():
    ranks = rank_exo_cameras(candidates(False), frames=2)
    assert [r.name for r in ranks] == [*PLACES]
    assert all(r.method == "poses" and r.frames == (0, 3) for r in ranks)
    assert ranks[0].coverage > ranks[1].coverage > 3 * ranks[2].coverage
    mixed = candidates(True)
    mixed[1] = replace(mixed[1], depth=None)
    assert {r.method for r in rank_exo_cameras(mixed, frames=2)} == {"poses"}


def test_a_take_in_its_own_world_is_judged_alike():
    """If the exo camera is the world (in-the-wild clips), only the relative pose counts."""
    for with_depth in (True, False):
        tame, wild = candidates(with_depth), []
        for one in tame:
            w2c = one.trajectory.ego.seen_from(one.trajectory.exo)
            depth = None if one.depth is None else with_exo(one.depth, None)
            path = path_of(w2c, EGO, 10, exo_camera=EXO)
            wild.append(replace(one, trajectory=path, depth=depth))
        ranks = (rank_exo_cameras(each, frames=2) for each in (tame, wild))
        for a, b in zip(*ranks, strict=True):
            assert a.name == b.name and a.coverage == pytest.approx(b.coverage, abs=2e-3)


def test_bad_candidates_are_refused():
    for bad in ([], candidates(False)[:1] * 2):
        with refuses("exo cameras"):
            rank_exo_cameras(bad)


def scene_of(name: str, count: int = 4, dynamic: torch.Tensor | None = None) -> PointCloud:
    w2c = (PLACES | HALVES)[name]
    frames, depth = view(EXO, w2c).rgb.expand(count, -1, -1, -1), depth_of(w2c, count)
    return build_scene(frames, replace(depth, dynamic=dynamic), "mask")


def test_fused_scenes_cover_what_each_covers():
    path = ego_path()
    scenes = [scene_of(name) for name in ("left half", "right half")]
    left, right = (render_ego_prior(scene, path).coverage for scene in scenes)
    fused = render_ego_prior(fuse_scenes(scenes), path)
    either = left | right
    assert (fused.coverage & either).sum() >= 0.99 * either.sum()
    assert fused.coverage.sum() > 1.3 * max(left.sum(), right.sum())
    # What they show is the room: the colour that a ray cast from the ego camera finds there.
    for t in (0, 3):
        expected = view(EGO, path.ego.w2c[t]).rgb.float() / 255
        error = (fused.rgb[t] - expected).abs().amax(-1)[fused.coverage[t]]
        assert error.median() < 0.02 and error.quantile(0.9) < 0.08
    assert fuse_scenes([scene_of("beside")]).notes == scene_of("beside").notes


def test_fused_moving_points_keep_their_objects_apart():
    box = torch.zeros(4, EXO.height, EXO.width, dtype=torch.bool)
    box[:, 60:80, 100:130] = True
    scenes = [scene_of(name, dynamic=box) for name in ("beside", "behind")]
    fused = fuse_scenes(scenes)
    assert len(fused.moving) == 4 and len(fused.static) == sum(len(s.static) for s in scenes)
    moving = fused.moving[2]
    assert sorted(moving.instance.unique().tolist()) == [1, 2]
    assert len(moving) == sum(len(s.moving[2]) for s in scenes)


def test_scenes_that_do_not_belong_together_are_refused():
    beside_path, behind = scene_of("beside").exo, scene_of("behind").exo
    alone = replace(scene_of("beside"), exo=CameraPath.of_exo(beside_path.lens))
    late = replace(
        scene_of("behind"), exo=replace(behind, frames=Frames.timed(torch.arange(4).double() / 5))
    )
    for bad, message in (
        ([scene_of("beside"), alone], "scene 2: got points in the exo camera's own"),
        ([scene_of("beside"), scene_of("behind", 3)], "3 frames"),
        ([scene_of("beside"), late], "other times"),
        ([], "none"),
    ):
        with refuses(message):
            fuse_scenes(bad)


def test_the_prediction_is_near_the_full_prior():
    """A furnished room with a moving person: the thinned scene predicts what the full-size prior
    observed."""
    take = make_take(
        SyntheticSpec(seed=1, frames=3, exo_width=400, exo_height=224, ego_size=112, edge_samples=1)
    )
    path, depth = take.trajectory(), take.depth_video()
    full = render_ego_prior(build_scene(take.exo_frames(), depth), path, classes=True)
    candidate = ExoCandidate(name="take", trajectory=path, depth=depth)
    # Measured 0.03 over four seeds at full size: points of the thinned scene are drawn larger at
    # outlines.
    share = float((full.seen >= EARLIER).double().mean())
    assert rank_exo_cameras([candidate], frames=3)[0].coverage == pytest.approx(share, abs=0.05)
