"""Camera paths for Blender and NeRF tools: transforms.json with one c2w per frame in OpenGL axes (y
up, z backward).

The layout is the common one of NeRF data sets: ``fl_x``, ``cx``, ``w``,
``frames[].transform_matrix``. Cameras are upright, as in COLMAP files; the Aria lens is written
as OpenCV fisheye fitted to it, and the exact camera beside it."""

import math
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arrays import as_matrix
from ..cameras import LENSES, CameraModel, CameraPath, invert, one_camera, validate_w2c
from ..errors import NO_NUMBERS, EgoXInputError, intact
from ..safe_files import write_json
from ..sizes import MAX_SIDE

FORM = "frames with a transform_matrix 4x4, fl_x (or camera_angle_x), w and h"
FISHEYE = "OPENCV_FISHEYE"
DISTORTION = re.compile(r"[kpsb]\d+|(ftheta|distortion|equirect|latlong|ortho|skew).*")
"""Keys of a lens' own numbers and kinds, in the words of all programs that write the form."""
ROUNDED = 4e-3
"""Largest difference of R Rt from 1 where R has three digits behind the point."""
SIGNS = torch.tensor([[1.0, -1, -1, 1], [-1, 1, 1, -1], [-1, 1, 1, -1]], dtype=torch.float64)
"""Of a c2w [3, 4] when both its frames change from OpenCV's axes to OpenGL's, or back."""


def write_blender(file: Path, path: CameraPath) -> None:
    """Write transforms.json, whole or not at all."""
    camera = path.camera.upright()
    lens = LENSES[camera.lens]
    content: dict[str, object] = {
        "camera_model": lens.blender,
        "camera_angle_x": 2 * math.atan(camera.width / 2 / camera.fx),
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        # These tools count pixel edges from 0, so a centre lies half a pixel further.
        "cx": camera.cx + 0.5,
        "cy": camera.cy + 0.5,
        "egox_camera": camera.to_json(),
    }
    distortion = camera.distortion or (0.0,) * lens.distortion_count
    if lens.blender_fit is not None:
        distortion = lens.blender_fit(distortion, math.radians(camera.max_angle_deg))
    content |= dict(zip(lens.blender_keys, distortion, strict=True))
    matrices = opengl_c2w(path.upright_w2c)
    content["frames"] = [
        {"file_path": f"frame_{i:06d}.png", "time": float(t), "transform_matrix": matrix.tolist()}
        for i, (t, matrix) in enumerate(zip(path.frames.times_s.tolist(), matrices, strict=True))
    ]
    write_json(file, content)


def opengl_c2w(
    w2c: Tensor,  # [T, 3, 4] with OpenCV axes in both frames
) -> Tensor:  # [T, 4, 4]
    """Convert poses to world_from_camera with OpenGL axes in both frames."""
    top = SIGNS * invert(w2c.double()) + 0.0  # no "-0.0"
    bottom = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(len(w2c), 1, 4)
    return torch.cat((top, bottom), dim=1)


def read_blender(content: dict, name: str) -> Tensor:  # [T, 3, 4]
    """Read the w2c poses of a parsed transforms.json, with OpenCV's axes, upright.

    Raises:
        EgoXInputError: no frames, a matrix that is no pose.
    """
    matrices = [f.get("transform_matrix") for f in _frames(content, name)]
    return invert(SIGNS * _rigid(matrices, f"transform_matrix of {name}"))


def blender_times(content: dict, name: str) -> Tensor | None:  # [T] float64
    """Read the times of a parsed transforms.json, None if a frame has none.

    Raises:
        EgoXInputError: times that are no numbers.
    """
    times = [f.get("time") for f in _frames(content, name)]
    with intact(
        f"time of {name}",
        NO_NUMBERS,
        expected="one number per frame",
        fix="export the camera again",
    ):
        known_times = [float(time) for time in times if time is not None]
        complete = len(known_times) == len(times)
        return torch.tensor(known_times, dtype=torch.float64) if complete else None


