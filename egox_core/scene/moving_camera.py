"""The static scene of a moving exo camera: key frames vote on where a surface is, and each adds what
the others lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

from ..cameras.model import CameraModel, inside_picture, project
from ..progress import Progress, no_progress
from ..trajectory.poses import compose, invert, transform
from ..types import PointSet
from .background import SAME_SURFACE, StaticBackground, static_samples
from .points import join
from .surface import MAX_EDGE, depth_rays, lift

MAX_KEY_FRAMES = 13
"""Every fourth frame of 49: what appears between two of them is seen in one of them."""
EMPTY = torch.iinfo(torch.int64).max
WIDEST_TOLERANCE = 0.12
SPREADS = 3.0
"""The tolerance is so many times the typical difference between the maps of two key frames."""
ONE_SURFACE = 0.02  # relative depth between pixels that are mixed
THROUGH, BESIDE = 2.0, 2.5
"""Tolerances by which a key frame sees past a point; within which it has the surface already."""
OTHER_COLOUR, COLOUR_AROUND = 40.0, 5
"""Mean difference of 0...255 from which it isn't the same surface; px that colours are averaged
over, since outlines never fall on the same pixels."""


def is_moving(
    exo_w2c: Tensor | None,  # [3, 4] or [T, 3, 4]
) -> TypeGuard[Tensor]:
    """Check whether the poses differ by more than rounding: 1e-6 in rotation, a micrometre in
    place."""
    return (
        exo_w2c is not None
        and exo_w2c.ndim == 3
        and float((exo_w2c - exo_w2c[:1]).abs().max()) > 1e-6
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyFrame:
    """A key frame's maps [H, W]."""

    w2c: Tensor  # [3, 4] float64
    depth_m: Tensor  # NaN: unknown, moves, or voted out
    rgb: Tensor  # [H, W, 3] uint8
    smooth: Tensor  # [H, W, 3] float32, its colours averaged over a few pixels


def fuse_moving(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Sequence[Tensor] | Tensor,  # T of [H, W] z depth, NaN invalid
    camera: CameraModel,
    exo_w2c: Tensor,  # [T, 3, 4] float64
    masks: Sequence[Tensor]
    | None = None,  # T of [H, W] bool of what moves or is sky; None: nothing
    *,
    tolerance: float = SAME_SURFACE,  # least relative depth difference of one surface's samples
    max_edge: float = MAX_EDGE,
    progress: Progress = no_progress,
) -> tuple[PointSet, float]:
    """Static points in the world, and the tolerance that the maps needed.

    A pixel's depth is the mean of all key frames that see its surface. It goes where more of them
    see past it, or see another colour there, as where somebody has left; and where an earlier key
    frame has the surface already."""
    rays, keys = depth_rays(camera), []
    total = min(len(depth_m), MAX_KEY_FRAMES)
    for t, depth, rgb in static_samples(frames, depth_m, masks, MAX_KEY_FRAMES):
        smooth = torch.nn.functional.avg_pool2d(
            rgb.permute(2, 0, 1).float(), COLOUR_AROUND, 1, COLOUR_AROUND // 2
        ).permute(1, 2, 0)
        keys.append(_KeyFrame(w2c=exo_w2c[t].double(), depth_m=depth, rgb=rgb, smooth=smooth))
    tolerance = max(tolerance, min(WIDEST_TOLERANCE, SPREADS * _spread(keys, camera, rays)))
    voted = []
    for number, key in enumerate(keys):
        progress(number, 2 * total, "fuse the moving camera's key frames")
        voted.append(_vote(key, [k for k in keys if k is not key], camera, rays, tolerance))
    parts = []
    for number, key in enumerate(voted):
        progress(total + number, 2 * total, "fuse the moving camera's key frames")
        new = torch.isfinite(key.depth_m)
        for earlier in voted[:number]:
            off, _ = _against(key, earlier, camera, rays)
            new &= ~(off.abs() <= BESIDE * tolerance)
        into = invert(key.w2c)
        parts.append(lift(key.depth_m, key.rgb, new, rays, max_edge=max_edge, frame_from_exo=into))
    progress(2 * total, 2 * total, "fuse the moving camera's key frames")
    return join(*parts), tolerance


