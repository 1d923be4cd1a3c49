"""Test head poses estimated from key points: accuracy, smoothing, gaps and refused input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose
from egox_core.frames import Frames
from egox_core.trajectory import HeadPoints, estimate_head
from egox_core.trajectory.head_template import template_points, turned_shares
from lab.drawn.detected import network_points, project_person
from tests.core.drawn_heads import DrawnHeads, lay_out_heads
from tests.refusals import refuses


@pytest.fixture(scope="module")
def head_clip() -> DrawnHeads:
    return lay_out_heads(turning_deg=40.0)


def estimate(head_clip: DrawnHeads, points: HeadPoints | None = None, **overrides):
    exo_path = CameraPath.of_exo(head_clip.camera, overrides.pop("exo_w2c", head_clip.exo_w2c))
    estimate_arguments = {
        "depth_m": head_clip.depth(),
        "frames": Frames.timed(head_clip.times_s),
        **overrides,
    }
    return estimate_head(points or head_clip.points(), exo_path, **estimate_arguments)


@pytest.mark.parametrize("height", [80, 448])
def test_exact_points_give_accurate_head_poses(height):
    """Check that exact key points give head poses to 1 cm across the view, 1.5 cm along it and 3
    degrees."""
    head_clip = lay_out_heads(height=height, turning_deg=40.0)
    head_path = estimate(head_clip)
    across_m, along_m, angle_deg = head_clip.errors(head_path)
    # A second of depth tells the distance to 2.5 cm, and these maps have the ear's depth where the
    # head's middle is.
    assert across_m < 0.01
    assert along_m < 0.015
    assert angle_deg < 3.0
    head_offset = head_clip.truth[..., 3] - camera_centre(head_clip.exo_w2c).numpy()
    point_positions = (head_clip.truth[..., :3] @ template_points().T).transpose(
        0, 2, 1
    ) + head_offset[:, None]
    hidden_shares = turned_shares(head_clip.truth[..., :3], point_positions)[1]
    hidden_mask = hidden_shares > 0.5
    assert ("face" in head_path.report.seen) == (height == 448)  # 80 px show no face
    assert "unclear" in head_path.report.seen  # the head turns far
    head_points = head_clip.points()
    head_points.scores[:, : hidden_mask.shape[1]][torch.from_numpy(hidden_mask)] = 0
    path_without_hidden = estimate(head_clip, head_points)
    assert head_clip.errors(path_without_hidden)[2] < 4.0


def test_noise_is_smoothed_without_lag(head_clip):
    rng = np.random.default_rng(0)
    head_size_px = 0.225 * head_clip.camera.fx / head_clip.metres[..., 2:]
    head_points = head_clip.points(
        uv=head_clip.uv + 0.03 * head_size_px * rng.normal(size=head_clip.uv.shape)
    )
    head_path = estimate(head_clip, head_points)
    across_m, _, angle_deg = head_clip.errors(head_path)
    assert across_m < 0.01
    assert angle_deg < 7.0
    reversed_path = estimate(
        head_clip,
        HeadPoints(
            uv=head_points.uv.flip(0), scores=head_points.scores, picture=head_points.picture
        ),
        depth_m=head_clip.depth().flip(0),
    )
    torch.testing.assert_close(
        reversed_path.world_from_head.flip(0), head_path.world_from_head, atol=2e-3, rtol=0
    )


def test_short_gap_is_bridged_and_reported(head_clip):
    scores = np.ones(head_clip.uv.shape[:2])
    scores[8:14] = 0
    head_path = estimate(head_clip, head_clip.points(scores=scores))
    assert head_clip.errors(head_path, slice(8, 14))[2] < 10.0
    assert head_path.report.text().endswith("8 to 13: nobody seen: bridged, a guess")
    assert bool(head_path.report.guessed[8:14].all())
    scores[10:] = 0
    head_path = estimate(head_clip, head_clip.points(scores=scores))
    assert bool(torch.isfinite(head_path.world_from_head).all())
    assert any("out of sight for 17 frames" in note.text for note in head_path.report.notes)


def test_points_of_another_person_are_dropped(head_clip):
    uv = head_clip.uv.copy()
    uv[[10, 13, 15]] += [0.3 * head_clip.camera.width, 0]
    head_path = estimate(head_clip, head_clip.points(uv=uv))
    _, _, angle_deg = head_clip.errors(head_path)
    assert angle_deg < 3.0
    assert any("frames 10, 13, 15" in note.text for note in head_path.report.notes)
    assert not any("jumps" in note.text for note in head_path.report.notes)


def body_model_points(head_clip: DrawnHeads, noise_m: float = 0.0) -> HeadPoints:
    """Build all points that a body model returns for a drawn head, including hidden ones and the
    face."""
    rng = np.random.default_rng(0)
    rigid_points = np.concatenate([head_clip.metres[:, :5], head_clip.face()], axis=1)
    head_points = head_clip.points(metres=1.05 * head_clip.metres)
    return replace(
        head_points,
        rigid=torch.from_numpy(rigid_points + noise_m * rng.normal(size=rigid_points.shape)),
    )


@pytest.mark.parametrize("side", ["front", "behind"])
def test_body_models_head_pose_is_used_directly(side):
    head_clip = lay_out_heads(frames=49, height=80, turning_deg=60.0, exo_side=side)
    head_path = estimate(head_clip, body_model_points(head_clip, 0.01))
    across_m, along_m, angle_deg = head_clip.errors(head_path)
    assert across_m < 0.005
    assert along_m < 0.015
    assert angle_deg < 2.0
    assert set(head_path.report.seen) == {"body model"}
    # Where it has nobody the other points' own change counts, bent to both ends.
    head_points = body_model_points(head_clip, 0.01)
    head_points.rigid[20:30] = torch.nan
    path_with_gap = estimate(head_clip, head_points)
    assert (
        "body model" not in path_with_gap.report.seen[20:30]
        and head_clip.errors(path_with_gap)[2] < 3.0
    )
    # A shape that is no head, and a mirrored one.
    odd_points = body_model_points(head_clip)
    odd_points.rigid[5] = torch.randn(odd_points.rigid.shape[1:], dtype=torch.float64)
    assert any(
        "no head in frames 5 to 5" in note_read.text
        for note_read in estimate(head_clip, odd_points).report.notes
    )
    mirrored_points = body_model_points(head_clip)
    mirrored_points.rigid[..., 0] *= -1
    with refuses("right and left are exchanged"):
        estimate(head_clip, mirrored_points)


def test_moving_exo_camera_gives_the_same_head_poses(head_clip):
    """Check that a moving and a fixed exo camera with equal pictures give equal head poses."""
    world_motion = torch.zeros(len(head_clip.uv), 3, 4, dtype=torch.float64)
    world_motion[:, :, :3] = torch.eye(3)
    world_motion[:, 0, 3] = torch.linspace(0, 0.2, len(head_clip.uv))
    moving_w2c = compose(head_clip.exo_w2c.expand(len(head_clip.uv), 3, 4), world_motion)
    head_path = estimate(head_clip, exo_w2c=moving_w2c)
    stabilized_poses = compose(world_motion, head_path.world_from_head)
    position_difference = (stabilized_poses - estimate(head_clip).world_from_head)[..., 3].norm(
        dim=-1
    )
    assert float(position_difference.median()) < 0.01
    with refuses("exo poses: got 5"):
        estimate(head_clip, exo_w2c=moving_w2c[:5])


def test_depth_of_the_background_is_not_used(head_clip):
    wall_depth = torch.full_like(head_clip.depth(), 6.0)
    head_path = estimate(head_clip, depth_m=wall_depth)
    assert head_clip.errors(head_path)[1] < 0.15 and any(
        "of the background" in note.text for note in head_path.report.notes
    )
    head_path = estimate(head_clip, depth_m=None)
    assert head_clip.errors(head_path)[1] < 0.15 and any(
        "no depth" in note.text for note in head_path.report.notes
    )
    empty_mask = torch.zeros_like(wall_depth, dtype=torch.bool)
    head_path = estimate(head_clip, mask=empty_mask)
    assert any("no surface" in note.text for note in head_path.report.notes)


def test_bad_input_is_refused(head_clip):

    with refuses("depth: got shape"):
        estimate(head_clip, depth_m=head_clip.depth()[:7])
    with refuses("mask of the wearer"):
        estimate(head_clip, mask=torch.zeros(25, 10, 10, dtype=torch.bool))
    other_size_points = HeadPoints(
        uv=head_clip.points().uv, scores=head_clip.points().scores, picture=(100, 300)
    )
    with refuses("points of a 100x300 px image"):
        estimate(head_clip, other_size_points)
    with refuses("most points far outside"):
        estimate(head_clip, head_clip.points(uv=head_clip.uv * 9))
    with refuses("points of 0 to 1, shares of the image"):
        estimate(head_clip, head_clip.points(uv=head_clip.uv / 4096))


@pytest.mark.parametrize(
    ("seed", "side", "fps"), [(708, "front", 10.0), (709, "behind", 10.0), (746, "behind", 5.0)]
)
def test_front_and_back_of_a_turning_head_are_not_exchanged(seed, side, fps):
    """Check that a quickly turning head isn't estimated back to front from erroneous key points."""
    head_clip = lay_out_heads(seed, height=160, fps=fps, turning_deg=80.0, exo_side=side)
    rng = np.random.default_rng(seed - 700)
    uv, scores = network_points(project_person(head_clip.layout), head_clip.camera, rng)
    head_path = estimate(head_clip, head_clip.points(uv=uv, scores=scores), depth_m=None)
    assert ((head_path.world_from_head.numpy()[..., 2] * head_clip.truth[..., 2]).sum(-1) > 0).all()
