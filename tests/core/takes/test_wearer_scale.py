"""Test the metric scale measured on the wearer's body, and refused pose sources."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel, sensor_from_upright
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import compose, look_at
from egox_core.cameras.presets import preset_camera
from egox_core.takes.body_scale import MODEL_ERROR, wearer_scale
from egox_core.takes.metric_scale import with_scale
from egox_core.takes.wearer_body import (
    HEAD_FROM_CAMERA,
    TRUNK_TO,
    face_from_camera,
    head_depth,
    trunk_depth,
)
from egox_core.types import FROM_HEAD_KEYPOINTS, DepthVideo
from tests.poses import replace_exo_pose
from tests.refusals import refuses

CAMERA = CameraModel.pinhole(320, 240, 480)
UP = (0.0, 0.0, 1.0)
FRAME_COUNT, WALL_M = 6, 7.0
# Pitched, as on a tripod; so far off that from chin to chest no depth step breaks the body in two.
EXO_W2C = look_at((0.0, -4.5, 2.4), (0.0, 0.0, 1.2), UP)


def ego_w2c(frame: int) -> torch.Tensor:
    """Compute the pose [3, 4] of a wearer's camera that looks down past the exo camera."""
    upright_w2c = look_at((0.02 * frame, 0.0, 1.55), (0.6, -1.0, 0.9 + 0.03 * frame), UP)
    sensor_rotation = torch.cat(
        (sensor_from_upright(1), torch.zeros(3, 1, dtype=torch.float64)), dim=1
    )
    return compose(sensor_rotation, upright_w2c)


@pytest.fixture(scope="module")
def depth() -> DepthVideo:
    """Draw exact depth of a body in front of a wall."""
    rays, _ = CAMERA.pixel_rays(torch.float64)
    rays = (rays / rays[..., 2:]).numpy()
    depth_maps = []
    down_direction = (EXO_W2C[:, :3] @ torch.tensor([0.0, 0, -1], dtype=torch.float64)).numpy()
    for frame in range(FRAME_COUNT):
        ego_pose = ego_w2c(frame)
        exo_from_face = (EXO_W2C[:, :3] @ ego_pose[:, :3].T).numpy() @ face_from_camera(1).T
        eye_position = (
            EXO_W2C[:, :3] @ (-ego_pose[:, :3].T @ ego_pose[:, 3]) + EXO_W2C[:, 3]
        ).numpy()
        head_centre = eye_position + exo_from_face @ HEAD_FROM_CAMERA
        head_depth_m, _ = head_depth(rays, head_centre, exo_from_face)
        trunk_depth_m, _, trunk_drop = trunk_depth(rays, head_centre, down_direction)
        trunk_depth_m = np.where(
            np.isnan(head_depth_m) & (trunk_drop > 0) & (trunk_drop < TRUNK_TO),
            trunk_depth_m,
            np.nan,
        )
        wall_depth = 8.5 / (rays @ EXO_W2C[:, 1].numpy())  # it stands 8.5 m off the camera
        depth_maps.append(np.fmin(np.fmin(head_depth_m, trunk_depth_m), wall_depth))
    return DepthVideo(
        depth_m=torch.from_numpy(np.stack(depth_maps)).float(),
        exo=CameraPath.of_exo(CAMERA, EXO_W2C),
    )


