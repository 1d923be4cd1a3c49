"""Test the geometry of guided attention on a wall 2 m in front of the exo camera.

The goldens of real takes are compared in test_fidelity.py.
"""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import compose, look_at
from egox_core.cameras.presets import preset_camera
from egox_core.gga.geometry import exo_points, gga_geometry
from egox_core.types import DepthVideo, of_frames
from tests.poses import make_path, replace_exo_pose, still_poses
from tests.refusals import refuses


def wall_scene(device, scale: int = 1):
    height, width = 64 * scale, 96 * scale
    exo_camera = CameraModel.pinhole(width, height, 80.0 * scale)
    w2c = still_poses(9)
    w2c[:, 0, 3] = torch.linspace(0, -0.5, 9, dtype=torch.float64)
    camera = preset_camera("pinhole", 64)
    exo_w2c = w2c[0].to(device)
    trajectory = make_path(w2c.to(device), camera, 30, exo_w2c=exo_w2c)
    return DepthVideo(
        depth_m=torch.full((9, height, width), 2.0, device=device),
        exo=CameraPath.of_exo(exo_camera),
    ), trajectory


VIDEO_SIZES = {"frames": 9, "exo_size": (96, 64), "ego_size": (64, 64)}
EXACT = "exact"


def test_exact_rays_of_ego_and_exo_meet_at_the_wall(device):
    depth, trajectory = wall_scene(device)
    geometry = gga_geometry(depth, trajectory, EXACT, **VIDEO_SIZES)
    assert geometry.grid == (3, 4, 6, 4)
    assert geometry.tokens == 120
    # An ego camera in the exo camera's place, frame 0: the key in a query's direction is the one
    # that it sees.
    cosines = (
        (geometry.query_dirs[0] @ geometry.key_dirs[0].T)
        .unflatten(0, (4, 4))
        .unflatten(2, (3, 4, 10))[:, :, 0]
    )
    best_keys = cosines[..., :6].flatten(2).argmax(-1)
    key_directions = geometry.key_dirs[0].unflatten(0, (3, 4, 10))[0, :, :6].reshape(-1, 3)
    cosine_gap = 1 - torch.nn.functional.cosine_similarity(
        key_directions[best_keys], geometry.query_dirs[0].unflatten(0, (4, 4)), dim=-1
    )
    assert cosine_gap[1:3, 1:3].max() < 0.02  # within a token of the middle


def test_missing_depth_gives_zero_direction_and_trust(device):
    depth, trajectory = wall_scene(device)
    depth_with_holes = depth.depth_m.clone()
    depth_with_holes[:, :16, :16] = float("nan")  # one token
    depth_with_holes[:, :16, 16:20] = float("inf")
    geometry = gga_geometry(
        replace(depth, depth_m=depth_with_holes), trajectory, EXACT, **VIDEO_SIZES
    )
    full_geometry = gga_geometry(depth, trajectory, EXACT, **VIDEO_SIZES)
    trust = geometry.key_trust.unflatten(0, (3, 4, 10))
    assert trust[0, 0, 0] == 0
    assert 0 < trust[0, 0, 1] < 1
    assert (trust[0, 1:, :6] == 1).all()
    key_directions = geometry.key_dirs.unflatten(1, (3, 4, 10))
    assert not key_directions[:, :, 0, 0].any()
    assert torch.isfinite(geometry.key_dirs).all()
    assert torch.equal(
        key_directions[:, :, 1:], full_geometry.key_dirs.unflatten(1, (3, 4, 10))[:, :, 1:]
    )


def test_trust_of_the_depth_is_pooled(device):
    depth, trajectory = wall_scene(device)
    trust = torch.full_like(depth.depth_m, 0.5)
    geometry = gga_geometry(replace(depth, trust=trust), trajectory, EXACT, **VIDEO_SIZES)
    assert torch.allclose(geometry.key_trust.unflatten(0, (3, 4, 10))[..., :6], torch.tensor(0.5))


def test_moving_exo_camera_moves_the_points(device):
    depth, trajectory = wall_scene(device)
    moving_w2c = still_poses(9)
    moving_w2c[4:, 2, 3] = 1.0
    points, _ = exo_points(
        replace_exo_pose(depth, moving_w2c), trajectory, torch.tensor([0, 4, 8]), (96, 64)
    )
    assert torch.allclose(points[0, ..., 2], torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(points[1:, ..., 2], torch.tensor(1.0, dtype=torch.float64))


def test_estimated_exo_motion_is_moved_into_the_paths_world():
    """Check that exo poses estimated in the first exo camera's frame are converted to the path's
    world."""
    _, trajectory = wall_scene("cpu")
    first_exo_pose = look_at([0.3, 0.0, -1.0], [0.0, 0.0, 2.0])
    relative_w2c = still_poses(9)
    relative_w2c[4:, 2, 3] = 1.0
    estimated_path = CameraPath(lens=None, w2c=relative_w2c, world="exo")
    placed_trajectory = replace(trajectory, exo=CameraPath.of_exo(None, first_exo_pose))
    # Robot sets and the check of cameras see the same camera as the attention.
    for exo in (
        placed_trajectory.exo_of(estimated_path),
        placed_trajectory.with_depth_camera(estimated_path).exo,
    ):
        assert torch.equal(exo.w2c, compose(relative_w2c, first_exo_pose))
    assert placed_trajectory.exo_of(CameraPath.of_exo(None)) == placed_trajectory.exo


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": 8}, "frame count"),
        ({"frames": 13}, "depth: got 9 frames"),
        ({"exo_size": (100, 64)}, "exo size"),
        ({"ego_size": (64, 80)}, "ego height"),
        ({"exo_size": (128, 64)}, "depth size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message, device):
    with refuses(message):
        gga_geometry(*wall_scene(device), EXACT, **{**VIDEO_SIZES, **change})


def test_short_trajectory_and_unknown_modes_are_refused(device):
    depth, trajectory = wall_scene(device)
    foreign_path = replace(trajectory, ego=replace(trajectory.ego, world="unknown"), exo=None)
    for depth_video in (depth, replace_exo_pose(depth, still_poses(9))):
        with refuses("world of another program"):
            gga_geometry(depth_video, foreign_path, EXACT, **VIDEO_SIZES)
    with refuses("ego trajectory"):
        gga_geometry(depth, of_frames(trajectory, slice(5)), EXACT, **VIDEO_SIZES)
    with refuses("metric z depth"):
        gga_geometry(replace(depth, kind="disparity"), trajectory, EXACT, **VIDEO_SIZES)
    with refuses("exo camera of the depth"):
        gga_geometry(
            replace(depth, depth_m=depth.depth_m[:, :, 2:]), trajectory, EXACT, **VIDEO_SIZES
        )
    with refuses("ray geometry"):
        gga_geometry(depth, trajectory, "true", **VIDEO_SIZES)
