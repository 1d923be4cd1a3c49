"""Test camera poses: validation, inverse, composition and look-at."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import invert, look_at, transform, validate_w2c
from tests.refusals import refuses


def random_poses(count: int) -> torch.Tensor:  # [T, 3, 4] float64
    rotation = Rotation.random(count, random_state=5).as_matrix()
    return torch.from_numpy(
        np.concatenate((rotation, np.random.default_rng(5).normal(size=(count, 3, 1))), axis=-1)
    )


def test_valid_poses_are_accepted():
    poses = random_poses(5)
    assert torch.equal(validate_w2c(poses.tolist(), "poses"), poses)
    assert validate_w2c(poses[0].float(), "pose").shape == (3, 4)
    square_matrices = torch.cat(
        (poses, torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(5, 1, 4)), dim=1
    )
    assert torch.equal(validate_w2c(square_matrices, "poses"), poses)
    for input_poses, expected_poses in (
        (square_matrices, poses),
        (square_matrices[0], poses[:1]),
        (poses[0], poses[:1]),
    ):
        assert torch.equal(
            CameraPath(lens=None, w2c=input_poses, world="unknown").w2c, expected_poses
        )
    with refuses(r"poses of a camera path: got shape \(1, 5, 3, 4\)"):
        CameraPath(lens=None, w2c=poses[None], world="unknown")
    rounded_poses = (poses * 2000).round() / 2000  # released files carry few digits: within 1e-3
    assert validate_w2c(rounded_poses, "poses").shape == (5, 3, 4)


def test_bad_poses_are_refused_by_name():
    poses = random_poses(5)
    mirrored_poses = poses.clone()
    mirrored_poses[3, 0, :3] *= -1
    scaled_poses = poses.clone()
    scaled_poses[2, :, :3] *= 1.01
    poses_with_nan = poses.clone()
    poses_with_nan[1, 0, 3] = float("nan")
    for bad_poses, message in (
        (mirrored_poses, "reflection .*frame 3"),
        (scaled_poses, "not a rotation.*frame 2"),
        (poses_with_nan, "NaN"),
        (poses[..., :3], r"shape \(5, 3, 3\)"),
        (poses[:0], "shape"),
        ([[1, 2], [3]], "equal length"),
        (torch.eye(4).T + torch.tensor([[0.0] * 4] * 3 + [[1.0, 2, 3, 0]]), "last row"),
    ):
        with refuses(message) as error_info:
            validate_w2c(bad_poses, "ego_extrinsics")
        assert "ego_extrinsics" in str(error_info.value)


def test_look_at_gives_upright_and_tilted_poses():
    level_pose = look_at((1.0, 2.0, 3.0), (1.0, 2.0, 8.0))  # along z: the world's own axes
    assert torch.equal(
        level_pose, torch.tensor([[1.0, 0, 0, -1], [0, 1, 0, -2], [0, 0, 1, -3]]).double()
    )
    pose = validate_w2c(look_at((0.0, 0, 0), (3.0, 1.0, 0.5), up=(0.0, 0, 1)), "pose")
    camera_points = transform(
        pose, torch.tensor([[3.0, 1, 0.5], [3.0, 1, 1.5]], dtype=torch.float64)
    )
    assert camera_points[0, :2].abs().max() < 1e-12
    assert camera_points[0, 2] > 3
    assert (
        camera_points[1, 1] < 0 and abs(float(camera_points[1, 0])) < 1e-12
    )  # what is above is seen above (y down)
    tilted_pose = look_at((0.0, 0, 0), (0.0, 0, 1), roll_deg=90)
    # A camera tilted clockwise sees the world tilted anticlockwise: what was on the right goes up.
    assert torch.allclose(tilted_pose[:, 0], torch.tensor([0.0, -1, 0]).double())
    for target in ((0.0, 0, 0), (0.0, -2, 0)):
        with refuses("look_at"):
            look_at((0.0, 0, 0), target)


@pytest.mark.parametrize("distance_m", [0.0, 3000.0])
def test_rounded_pose_is_the_same_and_a_moved_one_is_not(distance_m):
    """Check that poses rounded to four digits or to float32 count as equal, and moved poses as
    different."""
    rotations = torch.from_numpy(Rotation.random(20, random_state=5).as_matrix())
    translations = (
        distance_m + torch.randn(20, 3, 1, generator=torch.Generator().manual_seed(5)).double()
    )
    small_rotation = torch.from_numpy(Rotation.from_rotvec([0, 0.01, 0]).as_matrix())
    for w2c in torch.cat((rotations, translations), 2):
        exact_path = CameraPath.of_exo(None, w2c)
        rounded_poses = [w2c.round(decimals=4), invert(invert(w2c).round(decimals=4)), w2c.float()]
        assert all(
            CameraPath.of_exo(None, other_pose).begins_as(exact_path)
            for other_pose in rounded_poses
        )
        shifted_pose, turned_pose = w2c.clone(), w2c.clone()
        shifted_pose[:, 3] += w2c[:, :3] @ torch.tensor([0.01, 0.0, 0.0]).double()
        turned_pose[:, :3] = w2c[:, :3] @ small_rotation
        assert not any(
            CameraPath.of_exo(None, other_pose).begins_as(exact_path)
            for other_pose in (shifted_pose, turned_pose)
        )
