"""Read and write camera poses as transforms.json, the format of Blender and NeRF tools.

It has one c2w per frame in OpenGL axes (y up, z backward).

The layout is the common one of NeRF data sets: ``fl_x``, ``cx``, ``w``,
``frames[].transform_matrix``. Cameras are upright, as in COLMAP files; the Aria lens is written
as OpenCV fisheye fitted to it, and the exact camera beside it."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arrays import as_matrix
from ..cameras import LENSES, CameraModel, CameraPath, invert, one_camera, validate_w2c
from ..errors import NO_NUMBERS, EgoXInputError, intact
from ..facts import UNITS_M, StatedPoses, Statement, unread_fields
from ..remarks import Remark
from ..safe_files import write_json
from ..sizes import MAX_SIDE

FORM = "frames with a transform_matrix 4x4, fl_x (or camera_angle_x), w and h"
FISHEYE = "OPENCV_FISHEYE"
DISTORTION = re.compile(r"[kpsb]\d+|(ftheta|distortion|equirect|latlong|ortho|skew).*")
"""Keys of a lens' own numbers and kinds, in the words of all programs that write the form."""
MAX_ROTATION_ERROR = 4e-3
"""Largest difference of R Rt from 1 where R has three digits behind the point."""
MAX_BREATH = 1.05
"""Ratio of focal lengths of one lens that focuses anew, judged. More is a zoom."""
READ_FIELDS = frozenset(
    (
        "camera_model camera_angle_x camera_angle_y w h fl_x fl_y cx cy is_fisheye egox_camera "
        "frames file_path time transform_matrix "
        "applied_transform applied_scale camera_convention units unit "
        # of pictures and points, for which nobody asks here
        "ply_file_path mask_path depth_file_path colmap_im_id aabb_scale sharpness"
    ).split()
)
"""Fields of a file and of its frames that a reader takes, or that say nothing of its cameras."""
POSE_FIELDS = frozenset(("file_path", "time", "transform_matrix"))
"""Fields of a frame that say nothing of its lens."""
CONVENTIONS = {"opencv": "opencv", "opengl": "opengl", "blender": "opengl", "nerf": "opengl"}
"""Axes by the words of ``camera_convention``."""
SIGNS = torch.tensor([[1.0, -1, -1, 1], [-1, 1, 1, -1], [-1, 1, 1, -1]], dtype=torch.float64)
"""Of a c2w [3, 4] when both its frames change from OpenCV's axes to OpenGL's, or back."""


def write_blender(file: Path, path: CameraPath) -> None:
    """Write a camera path as transforms.json, complete or not at all."""
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
        {
            "file_path": f"frame_{number:06d}.png",
            "time": float(time_s),
            "transform_matrix": matrix.tolist(),
        }
        for number, (time_s, matrix) in enumerate(
            zip(path.frames.times_s.tolist(), matrices, strict=True)
        )
    ]
    write_json(file, content)


def opengl_c2w(
    w2c: Tensor,  # [T, 3, 4] with OpenCV axes in both frames
) -> Tensor:  # [T, 4, 4]
    """Convert w2c poses to world_from_camera with OpenGL axes in both frames."""
    first_rows = SIGNS * invert(w2c.double()) + 0.0  # no "-0.0"
    last_row = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(len(w2c), 1, 4)
    return torch.cat((first_rows, last_row), dim=1)


def read_blender(content: dict, name: str) -> StatedPoses:
    """Read the poses of a parsed transforms.json as it states them.

    Its cameras have OpenGL's axes. Our own exports, Blender's and most tools' turn the world with
    them; nerfstudio, which writes ``applied_transform``, leaves it as stored.

    ``applied_scale`` is the factor by which its places were multiplied.

    Raises:
        EgoXInputError: no frames, a matrix that is no pose.
    """
    matrices = [frame.get("transform_matrix") for frame in _frames(content, name)]
    return StatedPoses(
        name=name,
        poses=_to_rigid_poses(matrices, f"transform_matrix of {name}"),
        camera_to_world=True,
        axes="opengl",
        statements=_statements(content, name),
        applied_scale=_applied_scale(content),
    )


def _statements(content: dict, name: str) -> tuple[Statement, ...]:
    """List what the file states of its unit and axes, for whichever camera it is read."""
    stated_values: list[tuple[str, object, str]] = []
    convention = CONVENTIONS.get(str(content.get("camera_convention")).lower())
    if convention is not None:
        stated_values.append(("axes", convention, "camera_convention"))
    if "applied_transform" in content and "egox_camera" not in content:
        stated_values.append(("world_axes", "stored", "applied_transform"))
    unit_keys = [key for key in ("units", "unit") if str(content.get(key)).lower() in UNITS_M]
    unit_m = UNITS_M[str(content[unit_keys[0]]).lower()] if unit_keys else 1.0
    if "applied_scale" in content:
        unit_keys.append("applied_scale")
        unit_m /= _applied_scale(content)
    if unit_keys:
        stated_values.append(("unit", unit_m, " and ".join(unit_keys)))
    return tuple(Statement(fact, value, f"{key} of {name}") for fact, value, key in stated_values)


def _applied_scale(content: dict) -> float:
    scale = content.get("applied_scale")
    return float(scale) if isinstance(scale, int | float) and 0 < scale < math.inf else 1.0


