"""The decoded ego picture: its lens circle, the sensor's orientation, and a pinhole view of a fisheye picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .cameras.model import CameraModel, pixel_grid, pixel_rays, project
from .errors import EgoXInputError
from .progress import Progress, no_progress

FOV_RANGE_DEG = (20.0, 150.0)


def lens_circle(camera: CameraModel) -> Tensor:  # [H, W] bool, stored pixels
    """The picture's circle: around the optical axis' pixel, as wide as the picture's shorter side.

    A fisheye's picture is round; what lies in the corners beyond it was never seen by the lens.
    """
    width, height = camera.stored_size
    axis, _ = project(camera, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))
    distance = (pixel_grid(camera, torch.float64) - axis[0]).norm(dim=-1)
    return distance <= min(width, height) / 2


def sensor_orientation(
    frames: Tensor,  # [T, H, W, ...] stored (upright) orientation
    quarter_turns: int = 1,  # clockwise turns that made the stored picture from the sensor's (Aria: 1)
) -> Tensor:  # [T, H or W, W or H, ...]
    """The picture as the sensor gave it: sensor[H-1-j, i] = stored[i, j] for one turn."""
    return torch.rot90(frames, k=quarter_turns % 4, dims=(1, 2))


def pinhole_camera(camera: CameraModel, fov_deg: float) -> CameraModel:
    """A pinhole in the same place, orientation and size that sees ``fov_deg`` across its stored width.

    Raises:
        EgoXInputError: a field of view outside 20 to 150 degrees.
    """
    low, high = FOV_RANGE_DEG
    if not low <= fov_deg <= high:
        raise EgoXInputError("field of view", got=f"{fov_deg} degrees", expected=f"{low:g} to {high:g} degrees",
                             fix="a pinhole can't show more; use less, or keep the fisheye picture")
    focal = camera.stored_size[0] / 2 / math.tan(math.radians(fov_deg) / 2)
    return CameraModel(lens="pinhole", width=camera.width, height=camera.height, fx=focal, fy=focal,
                       cx=(camera.width - 1) / 2, cy=(camera.height - 1) / 2, quarter_turns=camera.quarter_turns)


def reproject(
    frames: Tensor,  # [T, H, W, C] float 0...1, stored orientation, drawn by ``source``
    source: CameraModel,
    target: CameraModel,
    progress: Progress = no_progress,
) -> Tensor:  # [T, H', W', C] as ``target`` would have seen it; black where ``source`` saw nothing
    """Redraw pictures for another lens in the same place: bilinear, one frame at a time.

    Raises:
        EgoXInputError: frames of another size than ``source``.
    """
    width, height = source.stored_size
    if tuple(frames.shape[1:3]) != (height, width):
        raise EgoXInputError("ego frames", got=f"{frames.shape[2]}x{frames.shape[1]} px",
                             expected=f"{width}x{height} px", fix="give the camera of these pictures")
    rays, seen = pixel_rays(target, torch.float64)
    uv, in_lens = project(source, rays)
    # grid_sample's -1...1 spans pixel centres with align_corners=True, which is this package's pixel convention.
    grid = uv / uv.new_tensor((max(width - 1, 1), max(height - 1, 1))) * 2 - 1
    grid = grid.to(frames.device, torch.float32)[None]
    known = (seen & in_lens).to(frames.device)[..., None]
    out = []
    for i, frame in enumerate(frames):
        drawn = grid_sample(frame.float().movedim(-1, 0)[None], grid, mode="bilinear", align_corners=True)[0]
        out.append(torch.where(known, drawn.movedim(0, -1), 0.0))
        progress(i + 1, len(frames), "reproject")
    return torch.stack(out)
