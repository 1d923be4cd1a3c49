"""Undistort Exo: a fisheye exo video becomes a pinhole one, as depth models expect."""

from __future__ import annotations

import json

from comfy_api.latest import io

from ..egox_core.cameras.model import CameraModel, camera_to_json
from ..egox_core.errors import EgoXInputError
from ..egox_core.video.reproject import undistort, undistorted_camera
from .host_progress import host_progress


class EgoXUndistortExo(io.ComfyNode):
    """Frames of a fisheye lens in, frames of a pinhole lens and its numbers out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        coefficient = {"default": 0.0, "min": -10.0, "max": 10.0, "step": 0.0001}
        return io.Schema(
            node_id="EgoXUndistortExo",
            display_name="Undistort Exo",
            category="EgoX/input",
            description="Straightens a fisheye exo video (OpenCV's fisheye model, four numbers, as action cameras are "
                        "calibrated) into a pinhole one of the same size.",
            inputs=[
                io.Image.Input("exo_images", tooltip="The fisheye frames."),
                io.Float.Input("focal_x", default=400.0, min=1.0, max=100000.0, step=0.01,
                               tooltip="Calibrated focal length across, px of the calibrated picture."),
                io.Float.Input("focal_y", default=0.0, min=0.0, max=100000.0, step=0.01,
                               tooltip="Calibrated focal length down, px; 0: as across."),
                io.Float.Input("centre_x", default=-1.0, min=-1.0, max=100000.0, step=0.01,
                               tooltip="Column of the principal point, px; -1: the picture's middle."),
                io.Float.Input("centre_y", default=-1.0, min=-1.0, max=100000.0, step=0.01,
                               tooltip="Row of the principal point, px; -1: the picture's middle."),
                io.Int.Input("calibrated_width", default=0, min=0, max=20000,
                             tooltip="Width of the picture that the calibration is of, px; 0: that of the frames. "
                                     "Frames of another size are taken as the whole picture, resized."),
                io.Float.Input("k1", **coefficient, tooltip="First fisheye coefficient (theta^3)."),
                io.Float.Input("k2", **coefficient, tooltip="Second fisheye coefficient (theta^5)."),
                io.Float.Input("k3", **coefficient, tooltip="Third fisheye coefficient (theta^7)."),
                io.Float.Input("k4", **coefficient, tooltip="Fourth fisheye coefficient (theta^9)."),
                io.Combo.Input("keep", options=["inside", "all"], default="inside",
                               tooltip="inside: the widest view without empty corners. all: everything the lens saw, "
                                       "with black corners."),
            ],
            outputs=[
                io.Image.Output(display_name="exo_images", tooltip="The straightened frames."),
                io.Mask.Output(display_name="seen", tooltip="1 where the fisheye saw something."),
                io.String.Output(display_name="camera", tooltip="The pinhole camera as JSON, for meta.json's "
                                                                "exo_camera."),
            ],
        )

    @classmethod
    def execute(cls, exo_images, focal_x, focal_y, centre_x, centre_y, calibrated_width, k1, k2, k3, k4,
                keep) -> io.NodeOutput:
        _, height, width, _ = exo_images.shape
        source = calibrated_camera(width, height, (focal_x, focal_y or focal_x), (centre_x, centre_y),
                                   calibrated_width or width, (k1, k2, k3, k4))
        target = undistorted_camera(source, keep)
        frames, seen = undistort(exo_images[..., :3], source, target, host_progress(len(exo_images)))
        mask = seen.float()[None].expand(len(frames), -1, -1)
        return io.NodeOutput(frames, mask, json.dumps(camera_to_json(target)))


def calibrated_camera(width: int, height: int, focal: tuple[float, float], centre: tuple[float, float],
                      calibrated_width: int, distortion: tuple[float, float, float, float]) -> CameraModel:
    """The fisheye camera in pixels of the frames (half-pixel resize from the calibrated picture).

    Raises:
        EgoXInputError: a centre outside the picture.
    """
    scale = width / calibrated_width
    cx, cy = ((c + 0.5) * scale - 0.5 if c >= 0 else (size - 1) / 2
              for c, size in zip(centre, (width, height), strict=True))
    if not (cx < width and cy < height):
        raise EgoXInputError("principal point", got=f"({centre[0]:g}, {centre[1]:g})",
                             expected=f"inside the {calibrated_width} px wide picture",
                             fix="give it in pixels of the calibrated picture, and that picture's width")
    return CameraModel(lens="opencv_fisheye", width=width, height=height, fx=focal[0] * scale, fy=focal[1] * scale,
                       cx=cx, cy=cy, distortion=distortion)
