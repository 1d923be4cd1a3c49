"""Sight lines: equal to their plain twin, right where rays were traced, and left out where asked."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import look_at
from egox_core.prior.options import PRIOR_PRESETS, prior_preset
from egox_core.prior.render import iter_ego_prior, render_ego_prior
from egox_core.prior.sight_lines import DepthBound, hidden_length
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from egox_core.types import (
    DOUBTFUL,
    EARLIER,
    NOW,
    UNOBSERVED,
    DepthVideo,
)
from lab.drawn import SyntheticSpec, covisible, make_take
from tests.poses import path_of
from tests.refusals import refuses
from tests.twins.sight_lines import hidden_length_reference

ROOM = SyntheticSpec(
    seed=2,
    frames=3,
    fps=2.0,
    exo_width=224,
    exo_height=128,
    ego_size=128,
    texture="plain",
    clutter="calm",
    edge_samples=1,
)
FRAMES = (0, 2)


def test_lines_equal_their_plain_twin(device):
    """Pictures of noise: every kind of place comes up."""
    places = ((0.5, 0.0), (-1.0, 0.02), (0.0, 0.01), (2.0, 0.0))  # x and noise of each picture

    def lengths(rule, on: torch.device) -> torch.Tensor:
        draw, pictures = torch.Generator().manual_seed(1), []
        for x, noise in places:
            depth_m = 1 + 2 * torch.rand(24, 32, generator=draw)
            depth_m[:4], depth_m[-4:] = torch.nan, torch.inf
            bound = DepthBound(
                exo=CameraPath.of_exo(
                    CameraModel.pinhole(32, 24, 20.0), look_at([x, 0.0, -1.0], [0.0, 0.0, 2.0])
                ),
                scene_from_ego=torch.eye(3, 4, dtype=torch.float64),
                depth_m=depth_m.to(on),
                moves=(torch.rand(24, 32, generator=draw) < 0.5).to(on),
                noise=noise,
            )
            pictures.append(bound)
        points = torch.randn(30, 3, generator=draw) + torch.tensor([0.0, 0.0, 1.5])
        return rule(points.to(on), pictures[:2], pictures[2:]).cpu()

    fast = lengths(hidden_length, device)
    plain = lengths(hidden_length_reference, torch.device("cpu"))
    assert 0.1 < float((plain > 0).float().mean()) < 0.95
    # A place that rounds to the other one of two pixels: one step of a line in all of them.
    assert float(((fast - plain).abs() > 1e-5).float().mean()) <= 1 / 30


@pytest.fixture(scope="module")
def rooms():
    """Make takes of a room: by a fixed camera, by one that is carried, by two."""
    both = make_take(replace(ROOM, exo_views=2))
    carried = make_take(replace(ROOM, exo_motion=0.6, exo_turn_deg=10.0, exo_path="walk-around"))
    scenes = [build_scene(view.exo_rgb, view.depth_video()) for view in both.views]
    return {
        "fixed": (both, scenes[0]),
        "other": (both, scenes[1]),
        "two": (both, fuse_scenes(scenes)),
        "carried": (carried, build_scene(carried.exo_rgb, carried.depth_video())),
    }


def drawn(room, preset="exact", frames=FRAMES, **changes):
    take, scene = room
    options = replace(prior_preset(preset), **changes)
    return list(iter_ego_prior(scene, take.trajectory(), options, frames=frames, classes=True))


def inner(classes):
    """Mark [T, H, W] bool where no other class lies within a pixel."""
    grid = classes.float()
    return F.max_pool2d(grid, 3, 1, 1) == -F.max_pool2d(-grid, 3, 1, 1)


@pytest.mark.parametrize("kind", ["fixed", "carried"])
@pytest.mark.parametrize("preset", ["exact", "released_wild"])
def test_classes_are_what_ray_tracing_says(rooms, kind, preset):
    take = rooms[kind][0]
    priors = drawn(rooms[kind], preset)
    classes, coverage = (torch.stack([getattr(p, n) for p in priors]) for n in ("seen", "coverage"))
    assert torch.equal(classes > UNOBSERVED, coverage)
    visible = torch.stack([covisible(take, frame).visible for frame in FRAMES])
    hit = torch.isfinite(take.ego_depth_m[list(FRAMES)]) & inner(classes) & inner(visible)
    assert visible[hit & (classes == NOW)].float().mean() >= 0.975
    assert visible[hit & (classes == UNOBSERVED)].float().mean() <= 0.05
    assert 0.01 < (classes == DOUBTFUL).float().mean() <= 0.17


def test_two_cameras_leave_less_in_doubt_than_either(rooms):
    def doubt(kind):
        classes = torch.stack([frame.seen for frame in drawn(rooms[kind])])
        return float((classes == DOUBTFUL).sum() / (classes > UNOBSERVED).sum())

    assert doubt("two") < min(doubt("fixed"), doubt("other"))


def test_hidden_lines_are_left_out(rooms):
    """Of what is drawn less is behind the true surface, and nothing shines through."""
    take, behind = rooms["fixed"][0], {}
    pairs = zip(
        FRAMES, drawn(rooms["fixed"]), drawn(rooms["fixed"], hidden_lines="leave out"), strict=True
    )
    for frame, drawn_frame, left in pairs:
        out = drawn_frame.seen == DOUBTFUL
        assert torch.equal(left.seen, drawn_frame.seen)
        assert torch.equal(left.coverage, drawn_frame.coverage & ~out)
        assert torch.equal(left.depth_m.isnan(), ~left.coverage) and not left.rgb[out].any()
        assert torch.allclose(left.rgb[~out], drawn_frame.rgb[~out], atol=1e-5)
        for name, prior in (("draw", drawn_frame), ("leave out", left)):
            far = prior.depth_m[prior.coverage] > 1.05 * take.ego_depth_m[frame][prior.coverage]
            behind.setdefault(name, []).append(float(far.float().mean()))
    assert sum(behind["draw"]) > 0.1 and sum(behind["leave out"]) < 0.2 * sum(behind["draw"])


def test_presets_draw_what_they_drew():
    assert {options.hidden_lines for options in PRIOR_PRESETS.values()} == {"draw"}


SIZE, WALL_M, NEAR_M = 96, 4.0, 2.0


def classes_of(depth_m, dynamic, ego_at, ego_to):
    """Classify every frame of a grey scene, from an eye that keeps still."""
    camera, count = CameraModel.pinhole(SIZE, SIZE, 48.0), len(depth_m)
    depth = DepthVideo(depth_m=depth_m, dynamic=dynamic, exo=CameraPath.of_exo(camera))
    scene = build_scene(torch.full((count, SIZE, SIZE, 3), 0.5), depth)
    w2c = look_at(ego_at, ego_to).repeat(count, 1, 1)
    path = path_of(w2c, CameraModel.pinhole(33, 33, 40.0))
    return render_ego_prior(scene, path, prior_preset("clean"), classes=True).seen


def passer_by(ego_at, ego_to):
    """Classify two frames of a wall. In the second one somebody is in front of its middle."""
    depth_m = torch.full((2, SIZE, SIZE), WALL_M)
    dynamic = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    dynamic[1, :, 41:55] = True
    depth_m[dynamic] = NEAR_M
    return classes_of(depth_m, dynamic, ego_at, ego_to)[:, 16, 16].tolist()


def test_flicker_of_depth_changes_no_class():
    """Of a wall with a pillar in front, by 3 % in stripes."""
    depth_m = torch.full((5, SIZE, SIZE), WALL_M)
    depth_m[:, :, 41:55] = NEAR_M
    off = torch.randn(5, 1, SIZE // 8, generator=torch.Generator().manual_seed(1))
    depth_m *= 1 + 0.03 * off.repeat_interleave(8, 2)
    still = torch.zeros(5, SIZE, SIZE, dtype=torch.bool)
    classes = classes_of(depth_m, still, [1.2, 0.0, 1.0], [-0.5, 0.0, WALL_M])
    assert {*classes.unique().tolist()} >= {UNOBSERVED, DOUBTFUL, NOW}
    assert torch.equal(classes, classes[:1].expand_as(classes))


def test_what_moves_hides_only_what_is_right_behind_it():
    # The wall behind somebody, past whom the eye looks from the side.
    assert passer_by([1.5, 0.0, 1.0], [0.0, 0.0, WALL_M]) == [NOW, EARLIER]
    # A line 0.2 m behind, where the back may be.
    assert passer_by([0.6, 0.0, 2.05], [-2.8, 0.0, WALL_M]) == [NOW, DOUBTFUL]
    # Somebody's own front.
    assert passer_by([0.6, 0.0, 0.3], [0.0, 0.0, NEAR_M])[1] == NOW


def test_points_without_their_depth_have_no_lines(rooms):
    take, scene = rooms["fixed"]
    bare = replace(scene, sight=None)
    with refuses("without the depth"):
        iter_ego_prior(bare, take.trajectory(), classes=True)
