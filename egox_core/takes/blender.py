"""Camera paths for Blender and NeRF tools: transforms.json with one c2w a frame in OpenGL axes (y up, z backward).

The layout is the common one of NeRF data sets: ``fl_x``, ``cx``, ``w``, ``frames[].transform_matrix``. Cameras are
upright, as in COLMAP files; the Aria lens is written as OpenCV fisheye fitted to it, and the exact camera beside it.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from ..cameras.lenses import LENSES, PINHOLE
from ..cameras.model import CameraModel, camera_from_json, camera_to_json, upright_camera
from ..errors import EgoXInputError
from ..safe_files import write_json
from ..trajectory.poses import invert, validate_w2c
from ..types import CameraTrajectory
from .colmap import upright_poses

OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))


def write_blender(path: Path, trajectory: CameraTrajectory, name: str = "frame_{:06d}.png") -> None:
    """Write transforms.json, whole or not at all."""
    camera = upright_camera(trajectory.camera)
    lens = LENSES[camera.lens]
    content: dict[str, object] = {
        "camera_model": lens.blender,
        "camera_angle_x": 2 * math.atan(camera.width / 2 / camera.fx),
        "w": camera.width, "h": camera.height, "fl_x": camera.fx, "fl_y": camera.fy,
        # These tools count pixel edges from 0, so a centre lies half a pixel further.
        "cx": camera.cx + 0.5, "cy": camera.cy + 0.5,
        "egox_camera": camera_to_json(camera),
    }
    distortion = camera.distortion or (0.0,) * lens.distortion_count
    numbers = lens.blender_numbers(distortion, math.radians(camera.max_angle_deg))
    content |= dict(zip(lens.blender_keys, numbers, strict=True))
    matrices = opengl_c2w(upright_poses(trajectory))
    content["frames"] = [
        {"file_path": name.format(i), "time": float(t), "transform_matrix": matrix.tolist()}
        for i, (t, matrix) in enumerate(zip(trajectory.times_s.tolist(), matrices, strict=True))]
    write_json(path, content)


def opengl_c2w(
    w2c: Tensor,  # [T, 3, 4] with OpenCV axes in both frames
) -> Tensor:  # [T, 4, 4]
    """world_from_camera with OpenGL axes in both frames."""
    c2w = invert(w2c.double())
    flip = OPENGL_FROM_OPENCV
    top = torch.cat((flip @ c2w[..., :3] @ flip, flip @ c2w[..., 3:]), dim=-1)
    bottom = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(len(w2c), 1, 4)
    return torch.cat((top, bottom), dim=1)


def read_blender(content: dict, name: str) -> tuple[CameraModel, Tensor, Tensor | None]:
    """(camera, w2c [T, 3, 4] with OpenCV axes, times_s [T] or None) of a parsed transforms.json; the camera is upright.

    Raises:
        EgoXInputError: no frames, a matrix that is no pose, no focal length, an unknown lens.
    """
    frames = content.get("frames")
    try:
        matrices = torch.tensor([f["transform_matrix"] for f in frames], dtype=torch.float64)
        times = [f.get("time") for f in frames]
        if "egox_camera" in content:
            camera = camera_from_json(content["egox_camera"], f"egox_camera of {name}")
        else:
            camera = _camera_of(content)
        times_s = torch.tensor(times, dtype=torch.float64) if times and None not in times else None
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise EgoXInputError(f"transforms file {name}", got=f"{type(error).__name__}: {error}",
                             expected="frames with a transform_matrix 4x4, fl_x (or camera_angle_x), w and h",
                             fix="export the camera again") from error
    c2w = validate_w2c(matrices, f"transform_matrix of {name}")
    flip = OPENGL_FROM_OPENCV
    return camera, invert(torch.cat((flip @ c2w[..., :3] @ flip, flip @ c2w[..., 3:]), dim=-1)), times_s


def _camera_of(content: dict) -> CameraModel:
    width, height = int(content["w"]), int(content["h"])
    fx = float(content.get("fl_x") or width / 2 / math.tan(float(content["camera_angle_x"]) / 2))
    model = content.get("camera_model")
    lens = next((name for name, entry in LENSES.items() if entry.blender == model), PINHOLE)  # most files name none
    return CameraModel(lens=lens, width=width, height=height, fx=fx, fy=float(content.get("fl_y") or fx),
                       cx=float(content.get("cx", width / 2)) - 0.5, cy=float(content.get("cy", height / 2)) - 0.5,
                       distortion=tuple(float(content.get(key, 0.0)) for key in LENSES[lens].blender_keys))
