"""Test sight lines of the ego prior: the plain form, ray-traced classes, and hidden lines left
out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import look_at
from egox_core.prior.options import prior_preset
from egox_core.prior.render import iter_ego_prior, render_ego_prior
from egox_core.prior.sight_lines import DepthBound, hidden_length
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from egox_core.types import (
    DOUBTFUL,
    NOW,
    UNOBSERVED,
    DepthVideo,
)
from lab.drawn import SyntheticSpec, covisible, make_take
from tests.poses import make_path
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
TESTED_FRAMES = (0, 2)


def test_sight_lines_equal_the_plain_implementation(device):
    """Check that fast sight-line classes equal the plain implementation's on random depth."""
    positions_and_noise = (
        (0.5, 0.0),
        (-1.0, 0.02),
        (0.0, 0.01),
        (2.0, 0.0),
    )  # x and noise of each picture

    def hidden_lengths(rule, device_name: torch.device) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        hidden_line_maps = []
        for x, noise in positions_and_noise:
            depth_m = 1 + 2 * torch.rand(24, 32, generator=generator)
            depth_m[:4], depth_m[-4:] = torch.nan, torch.inf
            depth_bound = DepthBound(
                exo=CameraPath.of_exo(
                    CameraModel.pinhole(32, 24, 20.0), look_at([x, 0.0, -1.0], [0.0, 0.0, 2.0])
                ),
                scene_from_ego=torch.eye(3, 4, dtype=torch.float64),
                depth_m=depth_m.to(device_name),
                moves=(torch.rand(24, 32, generator=generator) < 0.5).to(device_name),
                noise=noise,
            )
            hidden_line_maps.append(depth_bound)
        points = torch.randn(30, 3, generator=generator) + torch.tensor([0.0, 0.0, 1.5])
        return rule(points.to(device_name), hidden_line_maps[:2], hidden_line_maps[2:]).cpu()

    fast_lengths = hidden_lengths(hidden_length, device)
    plain_lengths = hidden_lengths(hidden_length_reference, torch.device("cpu"))
    assert 0.1 < float((plain_lengths > 0).float().mean()) < 0.95
    # A place that rounds to the other one of two pixels: one step of a line in all of them.
    assert float(((fast_lengths - plain_lengths).abs() > 1e-5).float().mean()) <= 1 / 30


@pytest.fixture(scope="module")
def rooms():
    """Draw takes of a room seen by a fixed, a second and a carried exo camera, and by two
    cameras."""
    two_camera_take = make_take(replace(ROOM, exo_views=2))
    carried_take = make_take(
        replace(ROOM, exo_motion=0.6, exo_turn_deg=10.0, exo_path="walk-around")
    )
    scenes = [build_scene(view.exo_rgb, view.depth_video()) for view in two_camera_take.views]
    return {
        "fixed": (two_camera_take, scenes[0]),
        "other": (two_camera_take, scenes[1]),
        "two": (two_camera_take, fuse_scenes(scenes)),
        "carried": (carried_take, build_scene(carried_take.exo_rgb, carried_take.depth_video())),
    }


def draw_priors(room, preset="exact", frames=TESTED_FRAMES, **changes):
    take, scene = room
    options = replace(prior_preset(preset), **changes)
    return list(iter_ego_prior(scene, take.trajectory(), options, frames=frames, classes=True))


def uniform_mask(classes):
    """Mark the pixels whose neighbours all have the same class."""
    class_map = classes.float()
    return F.max_pool2d(class_map, 3, 1, 1) == -F.max_pool2d(-class_map, 3, 1, 1)


@pytest.mark.parametrize("kind", ["fixed", "carried"])
@pytest.mark.parametrize("preset", ["exact", "released_wild"])
def test_visibility_classes_agree_with_ray_tracing(rooms, kind, preset):
    take = rooms[kind][0]
    priors = draw_priors(rooms[kind], preset)
    classes, coverage = (
        torch.stack([getattr(prior_frame, field) for prior_frame in priors])
        for field in ("seen", "coverage")
    )
    assert torch.equal(classes > UNOBSERVED, coverage)
    visible_mask = torch.stack([covisible(take, frame).visible for frame in TESTED_FRAMES])
    compared_mask = (
        torch.isfinite(take.ego_depth_m[list(TESTED_FRAMES)])
        & uniform_mask(classes)
        & uniform_mask(visible_mask)
    )
    assert visible_mask[compared_mask & (classes == NOW)].float().mean() >= 0.975
    assert visible_mask[compared_mask & (classes == UNOBSERVED)].float().mean() <= 0.05
    assert 0.01 < (classes == DOUBTFUL).float().mean() <= 0.17


