"""Compute what follows from depth and cameras, and compare it with the truth."""

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from egox_core import stages
from egox_core.exchange import CameraFile
from egox_core.facts import Declared
from egox_core.gga import gga_geometry
from egox_core.hands import HandTrack
from egox_core.prior import ExoCandidate, rank_exo_cameras
from egox_core.prior.placement import measure, seen_heads
from egox_core.robots import make_episodes
from egox_core.scene import ego_in_scene, viewer_camera
from egox_core.stereo import StereoForm, second_eye
from egox_core.stereo.right_eye import SecondEye
from egox_core.types import CameraTrajectory, DepthVideo, GgaGeometry, PointCloud, of_frames

from .drawn_clip import CLIP_FRAMES, Clip, relative_poses


def read_exo_poses(file: Path, depth: DepthVideo) -> Tensor:  # [T, 3, 4] of the depth's frames
    return CameraFile.read(file).settled(Declared(), "exo").for_depth(depth)[0].w2c


def rank_by_frame(depth: DepthVideo, path: CameraTrajectory) -> Tensor:
    candidate = ExoCandidate(name="a", trajectory=path, depth=depth)
    return rank_exo_cameras([candidate])[0].by_frame


def episode_columns(
    exo: Tensor, ego: Tensor, depth: DepthVideo, path: CameraTrajectory, hands: HandTrack
) -> Mapping[str, np.ndarray]:
    """Build the table columns of one robot episode."""
    fps = round(1 / float(path.ego.frames.times_s.diff().mean()))
    episodes = make_episodes(
        "a", "do it", exo, ego, path.with_depth_camera(depth.exo), hands, fps=fps
    )
    return episodes[0].columns


ARRAY_TOLERANCE = 1e-9
FILE_TOLERANCE = 1e-6


class DepthAndPath(NamedTuple):
    depth: DepthVideo
    path: CameraTrajectory


@cache
def reference_result(clip: Clip) -> DepthAndPath:
    """Build a depth video and a camera path from a clip's true values."""
    depth, _ = stages.align(
        clip.depth_maps(), frames=clip.frames, camera=clip.lens, exo_w2c=clip.exo_pose
    )
    path, _ = stages.path(
        clip.ego_w2c.numpy(), frames=clip.frames, camera=clip.ego, exo_w2c=clip.exo_pose
    )
    return DepthAndPath(depth, path)


@cache
def reference_scene(clip: Clip) -> PointCloud:
    return stages.scene(clip.exo, reference_result(clip).depth)[0]