@pytest.fixture(scope="module")
def path() -> CameraPath:
    poses = torch.stack([ego_w2c(t) for t in range(FRAME_COUNT)])
    return CameraPath(lens=preset_camera("aria_released", 448), w2c=poses, world="take")


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_scale_is_measured_on_a_body(depth, path, factor):
    scale_estimate = wearer_scale(replace(depth, depth_m=depth.depth_m / factor), path)
    # The surfaces are the assumed ones, so what the wearer says is exact but for float32 depth.
    assert scale_estimate.wearer == pytest.approx(factor, rel=1e-3)
    assert (
        scale_estimate.seen == scale_estimate.frames == FRAME_COUNT
        and scale_estimate.spread_frames < 1e-3
        and "head and" in scale_estimate.cue
    )
    # Held against the model's own word: between it and 1, nearer to the wearer's as its error is
    # smaller.
    wearer_weight = (
        np.log(scale_estimate.scale) / np.log(scale_estimate.wearer) if factor != 1 else 1.0
    )
    assert 0.5 < wearer_weight <= 1
    assert scale_estimate.sigma < MODEL_ERROR
    assert (
        scale_estimate.content()["scale"] == round(scale_estimate.scale, 4)
        and f"{scale_estimate.scale:.3f}" in scale_estimate.text()
    )


def test_objects_before_the_body_do_not_change_the_scale(depth, path):
    """Check that the measured scale is unchanged if a table hides the legs or a mask bounds the
    wearer."""
    hidden_depth = depth.depth_m.clone()
    hidden_depth[:, 135:] = 0.8
    assert wearer_scale(replace(depth, depth_m=hidden_depth), path).wearer == pytest.approx(
        1.0, rel=0.03
    )
    wearer_mask = torch.zeros(depth.depth_m.shape, dtype=torch.bool)
    wearer_mask[:, :130] = depth.depth_m[:, :130] < WALL_M
    scale_estimate = wearer_scale(
        replace(depth, depth_m=depth.depth_m / 1.2, dynamic=wearer_mask), path
    )
    assert scale_estimate.wearer == pytest.approx(1.2, rel=1e-3)
    assert sum(np.isfinite(scale_estimate.parts)) < sum(
        np.isfinite(wearer_scale(depth, path).parts)
    )


def test_poses_of_unmeasured_scale_are_refused(depth, path):
    for pose in (None, torch.eye(3, 4, dtype=torch.float64)):
        with refuses("exo camera's own frame"):
            wearer_scale(replace_exo_pose(depth, pose), path)
    with refuses("no tracker"):
        wearer_scale(
            depth, replace(path, w2c=path.poses(FRAME_COUNT)[:1].repeat(FRAME_COUNT, 1, 1))
        )
    for pose_source in ("pose editor", FROM_HEAD_KEYPOINTS):
        with refuses(pose_source):
            with_scale(depth, "wearer", path, pose_source=pose_source)
    # Poses of head keypoints are brought together with the trunk where exact asks for it.
    _, report = with_scale(depth, "wearer where seen", path, pose_source=FROM_HEAD_KEYPOINTS)
    assert report.wearer is not None
    with refuses("ego_extrinsics"):
        with_scale(depth, "wearer", None)
    distant_path = replace(path, w2c=path.w2c + 50 * torch.tensor([0, 0, 0, 1]))
    with refuses(f"head in 0 of {FRAME_COUNT} frames"):
        wearer_scale(depth, distant_path)


def test_chosen_scale_is_applied_and_reported(depth, path):
    unscaled_depth, report = with_scale(depth, "as is", path)
    assert unscaled_depth is depth
    assert report.content()["source"] == "as is"
    doubled_depth, report = with_scale(depth, 2.0, None)
    assert torch.equal(doubled_depth.depth_m, depth.depth_m * 2) and report.content() == {
        "source": "number",
        "scale": 2.0,
        "note": "scale 2, as given",
    }
    scaled_depth, report = with_scale(replace(depth, depth_m=depth.depth_m / 1.4), "wearer", path)
    assert report.wearer is not None and torch.allclose(
        scaled_depth.depth_m, depth.depth_m / 1.4 * report.scale, rtol=1e-6
    )
    unscaled_depth, report = with_scale(replace_exo_pose(depth, None), "wearer where seen", path)
    assert (
        report.scale == 1
        and "own frame" in report.text()
        and torch.equal(unscaled_depth.depth_m, depth.depth_m)
    )
