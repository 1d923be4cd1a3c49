"""Test the measured angle between an ego video and its path, and cases that are not judged."""

from dataclasses import replace

import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.model import sensor_from_upright
from egox_core.cameras.poses import compose
from egox_core.metrics.off_path import PathError, PathViews
from egox_core.metrics.straighten import straighten_picture
from egox_core.scene.build import build_scene
from egox_core.types import of_frames
from lab.drawn import SyntheticSpec, make_take
from tests.poses import replace_ego
from tests.refusals import refuses

TAKE_SPEC = SyntheticSpec(
    seed=900_001,
    frames=2,
    fps=3.0,
    exo_width=224,
    exo_height=128,
    ego_size=128,
    texture="plain",
    clutter="calm",
    object_scale=2.0,
    edge_samples=1,
)


@pytest.fixture(scope="module")
def take():
    return make_take(TAKE_SPEC)


@pytest.fixture(scope="module")
def scene(take):
    return build_scene(take.exo_frames(), take.depth_video())


@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (8, -16, 4)])
def test_rotation_between_video_and_path_is_measured(take, scene, turn_deg):
    """Check that a known rotation between an ego video and its camera path is measured
    correctly."""
    sensor_rotation = sensor_from_upright(take.ego.camera.quarter_turns)
    rotation_vector = torch.tensor(turn_deg, dtype=torch.float64) @ sensor_rotation.T
    inverse_rotation = torch.from_numpy(
        Rotation.from_rotvec(rotation_vector, degrees=True).inv().as_matrix()
    )
    turned_path = replace_ego(
        take.trajectory(),
        w2c=compose(torch.cat((inverse_rotation, torch.zeros(3, 1)), 1)[None], take.ego.w2c),
    )
    path_error = PathViews.of(scene, turned_path).error(take.ego_frames())
    assert bool(path_error.judged.all())
    assert float(path_error.spread_deg.max()) < 1.5
    turn_error = (path_error.turn_deg - torch.tensor(turn_deg)).norm(dim=1)
    assert float(turn_error.median()) < 0.8, path_error.turn_deg
    assert path_error.text().startswith("The view is ")
    clip = path_error.clip
    assert clip.text() in path_error.text()
    assert clip.judged and (clip.turn_deg - torch.tensor(turn_deg)).norm() < 1.5, clip


def test_a_turned_video_is_straightened_once_and_a_right_one_never(take, scene):
    video, camera = take.ego_frames(), take.ego.camera
    right_clip = PathViews.of(scene, take.trajectory()).clip_turn(video)
    assert straighten_picture(video, right_clip, camera)[0] is video
    turn_deg = torch.tensor([2.0, -7.0, 2.0], dtype=torch.float64)
    turn_back = replace(right_clip, turn_deg=-turn_deg, reason="")
    views = PathViews.of(scene, turn_back.correct_path(take.trajectory()))
    straight, _, filled_mask = straighten_picture(video, views.clip_turn(video), camera)
    second_clip = views.clip_turn(straight)
    assert filled_mask is not None and second_clip.judged and second_clip.angle_deg < 1.5
    assert straighten_picture(straight, second_clip, camera)[0] is straight


def test_classes_are_moved_with_the_video(take):
    """Check that pixel classes are rotated by the same angle as a video that deviates from its
    path."""
    turns_deg = torch.tensor([(0.0, 8.0, 0.0), (6.0, 0.0, 0.0), (0.0, 0.0, float("nan"))])
    path_error = PathError(
        turn_deg=turns_deg,
        shift_m=turns_deg,
        spread_deg=turns_deg[:, 2],
        score=torch.ones(3),
        step=2,
    )
    camera = take.ego.camera
    sensor_rotation = sensor_from_upright(camera.quarter_turns).float()
    point = sensor_rotation @ torch.tensor((0.1, 0.2, 1.0))
    pixel_grid = camera.pixel_grid()

    def draw_spot(turn_deg: torch.Tensor) -> torch.Tensor:
        rotation = Rotation.from_rotvec(turn_deg @ sensor_rotation.T, degrees=True).as_matrix()
        spot_uv, _ = camera.project(torch.from_numpy(rotation).float() @ point)
        return ((pixel_grid - spot_uv).norm(dim=-1) < 6).to(torch.uint8) * 255

    ordered_spot = draw_spot(torch.zeros(3))
    moved_spots = path_error.warp_classes(ordered_spot.expand(5, -1, -1), camera)
    assert torch.equal(moved_spots[4], ordered_spot) and set(moved_spots.unique().tolist()) == {
        0,
        255,
    }
    for frame in range(4):
        expected_spot = draw_spot(turns_deg[frame // 2])
        # The lens draws a spot a bit smaller elsewhere.
        assert (moved_spots[frame] != expected_spot).sum() < 0.3 * (expected_spot > 0).sum()
        assert (moved_spots[frame] != ordered_spot).sum() > 0.8 * (expected_spot > 0).sum()


def test_long_clip_is_compared_at_sampled_frames(take, scene, monkeypatch):
    views = PathViews.of(scene, take.trajectory())
    full_error = views.error(take.ego_frames(), with_clip=False)
    assert not full_error.clip.judged and "wasn't measured" in full_error.clip.text()
    monkeypatch.setattr("egox_core.metrics.frame_alignment.MAX_FRAMES", 1)
    sampled_views = PathViews.of(scene, take.trajectory())
    path_error = sampled_views.error(take.ego_frames(), with_clip=False)
    assert (full_error.step, path_error.step) == (1, 2)
    assert torch.allclose(path_error.turn_deg, full_error.turn_deg[::2], atol=0.1)


def test_noise_and_another_room_are_not_judged(take):
    """Check clips of one frame, by which chance tells the most."""
    first = slice(1)
    noise_video = torch.rand(take.ego_rgb[first].shape)
    other_room_spec = replace(TAKE_SPEC, seed=900_004, frames=1, exo_width=16)
    other_room_video = make_take(other_room_spec).ego_frames()
    scene = build_scene(take.exo_frames()[first], of_frames(take.depth_video(), first))
    views = PathViews.of(scene, of_frames(take.trajectory(), first))
    for video in (noise_video, other_room_video, torch.full_like(noise_video, 0.5)):
        path_error = views.error(video)
        assert (
            not path_error.judged.any()
            and path_error.median_deg is None
            and "can't be judged" in path_error.text()
        )
        assert not path_error.clip.judged and "can't be judged" in path_error.clip.text()


@pytest.mark.parametrize("turn_deg, reason", [(14, "not one turn"), (7, "the turn is known no")])
def test_a_clip_that_turns_on_its_way_is_not_one_turn(take, scene, monkeypatch, turn_deg, reason):
    if turn_deg < 14:
        monkeypatch.setattr("egox_core.metrics.turn_search.ALTERNATE_DEG", 8.0)  # as both halves
    turns = Rotation.from_rotvec([(0, 0, 0), (0, turn_deg, 0)], degrees=True).as_matrix()
    w2c = compose(torch.cat((torch.from_numpy(turns), torch.zeros(2, 3, 1)), 2), take.ego.w2c)
    clip = PathViews.of(scene, replace_ego(take.trajectory(), w2c=w2c)).clip_turn(take.ego_frames())
    assert not clip.judged and clip.reason.startswith(reason), clip


def test_a_scene_of_other_frames_is_refused(take, scene):
    with refuses("1 and 2 frames"):
        PathViews.of(scene, take.trajectory()).error(take.ego_frames()[:1])
