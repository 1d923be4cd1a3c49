"""Head poses from points: how near, what holds through time, and what is said of bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose
from egox_core.frames import Frames
from egox_core.trajectory import HeadPoints, Up, estimate_head
from egox_core.trajectory.head_evidence import Evidence, ExoView, gather_evidence, without_wall
from egox_core.trajectory.head_fit import fit_heads
from egox_core.trajectory.head_search import search_heads
from egox_core.trajectory.head_template import POINTS, template_points, turned_shares, unit
from lab.drawn.detected import network_points, seen_person
from tests.core.drawn_heads import DrawnHeads, drawn_heads
from tests.refusals import refuses

FACE = [POINTS.index(p) for p in ("right_eye", "left_eye", "nose")]


@pytest.fixture(scope="module")
def clip() -> DrawnHeads:
    return drawn_heads(turning_deg=40.0)


def estimate(clip: DrawnHeads, points: HeadPoints | None = None, **changes):
    exo = CameraPath.of_exo(clip.camera, changes.pop("exo_w2c", clip.exo_w2c))
    arguments = {"depth_m": clip.depth(), "frames": Frames.timed(clip.times_s), **changes}
    return estimate_head(points or clip.points(), exo, **arguments)


@pytest.mark.parametrize("height", [80, 448])
def test_exact_points_give_the_head(height):
    """With all points seen what is left is how this person's lengths differ from the mean's."""
    clip = drawn_heads(height=height, turning_deg=40.0)
    path = estimate(clip)
    across, along, angle = clip.errors(path)
    # A second of depth tells the distance to 2.5 cm, and these maps have the ear's depth where the head's middle is.
    assert across < 0.01 and along < 0.015 and angle < 3.0
    away = clip.truth[..., 3] - camera_centre(clip.exo_w2c).numpy()
    at = (clip.truth[..., :3] @ template_points().T).transpose(0, 2, 1) + away[:, None]
    shares = turned_shares(clip.truth[..., :3], at)[1]
    hidden = shares > 0.5
    assert ("face" in path.report.seen) == (height == 448)  # 80 px show no face
    assert "unclear" in path.report.seen  # the head turns far
    points = clip.points()
    points.scores[:, : hidden.shape[1]][torch.from_numpy(hidden)] = 0
    honest = estimate(clip, points)
    assert clip.errors(honest)[2] < 4.0


def test_noise_is_smoothed_without_lag(clip):
    rng = np.random.default_rng(0)
    size = 0.225 * clip.camera.fx / clip.metres[..., 2:]
    points = clip.points(uv=clip.uv + 0.03 * size * rng.normal(size=clip.uv.shape))
    path = estimate(clip, points)
    across, _, angle = clip.errors(path)
    assert across < 0.01 and angle < 7.0
    backwards = estimate(
        clip,
        HeadPoints(uv=points.uv.flip(0), scores=points.scores, picture=points.picture),
        depth_m=clip.depth().flip(0),
    )
    torch.testing.assert_close(
        backwards.world_from_head.flip(0), path.world_from_head, atol=2e-3, rtol=0
    )


def test_a_gap_closes_and_is_told(clip):
    scores = np.ones(clip.uv.shape[:2])
    scores[8:14] = 0
    path = estimate(clip, clip.points(scores=scores))
    assert clip.errors(path, slice(8, 14))[2] < 10.0
    assert path.report.text().endswith("8 to 13: nobody seen: bridged, a guess")
    assert bool(path.report.guessed[8:14].all())
    scores[10:] = 0
    path = estimate(clip, clip.points(scores=scores))
    assert bool(torch.isfinite(path.world_from_head).all())
    assert any("out of sight for 17 frames" in note.text for note in path.report.notes)


def test_points_that_jump_to_somebody_else_are_dropped(clip):
    uv = clip.uv.copy()
    uv[[10, 13, 15]] += [0.3 * clip.camera.width, 0]
    path = estimate(clip, clip.points(uv=uv))
    _, _, angle = clip.errors(path)
    assert angle < 3.0
    assert any("frames 10, 13, 15" in note.text for note in path.report.notes)
    assert not any("jumps" in note.text for note in path.report.notes)


def test_a_back_view_has_ears_only():
    clip = drawn_heads(seed=502, exo_side="behind")
    scores = np.ones(clip.uv.shape[:2])
    scores[:, FACE] = 0
    path = estimate(clip, clip.points(scores=scores))
    across, along, angle = clip.errors(path)
    assert across < 0.04 and along < 0.05 and angle < 20.0
    assert path.report.text() == "frames 0 to 24: profile, back or small: the turn is a guess"
    # Networks report all points of a head that shows its back.
    assert set(estimate(clip).report.seen) == {"unclear"}


def body_model(clip: DrawnHeads, noise_m: float = 0.0) -> HeadPoints:
    """Make what a body model gives of the drawn head: all points, whatever hides them, and a face."""
    rng = np.random.default_rng(0)
    rigid = np.concatenate([clip.metres[:, :5], clip.face()], axis=1)
    points = clip.points(metres=1.05 * clip.metres)
    return replace(points, rigid=torch.from_numpy(rigid + noise_m * rng.normal(size=rigid.shape)))


@pytest.mark.parametrize("side", ["front", "behind"])
def test_a_body_model_s_head_is_taken_as_it_is(side):
    clip = drawn_heads(frames=49, height=80, turning_deg=60.0, exo_side=side)
    path = estimate(clip, body_model(clip, 0.01))
    across, along, angle = clip.errors(path)
    assert across < 0.005 and along < 0.015 and angle < 2.0
    assert set(path.report.seen) == {"body model"}
    # Where it has nobody the other points' own change counts, bent to both ends.
    points = body_model(clip, 0.01)
    points.rigid[20:30] = torch.nan
    gap = estimate(clip, points)
    assert "body model" not in gap.report.seen[20:30] and clip.errors(gap)[2] < 3.0
    # A shape that is no head, and a mirrored one.
    odd = body_model(clip)
    odd.rigid[5] = torch.randn(odd.rigid.shape[1:], dtype=torch.float64)
    assert any("no head in frames 5 to 5" in n.text for n in estimate(clip, odd).report.notes)
    mirrored = body_model(clip)
    mirrored.rigid[..., 0] *= -1
    with refuses("right and left are exchanged"):
        estimate(clip, mirrored)


def facing(leaning_deg: np.ndarray, sigma: float) -> tuple[Evidence, np.ndarray]:
    """Make the evidence of a head that faces the camera 2 m away and leans over, with its
    rotations."""
    lean = Rotation.from_euler("Z", leaning_deg[:, None], degrees=True).as_matrix()
    rotation = np.diag([-1.0, 1, -1]) @ lean
    at = (rotation @ template_points().T).transpose(0, 2, 1) + [0, 0, 2.0]
    far = np.linalg.norm(at, axis=-1)
    evidence = Evidence(
        origin=np.zeros((len(at), 3)),
        rays=unit(at),
        sigma=np.full_like(far, sigma),
        scores=np.ones_like(far),
        reach=far,
        middle=np.full(len(at), np.nan),
        distance=np.full(len(at), 2.0),
        frames=Frames.timed(torch.arange(len(at))),
        up=Up(direction=torch.tensor([0.0, -1, 0]).double(), within_deg=0.0, evidence=()),
    )
    return evidence, rotation


def test_a_head_is_as_small_as_depth_says():
    """A usual head's size pulls less, the further depth's scale is off."""
    evidence, rotation = facing(np.zeros(1), 0.003)
    near = replace(evidence, reach=0.5 * evidence.reach)
    _, place = fit_heads(near, rotation, np.array([[0.0, 0, 2]]))
    assert place[0] == pytest.approx([0, 0, 1], abs=0.01)


def test_heads_may_lean_further_where_up_is_a_guess():
    evidence, _ = facing(np.arange(21.0), 0.005)
    upright, guessed = (
        search_heads(replace(evidence, up=replace(evidence.up, within_deg=degrees)))[0][:, 1, 0]
        > 0.1
        for degrees in (0.0, 32.0)
    )
    assert not upright.any() and guessed[18:].all() and not guessed[:10].any()


def test_a_moving_exo_camera_changes_nothing(clip):
    """The same pictures, of a world that moves under the camera."""
    shift = torch.zeros(len(clip.uv), 3, 4, dtype=torch.float64)
    shift[:, :, :3] = torch.eye(3)
    shift[:, 0, 3] = torch.linspace(0, 0.2, len(clip.uv))
    moving = compose(clip.exo_w2c.expand(len(clip.uv), 3, 4), shift)
    path = estimate(clip, exo_w2c=moving)
    still = compose(shift, path.world_from_head)
    difference = (still - estimate(clip).world_from_head)[..., 3].norm(dim=-1)
    assert float(difference.median()) < 0.01
    with refuses("exo poses: got 5"):
        estimate(clip, exo_w2c=moving[:5])


def test_depth_of_the_wall_is_not_believed(clip):
    wall = torch.full_like(clip.depth(), 6.0)
    path = estimate(clip, depth_m=wall)
    assert clip.errors(path)[1] < 0.15 and any(
        "of the background" in note.text for note in path.report.notes
    )
    # A point on the outline takes the wall's depth; those on the head keep theirs.
    view = ExoView(
        exo=CameraPath.of_exo(clip.camera, clip.exo_w2c), depth_m=wall, mask=None, up=None
    )
    evidence = gather_evidence(clip.points(), view, Frames.timed(clip.times_s))
    evidence.reach[:, 1:] = evidence.distance[:, None]
    trusted, walls, surfaces = without_wall(evidence)
    assert np.isnan(trusted.reach[:, 0]).all() and np.isfinite(trusted.reach[:, 1:]).all()
    assert (walls, surfaces) == (0, len(wall))
    path = estimate(clip, depth_m=None)
    assert clip.errors(path)[1] < 0.15 and any(
        "no depth" in note.text for note in path.report.notes
    )
    elsewhere = torch.zeros_like(wall, dtype=torch.bool)
    path = estimate(clip, mask=elsewhere)
    assert any("no surface" in note.text for note in path.report.notes)


def test_bad_input_is_refused(clip):
    nobody = clip.points(scores=np.zeros(clip.uv.shape[:2]))
    with refuses("no person in any frame"):
        estimate(clip, nobody)
    with refuses("depth: got shape"):
        estimate(clip, depth_m=clip.depth()[:7])
    with refuses("mask of the wearer"):
        estimate(clip, mask=torch.zeros(25, 10, 10, dtype=torch.bool))
    other = HeadPoints(uv=clip.points().uv, scores=clip.points().scores, picture=(100, 300))
    with refuses("points of a 100x300 px image"):
        estimate(clip, other)
    with refuses("most points far outside"):
        estimate(clip, clip.points(uv=clip.uv * 9))
    with refuses(r"\[4, 8, 2\]"):
        HeadPoints(uv=torch.zeros(4, 5, 2), scores=torch.zeros(4, 5), picture=(10, 10))


@pytest.mark.parametrize(
    ("seed", "side", "fps"), [(708, "front", 10.0), (709, "behind", 10.0), (746, "behind", 5.0)]
)
def test_front_and_back_of_a_turning_head_are_not_exchanged(seed, side, fps):
    """Small networks give every point in every frame, with hidden ones made up. It turns 20 degrees
    per frame, the last time 34. Points on its back also make a face, at another distance than the
    clip's."""
    clip = drawn_heads(seed, height=160, fps=fps, turning_deg=80.0, exo_side=side)
    rng = np.random.default_rng(seed - 700)
    uv, scores = network_points(seen_person(clip.layout), clip.camera, rng)
    path = estimate(clip, clip.points(uv=uv, scores=scores), depth_m=None)
    assert ((path.world_from_head.numpy()[..., 2] * clip.truth[..., 2]).sum(-1) > 0).all()
