"""Up in a world: as exact as what shows it, with an uncertainty that holds, an axis by evidence alone."""

import math
from dataclasses import replace

import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose, invert, look_at
from egox_core.trajectory.gravity import find_up
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.depth_errors import DepthErrors, with_errors
from lab.drawn.layout import draw_layout
from lab.drawn.take import render_layout
from tests.poses import with_exo

SMALL = {"frames": 9, "fps": 3.0, "exo_width": 128, "exo_height": 80, "ego_size": 16}
SEEDS = range(6121, 6127)


@pytest.fixture(scope="module")
def takes():
    return [make_take(SyntheticSpec(seed=seed, edge_samples=1, **SMALL)) for seed in SEEDS]


def off_deg(up, truth):
    return math.degrees(math.acos(min(1.0, float(up.direction @ truth))))


def in_world_of(take, world_from_room):
    """Move a take into another world: exo, ego, depth and the up direction."""
    room_from_world = invert(world_from_room)
    depth = with_exo(take.depth_video(), compose(take.exo.w2c[0], room_from_world))
    ego = replace(take.ego, w2c=compose(take.ego.w2c, room_from_world))
    return depth.exo, ego, depth, world_from_room[:, 2]


@pytest.mark.parametrize("world", ["z up", "first camera's"])
def test_floor_and_cameras_tell_what_is_up(takes, world):
    for take in takes:
        world_from_room = (
            torch.eye(3, 4, dtype=torch.float64) if world == "z up" else take.exo.w2c[0]
        )
        exo, ego, depth, truth = in_world_of(take, world_from_room)
        exact = find_up([exo], ego, [depth])
        assert off_deg(exact, truth) < 1 and exact.within_deg < 3
        assert ("world's axis +z" in exact.text()) == (world == "z up")
        bent = find_up([exo], ego, [with_errors(depth, DepthErrors(bend=0.1), seed=take.spec.seed)])
        assert off_deg(bent, truth) < min(7, max(1, bent.within_deg))


@pytest.mark.parametrize("degrees", [15, 40])
def test_a_world_that_is_off_gravity_has_no_axis(takes, degrees):
    angle = math.radians(degrees)
    turn = torch.eye(3, 4, dtype=torch.float64)
    turn[1:, 1:3] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    for take in takes:
        exo, ego, depth, truth = in_world_of(take, turn)
        up = find_up([exo], ego, [depth])
        assert "axis" not in up.text() and off_deg(up, truth) < 1
        cameras = find_up([exo], ego)
        assert off_deg(cameras, truth) < cameras.within_deg


@pytest.mark.parametrize("posture", ["lying", "bent", "climbing"])
@pytest.mark.parametrize("place", ["low", "overhead", "ceiling"])
def test_no_posture_and_no_place_of_exo_makes_it_wrong(posture, place):
    for seed in (6201, 6202):
        spec = SyntheticSpec(seed=seed, edge_samples=1, posture=posture, exo_place=place, **SMALL)
        take = make_take(spec)
        exo, ego, depth, truth = in_world_of(take, take.exo.w2c[0])
        up = find_up([exo], ego, [depth])
        assert off_deg(up, truth) < max(1, up.within_deg) or not up.known


@pytest.mark.parametrize("seed", [6301, 6302, 6303])
def test_a_head_placed_by_hand_is_level_where_exo_looks_far_down(seed):
    """The editor asks so: exo looks down by 40 degrees, no head's path is known, depth is a network's."""
    spec = SyntheticSpec(seed=seed, edge_samples=1, **SMALL)
    layout = draw_layout(spec)
    exo, truth = layout.scene.exos[0], torch.tensor([0.0, 0.0, 1.0]).double()
    eye, flat = camera_centre(exo.w2c[0]), exo.w2c[0, 2, :2]
    flat = flat / flat.norm() * math.cos(math.radians(40))
    aim = eye + torch.cat((flat, torch.tensor([-math.sin(math.radians(40))])))
    exo = replace(exo, w2c=look_at(eye, aim, truth).expand_as(exo.w2c))
    take = render_layout(replace(layout, scene=replace(layout.scene, exos=(exo,))), spec)
    depth = with_errors(take.depth_video(), DepthErrors(bend=0.1), seed=seed)
    up = find_up([take.exo], None, [depth])
    assert off_deg(up, truth) < 3 and "axis +z" in up.text()
    head = look_at(eye, eye + torch.tensor([0.7, -0.7, -0.3]), up.direction)
    assert abs(float(head[0] @ torch.cat((truth, truth.new_zeros(1))))) < math.sin(math.radians(1))


def test_a_form_that_nobody_levels_has_no_axis(takes):
    exo, ego, depth, _ = in_world_of(takes[0], torch.eye(3, 4, dtype=torch.float64))
    exo = replace(exo, gravity=False)
    assert "axis" not in find_up([exo], ego, [depth]).text()


def test_a_head_that_lies_is_not_taken_for_one_that_stands(takes):
    """Turned about its gaze by 90 degrees: alone it would say so, floor and cameras know better."""
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    for take in takes:
        exo, ego, depth, truth = in_world_of(take, take.exo.w2c[0])
        lying = CameraPath(
            lens=ego.camera.upright(),
            w2c=turn @ ego.upright_w2c,
            frames=ego.frames,
            world="take",
        )
        up = find_up([exo], lying, [depth])
        assert off_deg(up, truth) < 3 or not up.known
    assert not find_up([], lying).known and "isn't known" in find_up([], lying).text()


def test_nothing_tells_nothing():
    assert not find_up([]).known