def exact_gga_geometry(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> GgaGeometry:
    ego_side_px = clip.picture.size[1]
    picture_sizes = {"exo_size": clip.picture.size, "ego_size": (ego_side_px, ego_side_px)}
    return gga_geometry(depth, path, "exact", frames=CLIP_FRAMES, **picture_sizes)


def make_second_eye(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> SecondEye:
    """Draw the second eye of the first two frames, as each takes long."""
    depth, path = (of_frames(value, slice(2)) for value in (depth, path))
    scene_points, _ = stages.scene(clip.exo[:2], depth)
    ego_prior, _ = stages.prior(scene_points, path, draw_anyway=True)
    return second_eye(ego_prior.rgb, scene_points, path, StereoForm())


def later_results(
    clip: Clip, depth: DepthVideo, path: CameraTrajectory
) -> Iterator[tuple[str, Any]]:
    """Yield the results that are computed from a depth video and a camera path, but the second
    eye."""
    scene_points, _ = stages.scene(clip.exo, depth)
    ego_prior, _ = stages.prior(scene_points, path)
    yield "prior", ego_prior.rgb
    head_points = seen_heads(scene_points, ego_in_scene(scene_points, path))
    yield "placement", torch.tensor(measure(head_points))
    yield "rank", rank_by_frame(depth, path)
    geometry = exact_gga_geometry(clip, depth, path)
    yield "GGA queries", geometry.query_dirs
    yield "GGA keys", geometry.key_dirs
    hands = clip.take.hands.select(torch.tensor(clip.indices))
    yield "hands", torch.cat([joint_part.flatten() for joint_part in hands.in_head(path)])
    for name, column in episode_columns(clip.exo, ego_prior.rgb, depth, path, hands).items():
        yield name, torch.as_tensor(np.array(column)).double()
    viewer_settings = viewer_camera(path)
    yield (
        "viewer",
        torch.tensor(
            [
                *viewer_settings["position"].values(),
                viewer_settings["fov"],
                viewer_settings["aspect"],
            ]
        ),
    )
    quaternion = torch.tensor(list(viewer_settings["quaternion"].values())).double()
    yield "viewer's turn", quaternion * quaternion[3].sign()


@cache
def true_results(clip: Clip) -> Mapping[str, Any]:
    """Compute the true value of every result."""
    true_values = dict(later_results(clip, *reference_result(clip)))
    # Independently of the code: hands, cameras in the columns, the viewer.
    exo_c2w = relative_poses(torch.eye(3, 4).double().expand(CLIP_FRAMES, 3, 4), clip.exo_w2c)
    head_from_exo = relative_poses(clip.ego.upright_poses(clip.ego_w2c), clip.exo_w2c)
    joints = clip.take.hands.joints[clip.indices].flatten(1, 2)
    joints = joints @ head_from_exo[:, :, :3].mT + head_from_exo[:, None, :, 3]
    true_values["hands"] = torch.cat((joints.flatten(), true_values["hands"][joints.numel() :]))
    true_values["egox.exo_K"] = torch.tensor(clip.intrinsics()).flatten().expand(CLIP_FRAMES, 9)
    true_values["egox.exo_c2w"] = torch.cat(
        (exo_c2w.flatten(1), torch.tensor([[0.0, 0, 0, 1]]).double().expand(CLIP_FRAMES, 4)), 1
    )
    opengl_flip = torch.tensor([1.0, -1, -1]).double()
    first_head_pose = relative_poses(torch.eye(3, 4).double()[None], head_from_exo[:1])[0]
    viewer_rotation = opengl_flip[:, None] * first_head_pose[:, :3] * opengl_flip
    true_values["viewer's turn"] = rotation_as_quaternion(viewer_rotation)
    true_values["viewer"] = torch.cat(
        (opengl_flip * first_head_pose[:, 3], true_values["viewer"].double()[3:])
    )
    return true_values


def rotation_as_quaternion(rotation: Tensor) -> Tensor:  # [3, 3] -> x y z w, w >= 0
    w_component = math.sqrt(max(0.0, 1 + float(rotation.trace()))) / 2
    axis_components = torch.stack(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    return torch.cat((axis_components / (4 * w_component), torch.tensor([w_component]).double()))


def largest_difference(first_values: Tensor, second_values: Tensor) -> float:
    assert first_values.shape == second_values.shape
    assert torch.equal(first_values.isnan(), second_values.isnan())
    return float((first_values.double() - second_values.double()).nan_to_num().abs().max())


def decibels(first_image: Tensor, second_image: Tensor) -> float:
    return -10 * math.log10(float((first_image - second_image).square().mean()) + 1e-12)


def check_cameras(clip: Clip, result: DepthAndPath, pose_tolerance: float) -> None:
    lens, expected_k = result.depth.exo.camera, torch.tensor(clip.intrinsics())
    x_scale, y_scale = (
        side / stored_side
        for side, stored_side in zip(clip.picture.size, lens.stored_size, strict=True)
    )
    centre = (lens.cx + 0.5) * x_scale - 0.5, (lens.cy + 0.5) * y_scale - 0.5
    result_intrinsics = torch.tensor(
        [lens.fx * x_scale, lens.fy * y_scale, *centre], dtype=torch.float64
    )
    assert (
        largest_difference(
            result_intrinsics,
            torch.stack([expected_k[0, 0], expected_k[1, 1], expected_k[0, 2], expected_k[1, 2]]),
        )
        < 1e-6
    )
    assert largest_difference(result.depth.exo.poses(CLIP_FRAMES), clip.exo_w2c) < pose_tolerance
    path_exo_w2c = result.path.required_exo.poses(CLIP_FRAMES)
    ego_from_exo = relative_poses(result.path.ego.w2c, path_exo_w2c)
    assert (
        largest_difference(ego_from_exo, relative_poses(clip.ego_w2c, clip.exo_w2c))
        < 3 * pose_tolerance
    )
    assert largest_difference(result.path.ego.frames.times_s, clip.frames.times_s) < 1e-9
    assert result.path.ego.camera == clip.ego


def check_later_results(clip: Clip, result: DepthAndPath) -> None:
    expected_values = true_results(clip)
    for name, value in later_results(clip, *result):
        if name == "prior":
            assert decibels(value, expected_values[name]) > 60, name
        else:
            assert largest_difference(value, expected_values[name]) < 1e-5, name


@cache
def true_second_eye(clip: Clip) -> Tensor:
    return make_second_eye(clip, *reference_result(clip)).rgb


def check_second_eye(clip: Clip, result: DepthAndPath) -> None:
    assert decibels(make_second_eye(clip, *result).rgb, true_second_eye(clip)) > 60
