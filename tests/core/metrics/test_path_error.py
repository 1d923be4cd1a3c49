"""The angle between a view and its path: known turns are measured, what doesn't match isn't
judged."""

from dataclasses import replace

import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.model import sensor_from_upright
from egox_core.cameras.poses import compose
from egox_core.metrics.off_path import PathError, PathViews
from egox_core.scene.build import build_scene
from lab.drawn import SyntheticSpec, make_take
from tests.poses import with_ego
from tests.refusals import refuses

SPEC = SyntheticSpec(
    seed=900_001,
    frames=3,
    fps=3.0,
    exo_width=224,
    exo_height=128,
    ego_size=128,
    texture="plain",
    clutter="calm",
    object_scale=2.0,
)


@pytest.fixture(scope="module")
def take():
    return make_take(SPEC)


@pytest.fixture(scope="module")
def scene(take):
    return build_scene(take.exo_frames(), take.depth_video())


@pytest.mark.parametrize("turn", [(0, 0, 0), (10, 0, 0), (0, -20, 0), (0, 0, 5)])
def test_a_path_turned_away_is_measured(take, scene, turn):
    """The true video against a path that is turned back: the view is off by the turn."""
    upright = sensor_from_upright(take.ego.camera.quarter_turns)
    about = torch.tensor(turn, dtype=torch.float64) @ upright.T
    back = torch.from_numpy(Rotation.from_rotvec(about, degrees=True).inv().as_matrix())
    path = with_ego(
        take.trajectory(), w2c=compose(torch.cat((back, torch.zeros(3, 1)), 1)[None], take.ego.w2c)
    )
    path_error = PathViews.of(scene, path).error(take.ego_frames())
    assert bool(path_error.judged.all()) and float(path_error.spread_deg.max()) < 1.5
    off = (path_error.turn_deg - torch.tensor(turn)).norm(dim=1)
    assert float(off.median()) < 0.8, path_error.turn_deg
    assert path_error.text().startswith("The view is ")


def test_classes_are_moved_to_where_the_video_shows_them(take):
    """A spot of the ordered view is found at its own direction in the turned one. A frame that
    wasn't judged stays."""
    turns = torch.tensor([(0.0, 8.0, 0.0), (6.0, 0.0, 0.0), (0.0, 0.0, float("nan"))])
    path_error = PathError(
        turn_deg=turns, shift_m=turns, spread_deg=turns[:, 2], score=torch.ones(3), step=2
    )
    camera = take.ego.camera
    upright = sensor_from_upright(camera.quarter_turns).float()
    point, pixels = upright @ torch.tensor((0.1, 0.2, 1.0)), camera.pixel_grid()

    def spot(turn_deg: torch.Tensor) -> torch.Tensor:
        about = Rotation.from_rotvec(turn_deg @ upright.T, degrees=True).as_matrix()
        at, _ = camera.project(torch.from_numpy(about).float() @ point)
        return ((pixels - at).norm(dim=-1) < 6).to(torch.uint8) * 255

    ordered = spot(torch.zeros(3))
    moved = path_error.moved(ordered.expand(5, -1, -1), camera)
    assert torch.equal(moved[4], ordered) and set(moved.unique().tolist()) == {0, 255}
    for frame in range(4):
        expected = spot(turns[frame // 2])
        # The lens draws a spot a bit smaller elsewhere.
        assert (moved[frame] != expected).sum() < 0.3 * (expected > 0).sum()
        assert (moved[frame] != ordered).sum() > 0.8 * (expected > 0).sum()


def test_a_long_clip_is_compared_at_every_so_many_frames(take, scene, monkeypatch):
    every = PathViews.of(scene, take.trajectory()).error(take.ego_frames())
    monkeypatch.setattr("egox_core.metrics.off_path.MAX_FRAMES", 2)
    path_error = PathViews.of(scene, take.trajectory()).error(take.ego_frames())
    assert (every.step, path_error.step) == (1, 2)
    assert torch.allclose(path_error.turn_deg, every.turn_deg[::2], atol=0.1)


def test_noise_and_another_room_are_not_judged(take, scene):
    noise = torch.rand(take.ego_rgb.shape)
    other = make_take(replace(SPEC, seed=900_004)).ego_frames()
    for video in (noise, other, torch.full_like(noise, 0.5)):
        path_error = PathViews.of(scene, take.trajectory()).error(video)
        assert (
            not path_error.judged.any()
            and path_error.median_deg is None
            and "can't be judged" in path_error.text()
        )


def test_a_scene_of_other_frames_is_refused(take, scene):
    with refuses("2 and 3 frames"):
        PathViews.of(scene, take.trajectory()).error(take.ego_frames()[:2])
