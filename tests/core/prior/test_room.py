"""Test the guess of a room, on a drawn one, against haze in its place."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras import camera_centre
from egox_core.metrics import psnr
from egox_core.prior.preview import iter_ego_preview, preview_note
from egox_core.prior.render import render_ego_prior
from egox_core.prior.room import FACE_CELLS, LEAST_POINTS, RoomGuess, fit_room
from egox_core.scene import ego_in_scene, fuse_scenes
from egox_core.scene.build import build_scene
from egox_core.trajectory import up_of_scene
from lab.drawn import SyntheticSpec, make_take
from tests.refusals import refuses

SPEC = SyntheticSpec(
    seed=44,
    frames=2,
    fps=2,
    exo_width=192,
    exo_height=112,
    ego_size=96,
    edge_samples=1,
    texture="soft",
    turning_deg=30,
)
WORST_DB = -1.0
UP_OF_SCENE = "egox_core.prior.room.up_of_scene"


def of_take(take):
    """Build the scene of a take, the ego camera in it and its prior."""
    scenes = [build_scene(view.exo_rgb, view.depth_video()) for view in take.views]
    scene = scenes[0] if len(scenes) == 1 else fuse_scenes(scenes)
    prior = render_ego_prior(scene, take.trajectory())
    return scene, ego_in_scene(scene, take.trajectory()), prior


@pytest.fixture(scope="module")
def drawn():
    take = make_take(SPEC)
    return take, *of_take(take)


def preview(prior, room=None):
    frames = iter_ego_preview(
        prior.rgb,
        ~prior.coverage,
        prior.trajectory.ego.camera,
        depth_m=prior.depth_m,
        room=room,
        shading="off",
    )
    return torch.stack(list(frames))


def gain_db(take, prior, room, frames=slice(None)):
    """Compute by how much the room is nearer to the true view than haze is."""
    room_db, haze_db = (
        psnr(preview(prior, guess), take.ego_frames())[frames].mean() for guess in (room, None)
    )
    return float(room_db - haze_db)


def turned_up(deg: float, axis: int, within_deg: float = 5.0):
    """Make a finder of up that is wrong by an angle, and says how sure it is."""

    def find(scene, ego):
        up = up_of_scene(scene, ego)
        side = torch.linalg.cross(up.direction, torch.eye(3, dtype=torch.float64)[axis])
        radians = math.radians(deg)
        direction = math.cos(radians) * up.direction + math.sin(radians) * side / side.norm()
        return replace(up, direction=direction, within_deg=within_deg)

    return find


def test_a_drawn_room_is_nearer_to_the_truth_than_haze_and_stands_still(drawn):
    take, scene, ego, prior = drawn
    room = RoomGuess(scene, ego)
    assert gain_db(take, prior, room) > 1.5
    pictures = preview(prior, room)
    assert torch.equal(pictures[prior.coverage], prior.rgb[prior.coverage])
    note = preview_note(~prior.coverage, ego.camera, "off", 1.0, room=room)
    assert "walls guessed from" in note and " of the view in " in note


@pytest.mark.parametrize("deg, axis", ((-20, 0), (20, 1)))
def test_a_wrong_upward_direction_costs_little(drawn, monkeypatch, deg, axis):
    take, scene, ego, prior = drawn
    monkeypatch.setattr(UP_OF_SCENE, turned_up(deg, axis))
    assert gain_db(take, prior, RoomGuess(scene, ego)) > WORST_DB


def test_there_is_haze_and_the_reason_where_a_room_cannot_be_known(drawn, monkeypatch):
    _, scene, ego, prior = drawn
    few = replace(scene, static=scene.static.select(torch.arange(LEAST_POINTS - 1)))
    guesses = {
        "isn't given": RoomGuess(None, ego),
        "999 points": RoomGuess(few, ego),
    }
    monkeypatch.setattr(UP_OF_SCENE, turned_up(0, 0, within_deg=45))
    guesses["20 degrees"] = RoomGuess(scene, ego)
    for words, room in guesses.items():
        assert torch.equal(preview(prior, room), preview(prior)) and words in room.words()
    with refuses("ego trajectory"):
        RoomGuess(scene, replace(ego, world="exo"))


def test_few_or_stray_points_change_little(drawn):
    take, scene, ego, prior = drawn
    few = scene.static.select(torch.arange(0, len(scene.static), len(scene.static) // LEAST_POINTS))
    eye = camera_centre(scene.exo.at(0)).float()
    xyz = scene.static.xyz.clone()
    stray = torch.randperm(len(xyz), generator=torch.Generator().manual_seed(0))[: len(xyz) // 100]
    xyz[stray] = eye + 3 * (xyz[stray] - eye)
    for static in (few, replace(scene.static, xyz=xyz)):
        assert gain_db(take, prior, RoomGuess(replace(scene, static=static), ego)) > WORST_DB


def test_a_black_prior_shows_the_room_alone(drawn):
    _, scene, ego, prior = drawn
    black = replace(
        prior,
        rgb=torch.zeros_like(prior.rgb),
        coverage=torch.zeros_like(prior.coverage),
        depth_m=torch.full_like(prior.depth_m, torch.nan),
    )
    assert not preview(black).any() and preview(black, RoomGuess(scene, ego)).mean() > 0.1


@pytest.mark.parametrize(
    "changes",
    (
        {"exo_motion": 0.6, "exo_path": "dolly", "frames": 3, "fps": 3.0},
        {"exo_views": 2},
        {"exo_place": "ceiling"},
        {"posture": "lying"},
    ),
)
def test_other_clips_lose_little_to_haze(changes):
    take = make_take(replace(SPEC, **changes))
    scene, ego, prior = of_take(take)
    assert gain_db(take, prior, RoomGuess(scene, ego)) > WORST_DB


def test_a_camera_behind_the_wall_spoils_no_other_frame(drawn):
    take, scene, ego, prior = drawn
    w2c = ego.w2c.clone()
    w2c[1:, 2, 3] += 6.0  # steps back through the wall
    outside = RoomGuess(scene, replace(ego, w2c=w2c))
    assert preview(prior, outside).isfinite().all()
    assert gain_db(take, prior, outside, slice(1)) > WORST_DB


def points_of(origin, first, second, colour, count=4000):
    """Draw points evenly on a rectangle."""
    shares = np.random.default_rng(0).random((count, 2))
    xyz = np.array(origin) + shares[:, :1] * np.array(first) + shares[:, 1:] * np.array(second)
    return xyz, np.tile(np.array(colour), (count, 1))


def test_a_sofa_that_stands_for_a_wall_does_not_reach_the_ceiling():
    red, grey, brown = (0.9, 0.1, 0.1), (0.5, 0.5, 0.5), (0.4, 0.3, 0.2)
    parts = (
        points_of((-2, -2, 0), (4, 0, 0), (0, 4, 0), brown),
        points_of((-2, 2, 0), (4, 0, 0), (0, 0, 2.4), grey),
        points_of((2, -1, 0), (0, 2, 0), (0, 0, 0.8), red),
    )
    xyz, rgb = (np.concatenate(values) for values in zip(*parts, strict=True))
    eye = np.array([[0.0, -1.0, 1.5]])
    room = fit_room(xyz, rgb, np.array([0.0, 0.0, 1.0]), [eye], eye)
    faces = room.pictures.reshape(6, FACE_CELLS, FACE_CELLS, 3)
    sofa = next(
        face
        for face, known in zip(faces, room.pictured, strict=True)
        if known and face[..., 0].max() > 0.8
    )
    top, bottom = sofa[-4:].reshape(-1, 3).mean(0), sofa[10:20, 40:56].reshape(-1, 3).mean(0)
    assert np.allclose(bottom, red, atol=0.05)
    assert np.abs(top - grey).max() < 0.25 * np.abs(np.subtract(red, grey)).max()
