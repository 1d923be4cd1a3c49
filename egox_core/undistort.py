"""A fisheye exo video as a pinhole one: depth models and the released LoRA expect straight lines."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from .cameras.model import CameraModel, crop, inside_picture, pixel_rays, project, rescale
from .ego_view import reproject
from .errors import EgoXInputError
from .progress import Progress, no_progress
from .video import resize_picture

Keep = Literal["inside", "all"]
WIDEST_DEG = 150.0
"""A pinhole picture stretches towards its rim without end; beyond this it holds nothing but the stretch."""
SHRINK_FIRST = 1.5
"""Sources finer than the target by more than this are averaged down before sampling, or they would alias."""


def undistorted_camera(source: CameraModel, keep: Keep = "inside", size: tuple[int, int] | None = None) -> CameraModel:
    """A pinhole camera in the place of ``source``, its principal point in the middle, square pixels.

    Args:
        keep: "inside": the widest view without any empty corner. "all": everything the source saw, corners black, up
            to 150 degrees across.
        size: (width, height), px; None: the source's.

    Raises:
        EgoXInputError: unknown ``keep``, a lens too narrow or too far off centre to leave anything.
    """
    if keep not in ("inside", "all"):
        raise EgoXInputError("undistortion", got=repr(keep), expected="inside or all", fix="choose one of the two")
    width, height = size or source.stored_size
    narrowest = max(width, height) / 2 / math.tan(math.radians(WIDEST_DEG) / 2)

    def camera(focal: float) -> CameraModel:
        return CameraModel(lens="pinhole", width=width, height=height, fx=focal, fy=focal, cx=(width - 1) / 2,
                           cy=(height - 1) / 2)

    # Both questions are answered "yes" from some focal length on, so halving the interval finds it.
    low, high = narrowest, 50.0 * max(width, height)
    fits = _no_empty_pixel if keep == "inside" else _source_outline_outside
    if keep == "inside" and not fits(source, camera(high)):
        raise EgoXInputError("undistortion", got="a lens that does not see its own optical axis",
                             expected="an optical axis inside the picture", fix="check the intrinsics and the size")
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(source, camera(middle)) else (middle, high)
    return camera(high if keep == "inside" else low)


def undistort(frames: Tensor, source: CameraModel, target: CameraModel,
              progress: Progress = no_progress) -> tuple[Tensor, Tensor]:
    """The frames as ``target`` would have seen them, and where it saw anything.

    Args:
        frames: [T, H, W, 3] float 0...1 of ``source``.

    Returns:
        (frames [T, H', W', 3] float32, black where nothing was seen; seen [H', W'] bool).

    Raises:
        EgoXInputError: frames of another size than ``source``.
    """
    width, height = source.stored_size
    if tuple(frames.shape[1:3]) != (height, width):
        raise EgoXInputError("exo frames", got=f"{frames.shape[2]}x{frames.shape[1]} px",
                             expected=f"{width}x{height} px", fix="rescale the intrinsics to the frames that are given")
    seen, shrink = seen_by(source, target), source.fx / target.fx
    if shrink > SHRINK_FIRST:
        width, height = max(1, round(width / shrink)), max(1, round(height / shrink))
        frames = torch.stack([torch.from_numpy(resize_picture(f.float().cpu().numpy(), width, height)) for f in frames])
        source = rescale(source, width, height)
    # The outermost half pixel is seen too, but has no sample beyond it to interpolate with: repeat the rim.
    frames = pad(frames.float().movedim(-1, 1), (1, 1, 1, 1), mode="replicate").movedim(1, -1)
    source = crop(source, -1, -1, width + 2, height + 2)
    return reproject(frames, source, target, progress) * seen[..., None].to(frames.device), seen


def seen_by(source: CameraModel, target: CameraModel) -> Tensor:
    """Which pixels of ``target`` [H, W] lie in the picture of ``source``."""
    rays, known = pixel_rays(target, torch.float64)
    uv, valid = project(source, rays)
    return known & valid & inside_picture(source, uv)


def _no_empty_pixel(source: CameraModel, target: CameraModel) -> bool:
    """Whether the target's outline lies in the source's picture, so that all of it does."""
    seen = seen_by(source, target)
    return bool(seen[0].all() and seen[-1].all() and seen[:, 0].all() and seen[:, -1].all())


def _source_outline_outside(source: CameraModel, target: CameraModel) -> bool:
    """Whether some of the source's picture lies outside the target's."""
    rays, known = pixel_rays(source, torch.float64)
    edge = torch.ones(known.shape, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    uv, valid = project(target, rays[edge & known])
    return not bool((valid & inside_picture(target, uv)).all())