def _against(
    key: _KeyFrame, other: _KeyFrame, camera: CameraModel, rays: Tensor
) -> tuple[Tensor, Tensor]:
    """The pixels of one key frame as another one has them.

    Returns:
        (logarithm [H, W] of the other's depth over that of the point, NaN where it isn't known;
        the other's pixel [H, W] int64).
    """
    width, height = camera.stored_size
    points = transform(
        compose(other.w2c, invert(key.w2c)).float(), (rays * key.depth_m[..., None]).flatten(0, 1)
    )
    uv, valid = project(camera, points)
    valid &= inside_picture(camera, uv) & (points[:, 2] > 1e-3)
    grid = (uv.nan_to_num(0.0) / uv.new_tensor([width - 1, height - 1]) * 2 - 1)[None, None]
    between = torch.nn.functional.grid_sample(
        other.depth_m.reciprocal()[None, None], grid, align_corners=True
    ).view(-1)
    uv = uv.nan_to_num(0.0).round().long()
    pixel = uv[:, 1].clamp(0, height - 1) * width + uv[:, 0].clamp(0, width - 1)
    there = other.depth_m.flatten()[pixel]
    # Inverse depth is linear on a plane; across an edge it is nobody's.
    smooth = (between * there - 1).abs() < ONE_SURFACE
    off = torch.log(torch.where(smooth, 1 / between, there) / points[:, 2])
    return torch.where(valid, off, torch.nan).view(height, width), pixel.view(height, width)


def _spread(keys: list[_KeyFrame], camera: CameraModel, rays: Tensor) -> float:
    """Typical difference between the maps of neighbouring key frames."""
    found = []
    for key, other in zip(keys[:-1], keys[1:], strict=True):
        off = _against(key, other, camera, rays)[0][::4, ::4].abs()
        found.append(off[off < 2 * WIDEST_TOLERANCE])
    found = torch.cat(found) if found else torch.zeros(0)
    return float(found.median()) if len(found) else 0.0


def _vote(
    key: _KeyFrame, others: list[_KeyFrame], camera: CameraModel, rays: Tensor, tolerance: float
) -> _KeyFrame:
    """The key frame as all of them see it."""
    weight, shift = torch.ones_like(key.depth_m), torch.zeros_like(key.depth_m)
    colour = key.rgb.float()
    agree, against = torch.zeros_like(weight), torch.zeros_like(weight)
    for other in others:
        off, pixel = _against(key, other, camera, rays)
        alike = (other.smooth.view(-1, 3)[pixel] - key.smooth).abs().mean(-1) < OTHER_COLOUR
        same = off.abs() <= tolerance
        agree += same & alike
        against += (off > THROUGH * tolerance) | (same & ~alike)
        counts = torch.where(same & alike, (1 - (off / tolerance).square()).square(), 0.0)
        weight += counts
        shift += counts * off.nan_to_num(0.0)
        colour += counts[..., None] * other.rgb.view(-1, 3)[pixel]
    depth = torch.where(against > agree, torch.nan, key.depth_m * torch.exp(shift / weight))
    rgb = (colour / weight[..., None] + 0.5).to(torch.uint8)
    return _KeyFrame(w2c=key.w2c, depth_m=depth, rgb=rgb, smooth=key.smooth)


def cloud_background(cloud: PointSet, camera: CameraModel, w2c: Tensor) -> StaticBackground:
    """The static scene as one frame's camera sees it, a point standing for the 3 x 3 pixels around
    it; its spreads are unknown."""
    width, height = camera.stored_size
    buffer = torch.full((height * width,), EMPTY)
    xyz = cloud.xyz.double() @ w2c[:, :3].T + w2c[:, 3]
    uv, valid = project(camera, xyz)
    keep = (valid & inside_picture(camera, uv) & (xyz[:, 2] > 1e-3)).nonzero()[:, 0]
    column, row = (uv[keep, axis].round().long() for axis in (0, 1))
    pixel = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    # The bits of a positive float order like its value: depth above, point index below, one
    # minimum gives both.
    key = (xyz[keep, 2].float().contiguous().view(torch.int32).long() << 32) | keep
    buffer.scatter_reduce_(0, pixel, key, "amin")
    padded = torch.nn.functional.pad(buffer.view(height, width), (1, 1, 1, 1), value=EMPTY)
    nearest = padded.unfold(0, 3, 1).unfold(1, 3, 1).amin((-1, -2))
    hit = nearest < EMPTY
    depth = (nearest >> 32).to(torch.int32).view(torch.float32)
    unknown = torch.full((height, width), torch.nan)
    return StaticBackground(
        depth_m=torch.where(hit, depth, unknown),
        rgb=cloud.rgb[torch.where(hit, nearest & 0xFFFFFFFF, 0)]
        if len(cloud)
        else torch.zeros(height, width, 3, dtype=torch.uint8),
        depth_spread=unknown,
        rgb_spread=unknown,
    )
