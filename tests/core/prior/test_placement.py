"""The head seen from exo: right takes pass in silence, wrong readings are told and named."""

import math
import re
from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose, invert
from egox_core.prior.placement import check_placement, flipped, rolled, scaled
from egox_core.scene.fusion import fuse_scenes
from egox_core.stages import prior, scene
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.parts import turn_z
from tests.poses import path_of, with_ego, with_exo
from tests.refusals import refuses

SMALL = {"frames": 3, "fps": 2.0, "exo_width": 128, "exo_height": 64, "ego_size": 32}
DEPTH = {
    "depth in millimetres": scaled(1000),
    "depth in centimetres": scaled(100),
    "depth in 1/256 m": scaled(256),
    "depth in 1/4000 m: scale it by 0.00025": scaled(4000),
    "depth that is inverse": torch.reciprocal,
    "depth that is disparity": lambda depth_m: 40 / depth_m,
}
POSES = {
    "poses that are camera-to-world": invert,
    "poses in OpenGL's axes": flipped,
    "poses in millimetres": scaled((1, 1, 1, 1000)),
    "pose, which is missing": None,
}
EGO = {
    "ego poses in OpenGL's axes: negate rows y and z": flipped,
    "an upright picture with the lens of a turned sensor, .*by 90": rolled(-1),
    "an upright picture with the lens of a turned sensor, .*by -90": rolled(1),
}


@pytest.fixture(scope="module")
def take():
    return make_take(SyntheticSpec(seed=101, exo_views=2, **SMALL))


def words_of(take, *, depth=torch.clone, poses=torch.clone, **settings):
    exo_w2c = poses and poses(take.exo.pose)
    maps = with_exo(replace(take.depth_video(), depth_m=depth(take.exo_depth_m)), exo_w2c)
    ego_w2c = (poses or flipped)(take.ego.w2c)
    path = path_of(ego_w2c, take.ego.camera, exo_w2c=exo_w2c, exo_camera=take.exo.camera)
    return check_placement(scene(take.exo_rgb, maps)[0], path, **settings)


@pytest.mark.parametrize("named", [*DEPTH, *POSES])
def test_a_wrong_reading_is_told_and_named(take, named):
    depth, poses = (changes.get(named, torch.clone) for changes in (DEPTH, POSES))
    words = words_of(take, depth=depth, poses=poses, draw_anyway=True)[0].text
    assert words.startswith("warning: ") and named in words.split("; it would be right with ")[1]


@pytest.mark.parametrize("named", EGO)
def test_a_wrong_reading_of_the_ego_poses_alone_is_named(take, named):
    path = take.trajectory()
    if EGO[named] is flipped:  # of a turned sensor it is a turn about the vertical, as a head makes
        path = replace(path, ego=path.ego.upright)
    points, _ = scene(take.exo_rgb, take.depth_video())
    words = check_placement(points, with_ego(path, w2c=EGO[named](path.ego.w2c)))[0].text
    assert re.search(named, words.split("; it would be right with ")[1])


@pytest.mark.parametrize("degrees", [-120, -60, 60, 120])
def test_a_head_that_is_turned_neither_looks_up_nor_lies_on_its_side(take, degrees):
    turn = torch.from_numpy(turn_z(math.radians(degrees)))
    w2c = take.ego.w2c
    turned = w2c[..., :3] @ turn
    place = -(turned @ camera_centre(w2c)[..., None])
    points, path = scene(take.exo_rgb, take.depth_video())[0], take.trajectory()
    words = check_placement(points, with_ego(path, w2c=torch.cat((turned, place), -1)))
    assert not [word for word in words if "side" in word.text or "looks up" in word.text]


def test_right_takes_of_several_and_moving_cameras_pass(take):
    fused = fuse_scenes([scene(view.exo_rgb, view.depth_video())[0] for view in take.views])
    assert check_placement(fused, take.trajectory()) == ()
    moved = torch.eye(3, 4, dtype=torch.float64) * torch.ones(3, 1, 1)
    moved[:, 0, 3] = torch.arange(3)  # the world, under both cameras
    assert words_of(take, poses=lambda w2c: compose(w2c.expand(3, 3, 4), moved)) == ()


def test_a_wearer_outside_the_picture_is_right(take):
    depth, left = take.depth_video(), 84  # px, beyond the head
    cut = {"depth_m": depth.depth_m[..., left:], "dynamic": None}
    camera = depth.exo.camera.crop(left, 0, 128 - left, 64)
    exo = replace(depth.exo, lens=camera)
    points, _ = scene(take.exo_rgb[:, :, left:], replace(depth, **cut, exo=exo))
    assert check_placement(points, take.trajectory()) == ()


@pytest.mark.parametrize("degrees", [90, 180])
def test_a_right_head_is_silent_however_it_is_held(take, degrees):
    """Exo is rolled as a phone, or hung upside down: the head lies, or stands on itself."""
    angle = math.radians(degrees)
    turn = torch.eye(3, 4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    points, _ = scene(take.exo_rgb, take.depth_video())
    assert check_placement(points, take.trajectory()) == ()
    depth = take.depth_video()
    quarter = degrees // 90
    maps = {name: getattr(depth, name).rot90(-quarter, (1, 2)) for name in ("depth_m", "dynamic")}
    height, width = maps["depth_m"].shape[1:]
    lens = CameraModel.pinhole(width, height, depth.exo.camera.fx)
    rolled_exo = CameraPath.of_exo(lens, compose(turn, depth.exo.w2c[0]))
    points, _ = scene(take.exo_rgb.rot90(-quarter, (1, 2)), replace(depth, **maps, exo=rolled_exo))
    path = replace(take.trajectory(), exo=rolled_exo)
    assert check_placement(points, path) == ()


@pytest.mark.parametrize("factor", [1 / 1.4, 1.4])
def test_a_scale_that_estimates_have_is_silent(take, factor):
    assert words_of(take, depth=scaled(factor)) == ()


@pytest.mark.parametrize("factor", [2.0, 0.5, 1 / 0.3048, 0.256, 5.0])
def test_a_plain_scale_is_named_with_its_factor(take, factor):
    words = words_of(take, depth=scaled(factor), draw_anyway=True)[0].text
    named = float(re.search("scale it by ([0-9.]+)", words)[1])
    assert named * factor == pytest.approx(1, rel=0.25) and "disparity" not in words


def test_what_cannot_be_is_refused_unless_it_is_drawn_anyway(take, wordless):
    def stop(count, total, stage):
        raise InterruptedError(stage)

    depth, path = take.depth_video(), take.trajectory()
    vast, _ = scene(take.exo_rgb, replace(depth, depth_m=1000 * depth.depth_m))
    with pytest.raises(InterruptedError, match="readings"):
        prior(vast, path, progress=stop)
    with refuses("draw_anyway"):
        prior(vast, path)
    (warning,) = prior(vast, path, draw_anyway=True)[1].warnings()
    assert wordless or "can't" in warning
    # Without a reading under which it would be right it goes on, and says what it sees.
    points, _ = scene(take.exo_rgb, depth)
    away = with_ego(path, w2c=scaled((1, 1, 1, 99))(take.ego.w2c))
    (warning,) = prior(points, away)[1].warnings()
    assert wordless or "hardly can" in warning
