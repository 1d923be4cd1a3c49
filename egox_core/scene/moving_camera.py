"""The static scene of a moving exo camera: key frames lifted into the world, each adding what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..cameras.model import CameraModel, inside_picture, project
from ..progress import Progress, no_progress
from ..trajectory.poses import invert
from ..types import PointSet
from .background import sample_frames, to_uint8
from .points import join, select
from .surface import depth_rays, lift, no_points

MAX_KEY_FRAMES = 13
"""Every fourth frame of 49: what appears between two of them is seen in one of them."""
EMPTY = torch.iinfo(torch.int64).max


def is_moving(exo_w2c: Tensor | None) -> bool:
    """Whether the poses differ by more than rounding: 1e-6 in rotation, a micrometre in place."""
    return exo_w2c is not None and exo_w2c.ndim == 3 and float((exo_w2c - exo_w2c[:1]).abs().max()) > 1e-6


def fuse_moving(frames: Sequence[Tensor] | Tensor, depth_m: Sequence[Tensor] | Tensor, camera: CameraModel,
                exo_w2c: Tensor, masked: Sequence[Tensor] | None = None, *, tolerance: float = 0.04,
                max_edge: float = 0.3, progress: Progress = no_progress) -> PointSet:
    """Static points in the world.

    A pixel of a key frame that shows a point already there refines that point's place and colour (running mean); one
    that shows nothing known becomes a new point.

    Args:
        frames: T frames [H, W, 3], float 0...1 or uint8.
        depth_m: T maps [H, W], z depth, NaN invalid.
        exo_w2c: [T, 3, 4] float64.
        masked: T masks [H, W] bool of what moves or is sky; None: nothing.
        tolerance: relative depth difference within which two samples show the same surface.
    """
    chosen = sample_frames(len(depth_m), MAX_KEY_FRAMES)
    rays = depth_rays(camera)
    cloud, seen = no_points(), torch.zeros(0)
    for done, t in enumerate(chosen):
        progress(done, len(chosen), "fuse the moving camera's key frames")
        depth, rgb = depth_m[t].float(), to_uint8(frames[t])
        if masked is not None:
            depth = depth.masked_fill(masked[t].bool(), float("nan"))
        known, index = _known(cloud, camera, exo_w2c[t])
        fits = (known / depth - 1).abs() <= tolerance  # NaN where nothing is known: does not fit
        fresh = lift(depth, rgb, torch.isfinite(depth), rays, max_edge=max_edge, frame_from_exo=invert(exo_w2c[t]))
        pixel = _pixels(fresh, camera, exo_w2c[t])
        match = index.flatten()[pixel]
        again = fits.flatten()[pixel] & (match >= 0)
        cloud, seen = _refine(cloud, seen, select(fresh, again), match[again])
        new = select(fresh, ~fits.flatten()[pixel])
        cloud, seen = join(cloud, new), torch.cat((seen, torch.ones(len(new))))
    progress(len(chosen), len(chosen), "fuse the moving camera's key frames")
    return cloud


def _pixels(points: PointSet, camera: CameraModel, w2c: Tensor) -> Tensor:
    """[N] int64, pixel number of points that lie in the picture."""
    width, height = camera.stored_size
    uv, _ = project(camera, points.xyz.double() @ w2c[:, :3].T + w2c[:, 3])
    u, v = uv[:, 0].round().long().clamp(0, width - 1), uv[:, 1].round().long().clamp(0, height - 1)
    return v * width + u


def _known(cloud: PointSet, camera: CameraModel, w2c: Tensor) -> tuple[Tensor, Tensor]:
    """What the cloud shows at each pixel: (z depth of the nearest point around [H, W], NaN: nothing; its number at
    the very pixel [H, W], -1: none)."""
    width, height = camera.stored_size
    buffer = torch.full((height * width,), EMPTY)
    if len(cloud):
        xyz = cloud.xyz.double() @ w2c[:, :3].T + w2c[:, 3]
        uv, valid = project(camera, xyz)
        keep = (valid & inside_picture(camera, uv) & (xyz[:, 2] > 1e-3)).nonzero()[:, 0]
        pixel = uv[keep, 1].round().long().clamp(0, height - 1) * width + uv[keep, 0].round().long().clamp(0, width - 1)
        # The bits of a positive float order like the number: depth above, point number below, one minimum finds both.
        key = (xyz[keep, 2].float().contiguous().view(torch.int32).long() << 32) | keep
        buffer.scatter_reduce_(0, pixel, key, "amin")
    found = buffer < EMPTY
    depth = (buffer >> 32).to(torch.int32).view(torch.float32)
    depth = torch.where(found, depth, torch.full_like(depth, float("inf"))).view(1, 1, height, width)
    # The cloud is not sampled like this picture: one point stands for its neighbours too.
    near = -torch.nn.functional.max_pool2d(-depth, 3, stride=1, padding=1)[0, 0]
    near = torch.where(torch.isfinite(near), near, torch.full_like(near, float("nan")))
    return near, torch.where(found, buffer & 0xFFFFFFFF, -1).view(height, width)


def _refine(cloud: PointSet, seen: Tensor, samples: PointSet, numbers: Tensor) -> tuple[PointSet, Tensor]:
    """The cloud with samples averaged into the points of the given numbers."""
    if len(samples) == 0:
        return cloud, seen
    count = torch.zeros(len(cloud)).index_add_(0, numbers, torch.ones(len(samples)))
    total = seen + count
    xyz = (cloud.xyz * seen[:, None]).index_add_(0, numbers, samples.xyz) / total[:, None]
    rgb = (cloud.rgb.float() * seen[:, None]).index_add_(0, numbers, samples.rgb.float()) / total[:, None]
    return replace(cloud, xyz=xyz, rgb=(rgb + 0.5).clamp(0, 255).to(torch.uint8)), total
