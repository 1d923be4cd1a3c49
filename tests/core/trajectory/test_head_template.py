"""Test the template of a head's lengths, and the camera's position on the head."""

import numpy as np
import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, invert
from egox_core.cameras.presets import preset_camera
from egox_core.frames import Frames
from egox_core.trajectory.head_pose import HeadPath, HeadReport
from egox_core.trajectory.head_template import (
    GLASSES,
    GLASSES_PITCH_DEG,
    ego_from_head,
)
from tests.refusals import refuses


def test_glasses_camera_agrees_with_aria_calibration():
    calibration = pytest.importorskip("projectaria_tools.core.calibration")
    poses = []
    for frame_size in ("DVT-S", "DVT-L"):
        cad_extrinsics = calibration.DeviceCadExtrinsics(
            calibration.DeviceVersion.Gen1, frame_size, "camera-slam-left"
        )
        aria_device = calibration.DeviceCalibration(
            device_cad_extrinsics=cad_extrinsics,
            device_subtype=frame_size,
            origin_label="camera-slam-left",
            device_version=calibration.DeviceVersion.Gen1,
        )
        poses.append(aria_device.get_transform_cpf_sensor("camera-rgb", True).to_matrix())
    mean_pose = np.mean(poses, axis=0)  # central pupil frame: x left, y up, z forward
    head_from_cpf = np.diag([-1.0, -1.0, 1.0])
    camera_pose = invert(ego_from_head(1)).numpy()
    assert np.allclose(camera_pose[:, 3], head_from_cpf @ mean_pose[:3, 3], atol=2e-4)
    assert np.allclose(camera_pose[:, :3], head_from_cpf @ mean_pose[:3, :3], atol=2e-3)


@pytest.mark.parametrize("quarter_turns", [0, 1])
def test_camera_is_mounted_on_the_head(quarter_turns):
    """Check the position and direction of the ego camera on the head for both sensor
    orientations."""
    camera = preset_camera("aria_released" if quarter_turns else "pinhole", 64)
    head_pose = torch.eye(3, 4, dtype=torch.float64)[None].clone()
    head_pose[0, :, 3] = torch.tensor([1.0, 2.0, 3.0])
    head_path = HeadPath(
        world_from_head=head_pose, up=torch.zeros(3), report=HeadReport(seen=("face",))
    )
    ego_trajectory = head_path.trajectory(
        camera,
        Frames.of_count(1),
        exo=CameraPath.of_exo(None),
        offset=(0.01, -0.02, 0.1),
        pitch_deg=30.0 - GLASSES_PITCH_DEG,
    )
    assert camera.quarter_turns == quarter_turns
    torch.testing.assert_close(
        camera_centre(ego_trajectory.ego.w2c)[0],
        torch.tensor([1.01, 1.98, 3.1]).double() + torch.tensor(GLASSES),
    )
    forward_direction = ego_trajectory.ego.w2c[0, 2, :3]
    assert float(forward_direction[1]) == pytest.approx(-0.5) and float(
        forward_direction[2]
    ) == pytest.approx(np.cos(np.radians(30)))


@pytest.mark.parametrize("mount", [((0.0, 0.0, 57.0), 0.0), ((0.0, 0.0, 0.0), float("nan"))])
def test_impossible_camera_mounts_are_refused(mount):
    with refuses("mount"):
        ego_from_head(0, *mount)
