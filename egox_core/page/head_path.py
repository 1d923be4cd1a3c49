"""Draw the wearer's estimated head pose into the exo video as axes and a viewing cone."""

import math
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..cameras import CameraPath, compose, transform
from ..errors import EgoXInputError
from ..progress import Progress, no_progress

AXIS_M = 0.12
CONE_M, CONE_DEG = (
    0.35,
    25.0,
)  # length, and half of its angle: where people look without moving the eyes far
RIM_POINTS, LINE_POINTS = 24, 12  # of the cone's rim; of a line, so that it bends as the lens does
AXES = ((1.0, 0.25, 0.25), (0.25, 0.9, 0.25), (0.35, 0.5, 1.0))  # right, down, forward: RGB
GUESSED, SEEN = (0.95, 0.45, 0.1), (0.2, 0.8, 0.3)  # RGB of the cone
EDGE = (0.05, 0.05, 0.05)  # round every line, so that it shows on any picture


def draw_head_path(
    exo: Tensor,  # [T, H, W, 3] 0...1
    # The exo camera; its lens has the size of the frames.
    camera: CameraPath,
    world_from_head: Tensor,  # [T, 3, 4]
    guessed: Tensor,  # [T] bool
    progress: Progress = no_progress,
) -> tuple[Tensor, dict[str, Any]]:  # [T, H, W, 3] float32 0...1
    """Draw the head's axes (red right, green down, blue forward) and viewing cone into exo frames.

    Raises:
        EgoXInputError: frames, poses and flags of different numbers, frames of another size than
            the camera's.
    """
    count, height, width = exo.shape[:3]
    lens = camera.camera
    if not len(world_from_head) == len(guessed) == count or lens.stored_size != (
        width,
        height,
    ):
        raise EgoXInputError(
            "frames to draw a head into",
            got=f"{count} of {width}x{height} px, {len(world_from_head)}"
            f" poses, {len(guessed)} flags, a camera of {lens.stored_size}",
            expected="one of each per frame, the camera's size",
            fix="use the frames in use",
        )
    poses = compose(camera.poses(count), world_from_head.double())
    lines = _head_lines()
    line_points = torch.stack([line for line, _ in lines])  # [L, S, 3]
    line_width = max(1, round(height / 240))
    pictures = exo.detach().cpu().to(torch.float32, copy=True).contiguous().numpy()
    for frame_number, picture in enumerate(pictures):
        progress(frame_number, count, "drawing the head")
        uv, valid = lens.project(transform(poses[frame_number], line_points.reshape(-1, 3)))
        uv = uv.reshape(len(lines), -1, 2).numpy()
        valid = valid.reshape(len(lines), -1).numpy()
        cone_colour = GUESSED if bool(guessed[frame_number]) else SEEN
        for is_edge in (True, False):
            for (_, axis), line_pixels, visible_mask in zip(lines, uv, valid, strict=True):
                colour = EDGE if is_edge else cone_colour if axis is None else AXES[axis]
                width_px = (line_width if axis is None else 2 * line_width) + (
                    2 * line_width if is_edge else 0
                )
                _draw_line(picture, line_pixels, visible_mask, colour, width_px)
    cone_colours = [
        "#" + "".join(f"{round(255 * channel):02x}" for channel in colour)
        for colour in (GUESSED, SEEN)
    ]
    ticks = [{"at": 0.15, "label": "a guess"}, {"at": 0.85, "label": "seen"}]
    legend = {
        "colours": [cone_colours[0], cone_colours[0], cone_colours[1], cone_colours[1]],
        "ticks": ticks,
    }
    return torch.from_numpy(pictures), legend


def _head_lines() -> list[tuple[Tensor, int | None]]:
    """Make the lines of a drawn head (three axes and a cone) as points in the head frame."""
    line_steps = torch.linspace(0, 1, LINE_POINTS, dtype=torch.float64)[:, None]
    axes = [
        (line_steps * AXIS_M * torch.eye(3, dtype=torch.float64)[axis], axis) for axis in range(3)
    ]
    rim_angle = torch.linspace(0, 2 * torch.pi, RIM_POINTS + 1, dtype=torch.float64)
    cone_slope = math.tan(math.radians(CONE_DEG))
    cone_rim = CONE_M * torch.stack(
        (cone_slope * rim_angle.cos(), cone_slope * rim_angle.sin(), torch.ones_like(rim_angle)),
        dim=-1,
    )
    cone_edges = [line_steps * cone_rim[number] for number in range(0, RIM_POINTS, RIM_POINTS // 4)]
    rim_arcs = [
        cone_rim[start : start + RIM_POINTS // 4 + 1]
        for start in range(0, RIM_POINTS, RIM_POINTS // 4)
    ]
    return [
        *((_resample_line(line), None) for line in (*cone_edges, *rim_arcs)),
        *((_resample_line(line), axis) for line, axis in axes),
    ]


def _resample_line(line: Tensor) -> Tensor:  # [S, 3] -> [LINE_POINTS, 3]
    """Resample a line to LINE_POINTS points."""
    return interpolate(line.T[None], LINE_POINTS, mode="linear", align_corners=True)[0].T


def _draw_line(
    picture: np.ndarray,
    uv: np.ndarray,
    valid: np.ndarray,
    colour: tuple[float, float, float],
    thickness: int,
) -> None:
    """Draw the parts of a line that are visible in the lens and near the picture."""
    height, width = picture.shape[:2]
    drawable_mask = valid & (np.abs(uv) < 4 * max(height, width)).all(1)
    points = np.round(uv * 16).astype(np.int64).astype(np.int32)  # sixteenths of a pixel
    for index in range(len(uv) - 1):
        if drawable_mask[index] and drawable_mask[index + 1]:
            cv2.line(
                picture,
                points[index].tolist(),
                points[index + 1].tolist(),
                colour,
                thickness,
                cv2.LINE_8,
                4,
            )
