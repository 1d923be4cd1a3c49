"""Test the check that finds wrong units and axes by the wearer's head."""

import math
import re
from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose, invert
from egox_core.prior.placement import check_placement, flip_camera_axes, roll_by, scale_by
from egox_core.scene.fusion import fuse_scenes
from egox_core.stages import prior, scene
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.bystander import add_bystander
from lab.drawn.parts import turn_z
from tests.poses import make_path, replace_ego, replace_exo_pose
from tests.refusals import refuses

TURNED_WORLD = [[0.6, 0.0, 0.8, 0.5], [0.0, 1.0, 0.0, -0.4], [-0.8, 0.0, 0.6, 0.7]]
SMALL_TAKE = {"frames": 3, "fps": 2.0, "exo_width": 128, "exo_height": 64, "ego_size": 32}
DEPTH_ERRORS = {
    "depth in millimetres": scale_by(1000),
    "depth in centimetres": scale_by(100),
    "depth in 1/256 m": scale_by(256),
    "depth in millimetres or a smaller unit": lambda depth_m: (5000 * depth_m).clamp(max=1000),
    "depth that is inverse or disparity": torch.reciprocal,
    "depth that is inverse or disparity: give one": lambda depth_m: 40 / depth_m,
}
POSE_ERRORS = {
    "poses that are camera-to-world": invert,
    "poses in OpenGL's axes": flip_camera_axes,
    "poses in millimetres": scale_by((1, 1, 1, 1000)),
    "pose, which is missing": None,
}
EGO_POSE_ERRORS = {
    "ego poses in OpenGL's axes: negate rows y and z": flip_camera_axes,
    "an upright picture with the lens of a turned sensor, .*by 90": roll_by(-1),
    "an upright picture with the lens of a turned sensor, .*by -90": roll_by(1),
}


@pytest.fixture(scope="module")
def take():
    return make_take(SyntheticSpec(seed=101, exo_views=2, **SMALL_TAKE))


def placement_warnings(take, *, change_depth=torch.clone, change_poses=torch.clone, **settings):
    exo_w2c = change_poses and change_poses(take.exo.pose)
    depth_video = replace_exo_pose(
        replace(take.depth_video(), depth_m=change_depth(take.exo_depth_m)), exo_w2c
    )
    ego_w2c = (change_poses or flip_camera_axes)(take.ego.w2c)
    path = make_path(ego_w2c, take.ego.camera, exo_w2c=exo_w2c, exo_camera=take.exo.camera)
    return check_placement(scene(take.exo_rgb, depth_video)[0], path, **settings)


@pytest.mark.parametrize("error_name", [*DEPTH_ERRORS, *POSE_ERRORS])
def test_wrong_depth_and_poses_are_named(take, error_name):
    change_depth, change_poses = (
        error_functions.get(error_name, torch.clone)
        for error_functions in (DEPTH_ERRORS, POSE_ERRORS)
    )
    warning = placement_warnings(
        take, change_depth=change_depth, change_poses=change_poses, draw_anyway=True
    )[0].text
    assert (
        warning.startswith("warning: ")
        and error_name in warning.split("; it would be right with ")[1]
    )


@pytest.mark.parametrize("error_name", EGO_POSE_ERRORS)
def test_wrong_ego_poses_are_named(take, error_name):
    path = take.trajectory()
    if (
        EGO_POSE_ERRORS[error_name] is flip_camera_axes
    ):  # of a turned sensor it is a turn about the vertical, as a head makes
        path = replace(path, ego=path.ego.upright)
    scene_points, _ = scene(take.exo_rgb, take.depth_video())
    warning = check_placement(
        scene_points, replace_ego(path, w2c=EGO_POSE_ERRORS[error_name](path.ego.w2c))
    )[0].text
    assert re.search(error_name, warning.split("; it would be right with ")[1])


