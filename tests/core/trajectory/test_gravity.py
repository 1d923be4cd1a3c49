"""Test the estimated up direction of a world: accuracy, uncertainty and world axes."""

import math
from dataclasses import replace

import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose, invert, look_at
from egox_core.trajectory.gravity import find_up
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.depth_errors import DepthErrors, add_depth_errors
from lab.drawn.layout import draw_layout
from lab.drawn.take import render_layout
from tests.poses import replace_exo_pose

SMALL_TAKE = {"frames": 9, "fps": 3.0, "exo_width": 128, "exo_height": 80, "ego_size": 16}
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
    for take in takes:
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


@pytest.mark.parametrize("degrees", [15, 40])
def test_tilted_world_has_no_vertical_axis(takes, degrees):
    angle = math.radians(degrees)
    tilted_from_room = torch.eye(3, 4, dtype=torch.float64)
    tilted_from_room[1:, 1:3] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    inside_count = 0
    for take in takes:
        exo_path, ego_path, depth, true_up = move_to_world(take, tilted_from_room)
        estimated_up = find_up([exo_path], ego_path, [depth])
        assert "axis" not in estimated_up.text()
        assert up_error_deg(estimated_up, true_up) < 1
        up_from_cameras = find_up([exo_path], ego_path)
        inside_count += up_error_deg(up_from_cameras, true_up) < up_from_cameras.within_deg
    assert inside_count >= 5, "nine of ten errors are smaller than what is stated"


def test_cameras_alone_take_an_axis_or_the_estimate_as_either_is_known_more_closely(takes):
    upright = torch.eye(3, dtype=torch.float64)[2]
    estimates = [find_up([take.exo], take.ego) for take in takes]
    assert any("world's axis +z" in up.text() for up in estimates)
    for up in estimates:
        has_axis = bool(torch.equal(up.direction, upright))
        assert has_axis == ("axis" in up.text()) and up.within_deg >= 1
        assert up_error_deg(up, upright) < up.within_deg


@pytest.mark.parametrize("posture", ["lying", "bent", "climbing"])
@pytest.mark.parametrize("place", ["low", "overhead", "ceiling"])
def test_no_posture_and_no_place_of_exo_makes_it_wrong(posture, place):
    for seed in (6201, 6202):
        spec = SyntheticSpec(
            seed=seed, edge_samples=1, posture=posture, exo_place=place, **SMALL_TAKE
        )
        take = make_take(spec)
        exo_path, ego_path, depth, true_up = move_to_world(take, take.exo.w2c[0])
        estimated_up = find_up([exo_path], ego_path, [depth])
        assert (
            up_error_deg(estimated_up, true_up) < max(1, estimated_up.within_deg)
            or not estimated_up.known
        )


@pytest.mark.parametrize("seed", [6301, 6302, 6303])
def test_hand_placed_head_is_level_with_a_steep_exo_camera(seed):
    """Check that a head placed by hand is upright though the exo camera looks down by 40
    degrees."""
    spec = SyntheticSpec(seed=seed, edge_samples=1, **SMALL_TAKE)
    layout = draw_layout(spec)
    exo_path = layout.scene.exos[0]
    true_up = torch.tensor([0.0, 0.0, 1.0]).double()
    exo_centre = camera_centre(exo_path.w2c[0])
    horizontal_direction = exo_path.w2c[0, 2, :2]
    horizontal_direction = (
        horizontal_direction / horizontal_direction.norm() * math.cos(math.radians(40))
    )
    look_target = exo_centre + torch.cat(
        (horizontal_direction, torch.tensor([-math.sin(math.radians(40))]))
    )
    exo_path = replace(
        exo_path, w2c=look_at(exo_centre, look_target, true_up).expand_as(exo_path.w2c)
    )
    take = render_layout(replace(layout, scene=replace(layout.scene, exos=(exo_path,))), spec)
    depth = add_depth_errors(take.depth_video(), DepthErrors(bend=0.1), seed=seed)
    estimated_up = find_up([take.exo], None, [depth])
    assert up_error_deg(estimated_up, true_up) < 3
    assert "axis +z" in estimated_up.text()
    head_w2c = look_at(
        exo_centre, exo_centre + torch.tensor([0.7, -0.7, -0.3]), estimated_up.direction
    )
    assert abs(float(head_w2c[0] @ torch.cat((true_up, true_up.new_zeros(1))))) < math.sin(
        math.radians(1)
    )


def test_unlevelled_file_format_has_no_vertical_axis(takes):
    exo_path, ego_path, depth, _ = move_to_world(takes[0], torch.eye(3, 4, dtype=torch.float64))
    exo_path = replace(exo_path, gravity=False)
    assert "axis" not in find_up([exo_path], ego_path, [depth]).text()


def test_lying_head_does_not_decide_the_up_direction(takes):
    """Check that a head tilted by 90 degrees doesn't change the up direction of floor and
    cameras."""
    roll_rotation = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    for take in takes:
        exo_path, ego_path, depth, true_up = move_to_world(take, take.exo.w2c[0])
        lying_path = CameraPath(
            lens=ego_path.camera.upright(),
            w2c=roll_rotation @ ego_path.upright_w2c,
            frames=ego_path.frames,
            world="take",
        )
        estimated_up = find_up([exo_path], lying_path, [depth])
        assert up_error_deg(estimated_up, true_up) < 3 or not estimated_up.known
    assert not find_up([], lying_path).known
    assert "isn't known" in find_up([], lying_path).text()


def test_up_is_unknown_without_evidence():
    assert not find_up([]).known