def unread_remarks(content: dict, name: str) -> tuple[Remark, ...]:
    """Name the fields of a transforms.json that no reader takes, and a lens that breathes."""
    frames = _frames(content, name)
    fields = {*content}.union(*frames) - READ_FIELDS
    if str(content.get("camera_convention", "opengl")).lower() not in CONVENTIONS:
        fields.add("camera_convention")
    remarks = unread_fields((key for key in fields if not DISTORTION.fullmatch(key)), name)
    focal_lengths = [frame["fl_x"] for frame in frames if isinstance(frame.get("fl_x"), float)]
    if focal_lengths and max(focal_lengths) > 1.01 * min(focal_lengths):
        span = f"{min(focal_lengths):g} to {max(focal_lengths):g}"
        remarks = (*remarks, Remark(f"{name}: fl_x from {span} px, of which the median is used"))
    return remarks


def blender_times(content: dict, name: str) -> Tensor | None:  # [T] float64
    """Read the times of a parsed transforms.json, or return None if a frame has none.

    Raises:
        EgoXInputError: times that are no numbers.
    """
    times = [frame.get("time") for frame in _frames(content, name)]
    with intact(
        f"time of {name}",
        NO_NUMBERS,
        expected="one number per frame",
        fix="export the camera again",
    ):
        known_times = [float(time) for time in times if time is not None]
        is_complete = len(known_times) == len(times)
        return torch.tensor(known_times, dtype=torch.float64) if is_complete else None


def _to_rigid_poses(matrices: list[object], label: str) -> Tensor:  # [T, 3, 4]
    """Convert matrices to poses, replacing rotations that were rounded to three digits by the
    nearest true rotations."""
    try:
        return validate_w2c(matrices, label)
    except EgoXInputError:
        c2w = as_matrix(matrices, label, FORM)
        rotations = c2w[..., :3, :3]
        if rotations.shape[-2:] != (3, 3) or not (rotations.abs() <= 2).all():
            raise
        deviations = rotations @ rotations.mT - torch.eye(3, dtype=torch.float64)
        if float(deviations.abs().max()) > MAX_ROTATION_ERROR:
            raise
        left_vectors, _, right_vectors = torch.linalg.svd(rotations)
        c2w = c2w.clone()
        c2w[..., :3, :3] = left_vectors @ right_vectors
        return validate_w2c(c2w, label)


def blender_camera(content: dict, name: str) -> CameraModel:
    """Read the camera of a parsed transforms.json, where the keys of a frame override those of the
    file.

    Raises:
        EgoXInputError: no focal length, a lens or distortion that isn't known, another one per
            frame.
    """
    if "egox_camera" in content:
        return CameraModel.from_json(content["egox_camera"], f"egox_camera of {name}")
    file_label = f"transforms file {name}"
    frames = _frames(content, name)
    if not any(frame.keys() - POSE_FIELDS for frame in frames):
        frames = frames[:1]  # all have the file's own
    cameras = [_camera_of(content | frame, file_label) for frame in frames]
    cameras.sort(key=lambda camera: camera.fx)
    if len({camera.fx for camera in cameras}) > 1 and cameras[-1].fx <= MAX_BREATH * cameras[0].fx:
        median = cameras[len(cameras) // 2]
        cameras = [replace(camera, fx=median.fx, fy=median.fy) for camera in cameras]
        cameras.insert(0, median)
    return one_camera(cameras, file_label)


def _frames(content: dict, name: str) -> list[dict]:
    frames = content.get("frames")
    if (
        not isinstance(frames, list)
        or not frames
        or not all(isinstance(frame, dict) for frame in frames)
    ):
        raise EgoXInputError(
            f"transforms file {name}",
            got="no list of objects under frames",
            expected=FORM,
            fix="export the camera again",
        )
    return frames


def _lens_of(content: dict, label: str) -> str:
    """Look up the lens that a transforms.json names, and check that its distortion keys belong to
    that lens."""
    distortion_keys = {
        key for key, value in content.items() if DISTORTION.fullmatch(key) and np.any(value)
    }
    exact_lenses = {
        entry.blender: name for name, entry in LENSES.items() if entry.blender_fit is None
    }
    lenses = {
        model: name for name, entry in LENSES.items() for model in entry.simpler
    } | exact_lenses
    default_model = FISHEYE if content.get("is_fisheye") else "PINHOLE"
    model = content.get("camera_model") or default_model
    if distortion_keys and model in ("PINHOLE", "SIMPLE_PINHOLE"):
        model = "OPENCV"  # as other readers take it
    lens = lenses.get(str(model))
    is_contradiction = content.get("is_fisheye") and lens != lenses[FISHEYE]
    if lens is None or is_contradiction or not distortion_keys <= {*LENSES[lens].blender_keys}:
        lens_words = (f"{word} ({' '.join(LENSES[lenses[word]].blender_keys)})" for word in lenses)
        fisheye_text = " and is_fisheye" if is_contradiction else ""
        raise EgoXInputError(
            label,
            got=f"camera_model {model}{fisheye_text}, distortion {sorted(distortion_keys)}",
            expected=f"a lens of {', '.join(sorted(lens_words))}",
            fix="undistort the images, or give stages.path a camera",
        )
    return lens


def _camera_of(content: dict, label: str) -> CameraModel:
    def number(key: str, default: float) -> float:
        with intact(f"{key} of {label}", NO_NUMBERS, expected=FORM, fix="export the camera again"):
            return float(content.get(key, default))

    width, height = number("w", 0), number("h", 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise EgoXInputError(
            label,
            got=f"w {width:g} and h {height:g}",
            expected=FORM,
            fix="write w and h, the size of its pictures in px, into the file",
        )
    view_angle = number("camera_angle_x", 0)
    lens = _lens_of(content, label)
    focal_by_angle = width / 2 / math.tan(view_angle / 2) if 0 < view_angle < math.pi else 0.0
    fx = number("fl_x", 0) or focal_by_angle
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
