"""Choose a camera's lens by camera type, from a calibration file, or as an unknown to be
estimated."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from egox_core.cameras import CAMERA_PRESETS, LENSES, CameraModel, raw_gopro
from egox_core.errors import EgoXInputError
from egox_core.safe_files import read_json

from ..data.aria import read_aria_calibration

LENS_NAMES = ("free", "phone", "fisheye", "gopro-wide", "gopro-linear", "aria")
"""``free``: both kinds are tried, and the better one is taken."""
FOCAL_PER_WIDTH = {"phone": 0.8, "fisheye": 0.45, "gopro-linear": 0.54}
"""Focal lengths in widths of the picture: a phone's video (64 degrees across), an action camera's
(about 120), GoPro's linear mode (86)."""
GOPRO_FOCAL_PX = 1237.0
"""Of Ego-Exo4D's GoPros, in their wide mode of 16:9: the K of the undistorted picture at 3840
px."""
ARIA_FOCAL_PER_WIDTH = 610.3 / 1408  # 0.5 % between two pairs of glasses

FreeParameters = Literal["lens", "focal length", "nothing"]
"""Freedom of a lens in the fit to pictures: all for a kind of lens, the focal length at the end for
a camera's name, nothing for a file, because somebody calibrated it."""


def make_lens(choice: str, width: int, height: int) -> tuple[CameraModel, FreeParameters]:
    """Build the lens of a camera type for a picture size, and name the parameters to be estimated.

    Raises:
        EgoXInputError: no such name and no such file, a file of another shape.
    """
    longer_side = max(width, height)
    pinhole_camera = CameraModel.pinhole(width, height, FOCAL_PER_WIDTH["phone"] * longer_side)
    if choice == "phone":
        return replace(pinhole_camera, lens="opencv", distortion=(0.0,) * 4), "lens"
    if choice == "fisheye":
        focal_px = FOCAL_PER_WIDTH["fisheye"] * longer_side
        fisheye_camera = replace(
            pinhole_camera, lens="opencv_fisheye", distortion=(0.0,) * 4, fx=focal_px, fy=focal_px
        )
        return fisheye_camera, "lens"
    if choice == "gopro-linear":
        focal_px = FOCAL_PER_WIDTH["gopro-linear"] * longer_side
        return replace(pinhole_camera, fx=focal_px, fy=focal_px), "focal length"
    if choice == "gopro-wide":
        gopro_camera = raw_gopro(
            torch.tensor([[GOPRO_FOCAL_PX, 0, 1920], [0, GOPRO_FOCAL_PX, 1080]])
        )
        return _fit_lens_to_size(gopro_camera, width, height), "focal length"
    if choice == "aria":
        aria_camera = CAMERA_PRESETS["aria_meta"].camera.rescale(width, height)
        focal_px = ARIA_FOCAL_PER_WIDTH * longer_side
        return replace(aria_camera, fx=focal_px, fy=focal_px), "focal length"
    path = Path(choice)
    file_type = path.suffix.lower()
    if file_type not in (".json", ".jsonl"):
        raise EgoXInputError(
            "lens",
            got=repr(choice)[:60],
            expected=f"one of {', '.join(LENS_NAMES)}, a JSON file with a camera, or Aria's own "
            "online_calibration.jsonl",
            fix="take free, if the camera has another name",
        )
    if file_type == ".jsonl":
        camera = read_aria_calibration(path, width)
    else:
        camera = CameraModel.from_json(read_json(path, "lens"), f"lens {path.name}")
    calibrated_width, calibrated_height = camera.stored_size
    if (
        abs(calibrated_width * height - calibrated_height * width)
        > 0.02 * calibrated_width * height
    ):
        raise EgoXInputError(
            f"lens {path.name}",
            got=f"one of {calibrated_width}x{calibrated_height} px",
            expected=f"the shape of {width}x{height}",
            fix="give the lens of this video's own mode",
        )
    return camera.rescale(width, height), "nothing"


def _fit_lens_to_size(camera: CameraModel, width: int, height: int) -> CameraModel:
    """Scale a lens to another picture width, and crop it to another picture height."""
    camera = camera.rescale(width, round(camera.height * width / camera.width))
    return camera.crop(0, (camera.height - height) // 2, width, height)


def to_colmap(camera: CameraModel) -> tuple[str, tuple[float, ...]]:
    """Convert an upright camera to COLMAP's camera model and parameters."""
    camera = camera.upright()
    if camera.lens == "opencv" and not any(camera.distortion):
        # One picture of a fixed camera tells one number of distortion, not four.
        return "SIMPLE_RADIAL", (camera.fx, camera.cx + 0.5, camera.cy + 0.5, 0.0)
    lens_kind = LENSES[camera.lens]
    assert lens_kind.colmap is not None  # every lens has one
    distortion_values = camera.distortion or (0.0,) * lens_kind.distortion_count
    principal_point = camera.cx + 0.5, camera.cy + 0.5
    return lens_kind.colmap, (camera.fx, camera.fy, *principal_point, *distortion_values)


def from_colmap(
    colmap_model: str, colmap_parameters: tuple[float, ...], width: int, height: int
) -> CameraModel:
    """Convert COLMAP's camera model and parameters to our camera model."""
    if colmap_model == "SIMPLE_RADIAL":
        focal_px, cx, cy, distortion_k = colmap_parameters
        colmap_model = "OPENCV"
        colmap_parameters = (focal_px, focal_px, cx, cy, distortion_k, 0.0, 0.0, 0.0)
    lens_name = next(lens_name for lens_name, lens in LENSES.items() if lens.colmap == colmap_model)
    fx, fy, cx, cy, *distortion = colmap_parameters
    return CameraModel(
        lens=lens_name,
        width=width,
        height=height,
        fx=fx,
        fy=fy,
        cx=cx - 0.5,
        cy=cy - 0.5,
        distortion=tuple(distortion),
    )