def _rigid(matrices: list[object], what: str) -> Tensor:  # [T, 3, 4]
    """Turn matrices into poses, with the nearest rotations for those that were written with three
    digits."""
    try:
        return validate_w2c(matrices, what)
    except EgoXInputError:
        c2w = as_matrix(matrices, what, FORM)
        rotations = c2w[..., :3, :3]
        if rotations.shape[-2:] != (3, 3) or not (rotations.abs() <= 2).all():
            raise
        deviations = rotations @ rotations.mT - torch.eye(3, dtype=torch.float64)
        if float(deviations.abs().max()) > ROUNDED:
            raise
        u, _, vh = torch.linalg.svd(rotations)
        c2w = c2w.clone()
        c2w[..., :3, :3] = u @ vh
        return validate_w2c(c2w, what)


def blender_camera(content: dict, name: str) -> CameraModel:
    """Read the camera of a parsed transforms.json, in which a frame's keys go before those of the
    file.

    Raises:
        EgoXInputError: no focal length, a lens or distortion that isn't known, another one per frame.
    """
    if "egox_camera" in content:
        return CameraModel.from_json(content["egox_camera"], f"egox_camera of {name}")
    file_label = f"transforms file {name}"
    return one_camera(
        [_camera_of(content | frame, file_label) for frame in _frames(content, name)], file_label
    )


def _frames(content: dict, name: str) -> list[dict]:
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise EgoXInputError(
            f"transforms file {name}",
            got="no list of objects under frames",
            expected=FORM,
            fix="export the camera again",
        )
    return frames


def _lens_of(content: dict, what: str) -> str:
    """Find the key of LENSES for a file's words, and check that the distortion which it gives is
    that lens'."""
    distortion_keys = {
        key for key, value in content.items() if DISTORTION.fullmatch(key) and np.any(value)
    }
    exact_lenses = {e.blender: name for name, e in LENSES.items() if e.blender_fit is None}
    lenses = {model: name for name, e in LENSES.items() for model in e.simpler} | exact_lenses
    default_model = FISHEYE if content.get("is_fisheye") else "PINHOLE"
    model = content.get("camera_model") or default_model
    if distortion_keys and model in ("PINHOLE", "SIMPLE_PINHOLE"):
        model = "OPENCV"  # as other readers take it
    lens = lenses.get(str(model))
    contradicts = content.get("is_fisheye") and lens != lenses[FISHEYE]
    if lens is None or contradicts or not distortion_keys <= {*LENSES[lens].blender_keys}:
        lens_words = (f"{word} ({' '.join(LENSES[lenses[word]].blender_keys)})" for word in lenses)
        fisheye_text = " and is_fisheye" if contradicts else ""
        raise EgoXInputError(
            what,
            got=f"camera_model {model}{fisheye_text}, distortion {sorted(distortion_keys)}",
            expected=f"a lens of {', '.join(sorted(lens_words))}",
            fix="undistort the images, or give stages.path a camera",
        )
    return lens


def _camera_of(content: dict, what: str) -> CameraModel:
    def number(key: str, default: float) -> float:
        with intact(f"{key} of {what}", NO_NUMBERS, expected=FORM, fix="export the camera again"):
            return float(content.get(key, default))

    width, height = number("w", 0), number("h", 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise EgoXInputError(
            what, got=f"w {width:g} and h {height:g}", expected=FORM, fix="export the camera again"
        )
    angle, lens = number("camera_angle_x", 0), _lens_of(content, what)
    by_angle = width / 2 / math.tan(angle / 2) if 0 < angle < math.pi else 0.0
    fx = number("fl_x", 0) or by_angle
    return CameraModel(
        lens=lens,
        width=int(width),
        height=int(height),
        fx=fx,
        fy=number("fl_y", 0) or fx,
        cx=number("cx", width / 2) - 0.5,
        cy=number("cy", height / 2) - 0.5,
        distortion=tuple(number(key, 0.0) for key in LENSES[lens].blender_keys),
    )