def test_person_beside_the_wearer_is_not_taken_for_its_body(take):
    """Check that a tall bystander neither makes a right take cry nor hides a turned sensor."""
    crowded_take = add_bystander(take)
    assert (crowded_take.exo_dynamic & ~take.exo_dynamic).sum() > 100
    assert placement_warnings(crowded_take) == ()
    scene_points, _ = scene(crowded_take.exo_rgb, crowded_take.depth_video())
    path = crowded_take.trajectory()
    turned_path = replace_ego(path, w2c=roll_by(1)(path.ego.w2c))
    (warning,) = check_placement(scene_points, turned_path)
    assert "the lens of a turned sensor" in warning.text


@pytest.mark.parametrize("degrees", [-120, -60, 60, 120])
def test_turned_head_is_not_taken_for_a_lying_one(take, degrees):
    gaze_rotation = torch.from_numpy(turn_z(math.radians(degrees)))
    w2c = take.ego.w2c
    turned_rotations = w2c[..., :3] @ gaze_rotation
    translations = -(turned_rotations @ camera_centre(w2c)[..., None])
    scene_points = scene(take.exo_rgb, take.depth_video())[0]
    path = take.trajectory()
    warnings = check_placement(
        scene_points, replace_ego(path, w2c=torch.cat((turned_rotations, translations), -1))
    )
    assert not [
        warning for warning in warnings if "side" in warning.text or "looks up" in warning.text
    ]


def test_tilted_head_is_not_taken_for_a_turned_sensor(take):
    tilt = torch.from_numpy(turn_z(math.radians(55)))
    path = replace_ego(take.trajectory(), w2c=tilt @ take.ego.w2c)
    warnings = check_placement(scene(take.exo_rgb, take.depth_video())[0], path)
    assert not [warning for warning in warnings if "would be right" in warning.text]


def test_true_takes_of_several_and_moving_cameras_pass(take):
    fused_scene = fuse_scenes([scene(view.exo_rgb, view.depth_video())[0] for view in take.views])
    assert check_placement(fused_scene, take.trajectory()) == ()
    world_motion = torch.eye(3, 4, dtype=torch.float64) * torch.ones(3, 1, 1)
    world_motion[:, 0, 3] = torch.arange(3)  # the world, under both cameras
    assert (
        placement_warnings(
            take, change_poses=lambda w2c: compose(w2c.expand(3, 3, 4), world_motion)
        )
        == ()
    )


def test_wearer_outside_the_picture_passes(take):
    depth, left_px = take.depth_video(), 84  # px, beyond the head
    cropped_fields = {"depth_m": depth.depth_m[..., left_px:], "dynamic": None}
    camera = depth.exo.camera.crop(left_px, 0, 128 - left_px, 64)
    cropped_exo = replace(depth.exo, lens=camera)
    scene_points, _ = scene(
        take.exo_rgb[:, :, left_px:], replace(depth, **cropped_fields, exo=cropped_exo)
    )
    assert check_placement(scene_points, take.trajectory()) == ()


