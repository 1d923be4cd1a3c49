"""Camera paths for Blender and NeRF tools: transforms.json with one c2w a frame in OpenGL axes (y up, z backward).

The layout is the common one of NeRF data sets: ``fl_x``, ``cx``, ``w``, ``frames[].transform_matrix``. Cameras are
upright, as in COLMAP files; the Aria lens is written as OpenCV fisheye fitted to it, and the exact camera beside it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .cameras import CameraModel, camera_to_json, upright_camera
from .colmap_files import upright_poses
from .lens_models import angle_limit, split_distortion
from .poses import invert
from .safe_files import write_json
from .types import CameraTrajectory

OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))


def write_blender(path: Path, trajectory: CameraTrajectory, name: str = "frame_{:06d}.png") -> None:
    """Write transforms.json, whole or not at all."""
    camera = upright_camera(trajectory.camera)
    content: dict[str, object] = {
        "camera_model": "PINHOLE" if camera.lens == "pinhole" else "OPENCV_FISHEYE",
        "camera_angle_x": 2 * math.atan(camera.width / 2 / camera.fx),
        "w": camera.width, "h": camera.height, "fl_x": camera.fx, "fl_y": camera.fy,
        # These tools count pixel edges from 0, so a centre lies half a pixel further.
        "cx": camera.cx + 0.5, "cy": camera.cy + 0.5,
        "egox_camera": camera_to_json(camera),
    }
    if camera.lens != "pinhole":
        content |= dict(zip(("k1", "k2", "k3", "k4"), fisheye_fit(camera), strict=True))
    matrices = opengl_c2w(upright_poses(trajectory))
    content["frames"] = [
        {"file_path": name.format(i), "time": float(t), "transform_matrix": matrix.tolist()}
        for i, (t, matrix) in enumerate(zip(trajectory.times_s.tolist(), matrices, strict=True))]
    write_json(path, content)


def opengl_c2w(w2c: Tensor) -> Tensor:
    """[T, 4, 4] world_from_camera with OpenGL axes in both frames, of w2c [T, 3, 4] with OpenCV axes in both."""
    c2w = invert(w2c.double())
    flip = OPENGL_FROM_OPENCV
    top = torch.cat((flip @ c2w[..., :3] @ flip, flip @ c2w[..., 3:]), dim=-1)
    bottom = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(len(w2c), 1, 4)
    return torch.cat((top, bottom), dim=1)


def fisheye_fit(camera: CameraModel) -> list[float]:
    """k1...k4 of the OpenCV fisheye closest to a fisheye camera's radial part (least squares over its angles)."""
    radial, _ = split_distortion(camera.distortion)
    if len(radial) == 4:
        return list(radial)
    theta = np.linspace(0.02, angle_limit(radial, math.radians(camera.max_angle_deg)), 400)
    excess = sum(k * theta ** (2 * i + 3) for i, k in enumerate(radial)) if radial else np.zeros_like(theta)
    powers = np.stack([theta ** (2 * i + 3) for i in range(4)], axis=-1)
    return np.linalg.lstsq(powers, excess, rcond=None)[0].tolist()
