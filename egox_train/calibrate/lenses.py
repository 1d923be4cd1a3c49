"""Choose a camera's lens by camera type, from a calibration file, or as an unknown to be estimated."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from egox_core.cameras import CAMERA_PRESETS, LENSES, CameraModel, raw_gopro
from egox_core.errors import EgoXInputError
from egox_core.safe_files import read_json

from ..data.aria import read_aria_calibration

NAMES = ("free", "phone", "fisheye", "gopro-wide", "gopro-linear", "aria")
"""``free``: both kinds are tried, and the better one is taken."""
FOCAL = {"phone": 0.8, "fisheye": 0.45, "gopro-linear": 0.54}
"""Focal lengths in widths of the picture: a phone's video (64 degrees across), an action camera's
(about 120), GoPro's linear mode (86)."""
GOPRO_K = 1237.0
"""Of Ego-Exo4D's GoPros, in their wide mode of 16:9: the K of the undistorted picture at 3840 px."""
ARIA_FOCAL = 610.3 / 1408  # 0.5 % between two pairs of glasses

Free = Literal["lens", "focal length", "nothing"]
"""Freedom of a lens in the fit to pictures: all for a kind of lens, the focal length at the end for
a camera's name, nothing for a file, because somebody calibrated it."""


def lens_of(choice: str, width: int, height: int) -> tuple[CameraModel, Free]:
    """Build the lens of a camera type for a picture size, and name the parameters to be estimated.

    Raises:
        EgoXInputError: no such name and no such file, a file of another shape.
    """
    longer_side = max(width, height)
    pinhole_camera = CameraModel.pinhole(width, height, FOCAL["phone"] * longer_side)
    if choice == "phone":
        return replace(pinhole_camera, lens="opencv", distortion=(0.0,) * 4), "lens"
    if choice == "fisheye":
        focal_px = FOCAL["fisheye"] * longer_side
        fisheye_camera = replace(
            pinhole_camera, lens="opencv_fisheye", distortion=(0.0,) * 4, fx=focal_px, fy=focal_px
        )
        return fisheye_camera, "lens"
    if choice == "gopro-linear":
        focal_px = FOCAL["gopro-linear"] * longer_side
        return replace(pinhole_camera, fx=focal_px, fy=focal_px), "focal length"
    if choice == "gopro-wide":
        gopro_camera = raw_gopro(torch.tensor([[GOPRO_K, 0, 1920], [0, GOPRO_K, 1080]]))
        return _of_shape(gopro_camera, width, height), "focal length"
    if choice == "aria":
        shape = CAMERA_PRESETS["aria_meta"].camera.rescale(width, height)
        focal_px = ARIA_FOCAL * longer_side
        return replace(shape, fx=focal_px, fy=focal_px), "focal length"
    path = Path(choice)
    file_type = path.suffix.lower()
    if file_type not in (".json", ".jsonl"):
        raise EgoXInputError(
            "lens",
            got=repr(choice)[:60],
            expected=f"one of {', '.join(NAMES)}, a JSON file with a camera, or Aria's own "
            "online_calibration.jsonl",
            fix="take free, if the camera has another name",
        )
    if file_type == ".jsonl":
        camera = read_aria_calibration(path, width)
    else:
        camera = CameraModel.from_json(read_json(path, "lens"), f"lens {path.name}")
    own_width, own_height = camera.stored_size
    if abs(own_width * height - own_height * width) > 0.02 * own_width * height:
        raise EgoXInputError(
            f"lens {path.name}",
            got=f"one of {own_width}x{own_height} px",
            expected=f"the shape of {width}x{height}",
            fix="give the lens of this video's own mode",
        )
    return camera.rescale(width, height), "nothing"


def _of_shape(camera: CameraModel, width: int, height: int) -> CameraModel:
    """Scale a lens to another picture width, and crop it to another picture height."""
    camera = camera.rescale(width, round(camera.height * width / camera.width))
    return camera.crop(0, (camera.height - height) // 2, width, height)


def to_colmap(camera: CameraModel) -> tuple[str, tuple[float, ...]]:
    """Convert an upright camera to COLMAP's camera model and parameters."""
    camera = camera.upright()
    if camera.lens == "opencv" and not any(camera.distortion):
        # One picture of a fixed camera tells one number of distortion, not four.
        return "SIMPLE_RADIAL", (camera.fx, camera.cx + 0.5, camera.cy + 0.5, 0.0)
    lens = LENSES[camera.lens]
    assert lens.colmap is not None  # every lens has one
    distortion_values = camera.distortion or (0.0,) * lens.distortion_count
    centre = camera.cx + 0.5, camera.cy + 0.5
    return lens.colmap, (camera.fx, camera.fy, *centre, *distortion_values)


def from_colmap(model: str, numbers: tuple[float, ...], width: int, height: int) -> CameraModel:
    """Convert COLMAP's camera model and parameters to our camera model."""
    if model == "SIMPLE_RADIAL":
        focal_px, cx, cy, distortion_k = numbers
        model, numbers = "OPENCV", (focal_px, focal_px, cx, cy, distortion_k, 0.0, 0.0, 0.0)
    name = next(name for name, lens in LENSES.items() if lens.colmap == model)
    fx, fy, cx, cy, *distortion = numbers
    return CameraModel(
        lens=name,
        width=width,
        height=height,
        fx=fx,
        fy=fy,
        cx=cx - 0.5,
        cy=cy - 0.5,
        distortion=tuple(distortion),
    )