@pytest.mark.parametrize("degrees", [90, 180])
def test_true_head_passes_with_a_rolled_exo_camera(take, degrees):
    """Check that correct takes pass even if the exo camera is rolled sideways or upside down."""
    angle = math.radians(degrees)
    roll_pose = torch.eye(3, 4, dtype=torch.float64)
    roll_pose[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    depth = take.depth_video()
    quarter_turns = degrees // 90
    rotated_maps = {
        name: getattr(depth, name).rot90(-quarter_turns, (1, 2)) for name in ("depth_m", "dynamic")
    }
    height, width = rotated_maps["depth_m"].shape[1:]
    lens = CameraModel.pinhole(width, height, depth.exo.camera.fx)
    rolled_exo = CameraPath.of_exo(lens, compose(roll_pose, depth.exo.w2c[0]))
    scene_points, _ = scene(
        take.exo_rgb.rot90(-quarter_turns, (1, 2)), replace(depth, **rotated_maps, exo=rolled_exo)
    )
    path = replace(take.trajectory(), exo=rolled_exo)
    assert check_placement(scene_points, path) == ()


def to_disparity(depth_m):
    inverse_depth = 1 / depth_m
    farthest, nearest = inverse_depth.nanquantile(0.005), inverse_depth.nanquantile(0.995)
    return ((inverse_depth - farthest) / (nearest - farthest)).clamp(1e-3, 1)


@pytest.mark.parametrize(
    ("seed", "change", "reading"),
    [  # its inverted poses put a rolled head near a body, too
        (19083741, {"change_ego": roll_by(-1)}, "ego poses of an upright picture"),
        # the trunk cuts an arm off a rolled head's body
        (267687071, {"change_ego": roll_by(1)}, "ego poses of an upright picture"),
        # poses in centimetres would put everything at the head
        (23339270, {"change_depth": to_disparity}, "depth that is inverse or disparity"),
        # a head in front of what aligned depth cuts off
        (555002, {"change_depth": lambda m: (256 * m).clamp(max=1000)}, "depth in 1/256 m"),
    ],
)
def test_reading_that_fits_best_is_named_first(seed, change, reading):
    assert f"it would be right with {reading}" in warning_in_turned_world(seed, **change)


@pytest.mark.parametrize("factor", [1 / 1.4, 1.4])
def test_usual_scale_errors_of_estimates_pass(take, factor):
    assert placement_warnings(take, change_depth=scale_by(factor)) == ()


@pytest.mark.parametrize("factor", [2.0, 0.5, 1 / 0.3048, 0.256, 5.0])
def test_wrong_scale_is_named_with_its_factor(take, factor):
    warning = placement_warnings(take, change_depth=scale_by(factor), draw_anyway=True)[0].text
    named_factor = float(re.search("scale it by ([0-9.]+)", warning)[1])
    assert named_factor * factor == pytest.approx(1, rel=0.25)
    assert "disparity" not in warning


def warning_in_turned_world(seed, *, change_depth=torch.clone, change_ego=torch.clone):
    size = {"frames": 1, "exo_width": 160, "exo_height": 96, "ego_size": 64, "edge_samples": 1}
    take = make_take(SyntheticSpec(seed=seed, texture="plain", wearer="drawn", **size))
    room_from_world = invert(torch.tensor(TURNED_WORLD, dtype=torch.float64))
    exo_w2c = compose(take.exo.w2c[0], room_from_world)
    path = make_path(
        change_ego(compose(take.ego.upright_w2c, room_from_world)),
        take.ego.camera.upright(),
        exo_w2c=exo_w2c,
        exo_camera=take.exo.camera,
    )
    depth_video = replace(take.depth_video(), depth_m=change_depth(take.exo_depth_m))
    scene_points, _ = scene(take.exo_rgb, replace_exo_pose(depth_video, exo_w2c))
    (warning,) = check_placement(scene_points, path, draw_anyway=True)
    return warning.text


def test_impossible_placement_is_refused_unless_drawn_anyway(take, are_remarks_blank):
    def raise_interrupted(count, total, stage):
        raise InterruptedError(stage)

    depth, path = take.depth_video(), take.trajectory()
    huge_scene, _ = scene(take.exo_rgb, replace(depth, depth_m=1000 * depth.depth_m))
    with refuses("draw_anyway"):
        prior(huge_scene, path)
    (warning,) = prior(huge_scene, path, draw_anyway=True)[1].warnings()
    assert are_remarks_blank or "can't" in warning
    # Without a reading under which it would be right it goes on, and says what it sees.
    scene_points, _ = scene(take.exo_rgb, depth)
    distant_path = replace_ego(path, w2c=scale_by((1, 1, 1, 99))(take.ego.w2c))
    with pytest.raises(InterruptedError, match="readings"):
        prior(scene_points, distant_path, progress=raise_interrupted)
    (warning,) = prior(scene_points, distant_path)[1].warnings()
    assert are_remarks_blank or "hardly can" in warning