def test_hidden_lines_are_left_out(rooms):
    """Check that fewer prior pixels show surfaces behind the true one, and that other pixels are
    unchanged."""
    take = rooms["fixed"][0]
    shares_behind = {}
    frame_pairs = zip(
        TESTED_FRAMES,
        draw_priors(rooms["fixed"]),
        draw_priors(rooms["fixed"], hidden_lines="leave out"),
        strict=True,
    )
    for frame, drawn_frame, frame_without_hidden in frame_pairs:
        hidden_mask = drawn_frame.seen == DOUBTFUL
        assert torch.equal(frame_without_hidden.seen, drawn_frame.seen)
        assert torch.equal(frame_without_hidden.coverage, drawn_frame.coverage & ~hidden_mask)
        assert (
            torch.equal(frame_without_hidden.depth_m.isnan(), ~frame_without_hidden.coverage)
            and not frame_without_hidden.rgb[hidden_mask].any()
        )
        assert torch.allclose(
            frame_without_hidden.rgb[~hidden_mask], drawn_frame.rgb[~hidden_mask], atol=1e-5
        )
        for option_name, prior in (("draw", drawn_frame), ("leave out", frame_without_hidden)):
            is_behind = (
                prior.depth_m[prior.coverage] > 1.05 * take.ego_depth_m[frame][prior.coverage]
            )
            shares_behind.setdefault(option_name, []).append(float(is_behind.float().mean()))
    assert sum(shares_behind["draw"]) > 0.1 and sum(shares_behind["leave out"]) < 0.2 * sum(
        shares_behind["draw"]
    )


SIZE, WALL_M, NEAR_M = 96, 4.0, 2.0


def classify_frames(depth_m, dynamic, ego_position, ego_target):
    """Compute the pixel classes of all frames of a grey scene for an ego camera that stands
    still."""
    camera = CameraModel.pinhole(SIZE, SIZE, 48.0)
    frame_count = len(depth_m)
    depth = DepthVideo(depth_m=depth_m, dynamic=dynamic, exo=CameraPath.of_exo(camera))
    scene = build_scene(torch.full((frame_count, SIZE, SIZE, 3), 0.5), depth)
    w2c = look_at(ego_position, ego_target).repeat(frame_count, 1, 1)
    path = make_path(w2c, CameraModel.pinhole(33, 33, 40.0))
    return render_ego_prior(scene, path, prior_preset("clean"), classes=True).seen


def test_depth_flicker_does_not_change_classes():
    """Check that pixel classes stay the same if the depth of a wall varies by 3 % in stripes."""
    depth_m = torch.full((5, SIZE, SIZE), WALL_M)
    depth_m[:, :, 41:55] = NEAR_M
    stripe_errors = torch.randn(5, 1, SIZE // 8, generator=torch.Generator().manual_seed(1))
    depth_m *= 1 + 0.03 * stripe_errors.repeat_interleave(8, 2)
    empty_mask = torch.zeros(5, SIZE, SIZE, dtype=torch.bool)
    classes = classify_frames(depth_m, empty_mask, [1.2, 0.0, 1.0], [-0.5, 0.0, WALL_M])
    assert {*classes.unique().tolist()} >= {UNOBSERVED, DOUBTFUL, NOW}
    assert torch.equal(classes, classes[:1].expand_as(classes))


def test_scene_without_depth_is_refused_for_classes(rooms):
    take, scene = rooms["fixed"]
    scene_without_depth = replace(scene, sight=None)
    with refuses("without the depth"):
        iter_ego_prior(scene_without_depth, take.trajectory(), classes=True)
