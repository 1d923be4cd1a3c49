"""Test the memory of generated surfaces outside the exo view."""

from dataclasses import replace

import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.model import sensor_from_upright
from egox_core.cameras.path import CameraPath
from egox_core.cameras.presets import preset_camera
from egox_core.prior.look_away import MAX_PARALLAX, LookAwayMemory
from egox_core.types import CameraTrajectory, DepthVideo
from tests.poses import make_path

from ..box_room import view_room

EXO = preset_camera("pinhole", 64)
EGO = preset_camera("aria_released", 64).rescale(64, 64)


def turned_pose(yaw_deg: float, x: float = 0.0) -> torch.Tensor:
    """Compute the pose of a head in the middle of the room that is turned away from the exo
    camera's view."""
    rotation = Rotation.from_euler("y", -yaw_deg, degrees=True).as_matrix()
    sensor_rotation = sensor_from_upright(EGO.quarter_turns) @ torch.from_numpy(rotation)
    return torch.cat((sensor_rotation, -x * sensor_rotation[:, :1]), 1)


def draw_clip(
    poses: list[torch.Tensor],
) -> tuple[torch.Tensor, DepthVideo, CameraTrajectory, torch.Tensor]:
    """Draw exo frames, exo depth, an ego path and the true ego video of a room."""
    exo_w2c = torch.eye(3, 4).double()
    exo_view = view_room(EXO, exo_w2c)
    path = make_path(torch.stack(poses), EGO, exo_w2c=exo_w2c)
    depth_m = exo_view.depth_m.expand(len(poses), -1, -1)
    depth = DepthVideo(
        depth_m=depth_m,
        dynamic=torch.zeros_like(depth_m, dtype=torch.bool),
        exo=CameraPath.of_exo(EXO, exo_w2c, path.frames),
    )
    exo_video = exo_view.rgb.float().expand(len(poses), -1, -1, -1) / 255
    return (
        exo_video,
        depth,
        path,
        torch.stack([view_room(EGO, pose).rgb.float() / 255 for pose in poses]),
    )


def make_memory(ego: torch.Tensor) -> LookAwayMemory:
    """Build a prior memory from one chunk that looks away from the exo view and one that looks
    back."""
    memory = LookAwayMemory()
    for poses, ego_video in (
        (AWAY_POSES, ego),
        ([turned_pose(0)] * 9, draw_clip([turned_pose(0)] * 9)[3]),
    ):
        exo_video, depth, path, _ = draw_clip(poses)
        assert not memory.fill(exo_video, torch.zeros_like(ego), depth, path).any(), (
            "nothing to draw yet"
        )
        memory.keep(ego_video, path)
    return memory


def fill_second_visit(ego: torch.Tensor, later_poses: list[torch.Tensor]) -> tuple:
    """Fill the prior of a second look at the same place, and return it with filled mask and true
    video."""
    memory = make_memory(ego)
    exo_video, depth, path, true_video = draw_clip(later_poses)
    filled_prior_and_mask = memory.fill(
        exo_video, torch.zeros(len(later_poses), 64, 64, 3), depth, path
    )
    return filled_prior_and_mask, filled_prior_and_mask.amax(-1) > 0, true_video


AWAY_POSES = [turned_pose(60 + 2 * t) for t in range(9)]


def test_second_visit_shows_the_frames_of_the_first_one():
    filled_prior, filled_mask, expected_video = fill_second_visit(
        draw_clip(AWAY_POSES)[3], [turned_pose(66), turned_pose(72)]
    )
    assert filled_mask.float().mean() > 0.3
    assert (filled_prior - expected_video)[filled_mask].square().mean().sqrt() < 0.03
    assert not filled_mask[0, ~EGO.pixel_rays()[1]].any(), "outside of the lens nothing is drawn"


def test_pixels_of_the_exo_scene_are_never_replaced():
    """Check that remembered wrong colours are never drawn over surfaces that the exo camera saw."""
    memory = make_memory(torch.ones(9, 64, 64, 3))  # a wrong colour everywhere
    exo_video, depth, path, _ = draw_clip(AWAY_POSES)
    assert memory.fill(exo_video, torch.zeros(9, 64, 64, 3), depth, path).any()
    grey_prior = torch.full((9, 64, 64, 3), 0.5)
    assert torch.equal(memory.fill(exo_video, grey_prior, depth, path), grey_prior)
    exo_video, depth, path, _ = draw_clip([turned_pose(0)])
    assert (
        memory.fill(exo_video, torch.zeros(1, 64, 64, 3), depth, path)[0, 24:40, 24:40].amax() == 0
    )


def test_moving_pixels_are_not_remembered():
    ego_video = draw_clip(AWAY_POSES)[3]
    for t in range(9):
        ego_video[t, 20:40, 20:40] = t / 8  # another colour in each frame
    _, filled_mask, _ = fill_second_visit(ego_video, [turned_pose(64)])
    _, still_mask, _ = fill_second_visit(draw_clip(AWAY_POSES)[3], [turned_pose(64)])
    assert (
        filled_mask[0, 24:36, 24:36].float().mean()
        < 0.2
        < 0.8
        < still_mask[0, 24:36, 24:36].float().mean()
    )


def test_chunks_without_surface_are_accepted(recwarn):
    """Check that the memory accepts chunks that show no known surface or have only unknown
    depth."""
    memory = make_memory(draw_clip(AWAY_POSES)[3])
    ego_video = torch.ones(9, 64, 64, 3)
    exo_video, depth, path, _ = draw_clip([turned_pose(178 + t) for t in range(9)])
    for chunk_depth in (depth, replace(depth, depth_m=torch.full_like(depth.depth_m, torch.nan))):
        memory.fill(exo_video, torch.zeros_like(ego_video), chunk_depth, path)
        memory.keep(ego_video, path)
    assert not recwarn.list
    assert not any(len(chunk.points) for chunk in memory._chunks[2:])


@pytest.mark.parametrize(("parallax_share", "is_drawn"), [(0.5, True), (1.5, False)])
def test_guessed_places_are_drawn_only_near_their_first_view(parallax_share, is_drawn):
    memory = make_memory(draw_clip(AWAY_POSES)[3])
    offset_x = parallax_share * MAX_PARALLAX * memory._chunks[0].distance_m
    exo_video, depth, path, _ = draw_clip([turned_pose(66, x=offset_x)])
    assert bool(memory.fill(exo_video, torch.zeros(1, 64, 64, 3), depth, path).any()) == is_drawn
