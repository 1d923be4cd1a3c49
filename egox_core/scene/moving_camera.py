"""The static scene of a moving exo camera: key frames lifted into the world, each adding what the
others lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor

from ..cameras.model import CameraModel, inside_picture, project
from ..progress import Progress, no_progress
from ..trajectory.poses import invert
from ..types import PointSet
from .background import SAME_SURFACE, static_samples
from .points import join, select
from .surface import MAX_EDGE, depth_rays, lift, no_points

MAX_KEY_FRAMES = 13
"""Every fourth frame of 49: what appears between two of them is seen in one of them."""
EMPTY = torch.iinfo(torch.int64).max


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


def fuse_moving(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Sequence[Tensor] | Tensor,  # T of [H, W] z depth, NaN invalid
    camera: CameraModel,
    exo_w2c: Tensor,  # [T, 3, 4] float64
    masks: Sequence[Tensor]
    | None = None,  # T of [H, W] bool of what moves or is sky; None: nothing
    *,
    tolerance: float = SAME_SURFACE,  # relative depth difference within which two samples show the same surface
    max_edge: float = MAX_EDGE,
    progress: Progress = no_progress,
) -> PointSet:
    """Static points in the world.

    A pixel of a key frame that shows a point of the cloud refines that point's position and colour
    (running mean); any other becomes a new point."""
    rays, stage, total = (
        depth_rays(camera),
        "fuse the moving camera's key frames",
        min(len(depth_m), MAX_KEY_FRAMES),
    )
    cloud, samples = (
        no_points(),
        torch.zeros(0),
    )  # samples [N]: how many pixels a point is the mean of
    for count, (t, depth, rgb) in enumerate(static_samples(frames, depth_m, masks, MAX_KEY_FRAMES)):
        progress(count, total, stage)
        cloud_depth, index = _cloud_view(cloud, camera, exo_w2c[t])
        fits = (
            cloud_depth / depth - 1
        ).abs() <= tolerance  # False where the cloud shows nothing: its depth is NaN
        lifted = lift(
            depth,
            rgb,
            torch.isfinite(depth),
            rays,
            max_edge=max_edge,
            frame_from_exo=invert(exo_w2c[t]),
        )
        pixel = _pixels(lifted, camera, exo_w2c[t])
        match = index.flatten()[pixel]
        again = fits.flatten()[pixel] & (match >= 0)
        cloud, samples = _refine(cloud, samples, select(lifted, again), match[again])
        new = select(lifted, ~fits.flatten()[pixel])
        cloud, samples = join(cloud, new), torch.cat((samples, torch.ones(len(new))))
    progress(total, total, stage)
    return cloud


def _pixels(points: PointSet, camera: CameraModel, w2c: Tensor) -> Tensor:
    """[N] int64, row * width + column of points that are in the picture."""
    width, height = camera.stored_size
    uv, _ = project(camera, points.xyz.double() @ w2c[:, :3].T + w2c[:, 3])
    u, v = uv[:, 0].round().long().clamp(0, width - 1), uv[:, 1].round().long().clamp(0, height - 1)
    return v * width + u


def _cloud_view(cloud: PointSet, camera: CameraModel, w2c: Tensor) -> tuple[Tensor, Tensor]:
    """Render the cloud at each pixel.

    Returns:
        (z depth [H, W] of the nearest point in the 3x3 pixels around, NaN: none; index [H, W] of
        the nearest point in the pixel itself, -1: none).
    """
    width, height = camera.stored_size
    buffer = torch.full((height * width,), EMPTY)
    if len(cloud):
        xyz = cloud.xyz.double() @ w2c[:, :3].T + w2c[:, 3]
        uv, valid = project(camera, xyz)
        keep = (valid & inside_picture(camera, uv) & (xyz[:, 2] > 1e-3)).nonzero()[:, 0]
        pixel = uv[keep, 1].round().long().clamp(0, height - 1) * width + uv[
            keep, 0
        ].round().long().clamp(0, width - 1)
        # The bits of a positive float order like its value: depth above, point index below, one
        # minimum gives both.
        key = (xyz[keep, 2].float().contiguous().view(torch.int32).long() << 32) | keep
        buffer.scatter_reduce_(0, pixel, key, "amin")
    hit = buffer < EMPTY
    depth = (buffer >> 32).to(torch.int32).view(torch.float32)
    depth = torch.where(hit, depth, torch.full_like(depth, float("inf"))).view(1, 1, height, width)
    # The cloud is not sampled like this picture: one point stands for its neighbours too.
    near = -torch.nn.functional.max_pool2d(-depth, 3, stride=1, padding=1)[0, 0]
    near = torch.where(torch.isfinite(near), near, torch.full_like(near, float("nan")))
    return near, torch.where(hit, buffer & 0xFFFFFFFF, -1).view(height, width)


def _refine(
    cloud: PointSet, samples: Tensor, more: PointSet, index: Tensor
) -> tuple[PointSet, Tensor]:
    """The cloud with ``more`` points averaged into those of ``index`` [M]; samples [N] as in
    :func:`fuse_moving`."""
    if len(more) == 0:
        return cloud, samples
    total = samples + torch.zeros(len(cloud)).index_add_(0, index, torch.ones(len(more)))
    xyz = (cloud.xyz * samples[:, None]).index_add_(0, index, more.xyz) / total[:, None]
    rgb = (cloud.rgb.float() * samples[:, None]).index_add_(0, index, more.rgb.float()) / total[
        :, None
    ]
    return replace(cloud, xyz=xyz, rgb=(rgb + 0.5).clamp(0, 255).to(torch.uint8)), total
