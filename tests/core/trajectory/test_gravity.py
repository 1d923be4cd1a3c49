"""Test the estimated up direction of a world: accuracy, uncertainty and world axes."""

import math
import statistics
from dataclasses import replace

import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import compose, invert
from egox_core.trajectory.gravity import find_up
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.depth_errors import DepthErrors, add_depth_errors
from tests.poses import replace_exo_pose

SMALL_TAKE = {"frames": 5, "fps": 1.7, "exo_width": 128, "exo_height": 80, "ego_size": 16}
SEEDS = range(6121, 6127)


@pytest.fixture(scope="module")
def takes():
    return [make_take(SyntheticSpec(seed=seed, edge_samples=1, **SMALL_TAKE)) for seed in SEEDS]


def up_error_deg(up, truth):
    return math.degrees(math.acos(min(1.0, float(up.direction @ truth))))


def move_to_world(take, world_from_room):
    """Transform a take's exo and ego cameras, depth and up direction to another world frame."""
    room_from_world = invert(world_from_room)
    depth = replace_exo_pose(take.depth_video(), compose(take.exo.w2c[0], room_from_world))
    ego_path = replace(take.ego, w2c=compose(take.ego.w2c, room_from_world))
    return depth.exo, ego_path, depth, world_from_room[:, 2]


@pytest.mark.parametrize("world_name", ["z up", "first camera's"])
def test_up_is_found_from_floor_and_cameras(takes, world_name):
    for take in takes[:1] if world_name == "z up" else takes[::3]:
        world_from_room = (
            torch.eye(3, 4, dtype=torch.float64) if world_name == "z up" else take.exo.w2c[0]
        )
        exo_path, ego_path, depth, true_up = move_to_world(take, world_from_room)
        exact_up = find_up([exo_path], ego_path, [depth])
        assert up_error_deg(exact_up, true_up) < 1
        assert exact_up.within_deg < 3
        assert ("world's axis +z" in exact_up.text()) == (world_name == "z up")
        up_from_bent_depth = find_up(
            [exo_path],
            ego_path,
            [add_depth_errors(depth, DepthErrors(bend=0.1), seed=take.spec.seed)],
        )
        assert up_error_deg(up_from_bent_depth, true_up) < min(
            7, max(1, up_from_bent_depth.within_deg)
        )


def pitched_from_room(degrees):
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    pose = torch.eye(3, 4, dtype=torch.float64)
    pose[1:, 1:3] = torch.tensor([[cosine, -sine], [sine, cosine]])
    return pose


@pytest.mark.parametrize("degrees", [15, 40])
def test_tilted_world_has_no_vertical_axis(takes, degrees):
    take = takes[3]
    exo_path, ego_path, depth, true_up = move_to_world(take, pitched_from_room(degrees))
    estimated_up = find_up([exo_path], ego_path, [depth])
    assert "axis" not in estimated_up.text()
    assert up_error_deg(estimated_up, true_up) < 1


def test_nine_of_ten_tilted_worlds_are_within_what_cameras_alone_state(takes):
    pitched_worlds = [
        move_to_world(take, pitched_from_room(degrees))
        for degrees in (15, 20, 30, 45, 60)
        for take in takes
    ]
    estimates = [find_up([exo_path], ego_path) for exo_path, ego_path, _, _ in pitched_worlds]
    inside = [
        up_error_deg(up, true_up) < up.within_deg
        for up, (*_, true_up) in zip(estimates, pitched_worlds, strict=True)
    ]
    assert sum(inside) >= 0.9 * len(inside)
    assert statistics.median(up.within_deg for up in estimates) < 16


def test_cameras_alone_take_an_axis_or_the_estimate_as_either_is_known_more_closely(takes):
    upright = torch.eye(3, dtype=torch.float64)[2]
    estimates = [find_up([take.exo], take.ego) for take in takes]
    assert any("world's axis +z" in up.text() for up in estimates)
    for up in estimates:
        has_axis = bool(torch.equal(up.direction, upright))
        assert has_axis == ("axis" in up.text()) and up.within_deg >= 1
        assert up_error_deg(up, upright) < up.within_deg


@pytest.mark.parametrize(
    ("posture", "place"), [("lying", "overhead"), ("bent", "low"), ("climbing", "ceiling")]
)
def test_no_posture_and_no_place_of_exo_makes_it_wrong(posture, place):
    spec = SyntheticSpec(seed=6201, edge_samples=1, posture=posture, exo_place=place, **SMALL_TAKE)
    take = make_take(spec)
    exo_path, ego_path, depth, true_up = move_to_world(take, take.exo.w2c[0])
    up = find_up([exo_path], ego_path, [depth])
    assert up_error_deg(up, true_up) < max(1, up.within_deg) or not up.known


def test_unlevelled_file_format_has_no_vertical_axis(takes):
    exo_path, ego_path, depth, _ = move_to_world(takes[0], torch.eye(3, 4, dtype=torch.float64))
    exo_path = replace(exo_path, gravity=False)
    assert "axis" not in find_up([exo_path], ego_path, [depth]).text()


def test_lying_head_does_not_decide_the_up_direction(takes):
    """Check that a head tilted by 90 degrees doesn't change the up direction of floor and
    cameras."""
    roll_rotation = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    for take in takes[::3]:
        exo_path, ego_path, depth, true_up = move_to_world(take, take.exo.w2c[0])
        lying_path = CameraPath(
            lens=ego_path.camera.upright(),
            w2c=roll_rotation @ ego_path.upright_w2c,
            frames=ego_path.frames,
            world="take",
        )
        estimated_up = find_up([exo_path], lying_path, [depth])
        assert up_error_deg(estimated_up, true_up) < 3 or not estimated_up.known
    assert not find_up([], lying_path).known and not find_up([]).known
    assert "isn't known" in find_up([], lying_path).text()
