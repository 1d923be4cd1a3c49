"""The static scene of a moving exo camera: key frames vote on where a surface is, and each adds what
the others lack."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..cameras import CameraPath, compose, invert, transform
from ..frozen import frozen
from ..progress import Progress
from ..types import PointSet
from .background import SAME_SURFACE, StaticBackground, static_samples
from .surface import ClipFrames

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


@frozen
class _KeyFrame:
    """A key frame's maps [H, W]."""

    frame: int
    w2c: Tensor  # [3, 4] float64
    depth_m: Tensor  # NaN: unknown, moves, or voted out
    rgb: Tensor  # [H, W, 3] uint8
    smooth: Tensor  # [H, W, 3] float32, its colours averaged over a few pixels


def fuse_moving(
    clip: ClipFrames,
    masks: Sequence[Tensor],  # T of [H, W] bool of what moves or is sky
    progress: Progress,
) -> tuple[PointSet, float, float]:
    """Static points in the world, the tolerance that the maps needed, and the spread that it is of.

    A pixel's depth is the mean of all key frames that see its surface. It goes where more of them
    see past it, or see another colour there, as where somebody has left; and where an earlier key
    frame has the surface already."""
    keys, voted, parts = [], [], []
    for t, depth, rgb in static_samples(clip.rgb, clip.depth.depth_m, masks, MAX_KEY_FRAMES):
        smooth = torch.nn.functional.avg_pool2d(
            rgb.permute(2, 0, 1).float(), COLOUR_AROUND, 1, COLOUR_AROUND // 2
        ).permute(1, 2, 0)
        keys.append(
            _KeyFrame(frame=t, w2c=clip.depth.exo.at(t), depth_m=depth, rgb=rgb, smooth=smooth)
        )
    spread = _spread(keys, clip)
    tolerance = max(SAME_SURFACE, min(WIDEST_TOLERANCE, SPREADS * spread))
    for key in keys:
        progress(len(voted), len(keys), "fuse the moving camera's key frames")
        key = _vote(key, [k for k in keys if k is not key], clip, tolerance)
        new = torch.isfinite(key.depth_m)
        for earlier in voted:
            new &= ~(_against(key, earlier, clip)[0].abs() <= BESIDE * tolerance)
        parts.append(clip.lift(key.frame, key.depth_m, key.rgb, new))
        voted.append(key)
    progress(len(keys), len(keys), "fuse the moving camera's key frames")
    return PointSet.join(*parts), tolerance, spread


def _against(key: _KeyFrame, other: _KeyFrame, clip: ClipFrames) -> tuple[Tensor, Tensor]:
    """The pixels of one key frame as another one has them.

    Returns:
        (logarithm [H, W] of the other's depth over that of the point, NaN where it isn't known;
        the other's pixel [H, W] int64).
    """
    shape, camera = key.depth_m.shape, clip.depth.exo.camera
    points = transform(
        compose(other.w2c, invert(key.w2c)).float(),
        (clip.rays * key.depth_m[..., None]).flatten(0, 1),
    )
    uv, pixel, valid = camera.look_up(points)
    grid = (uv / (uv.new_tensor(camera.stored_size) - 1) * 2 - 1)[None, None]
    between = torch.nn.functional.grid_sample(
        other.depth_m.reciprocal()[None, None], grid, align_corners=True
    ).view(-1)
    there = other.depth_m.flatten()[pixel]
    # Inverse depth is linear on a plane; across an edge it is nobody's.
    smooth = (between * there - 1).abs() < ONE_SURFACE
    off = torch.log(torch.where(smooth, 1 / between, there) / points[:, 2])
    return torch.where(valid, off, torch.nan).view(shape), pixel.view(shape)


def _spread(keys: list[_KeyFrame], clip: ClipFrames) -> float:
    """Typical difference between the maps of neighbouring key frames."""
    found = torch.zeros(0)
    for key, other in zip(keys[:-1], keys[1:], strict=True):
        off = _against(key, other, clip)[0][::4, ::4].abs()
        found = torch.cat((found, off[off < 2 * WIDEST_TOLERANCE]))
    return float(found.median()) if len(found) else 0.0


def _vote(key: _KeyFrame, others: list[_KeyFrame], clip: ClipFrames, tolerance: float) -> _KeyFrame:
    """The key frame as all of them see it."""
    weight, shift = torch.ones_like(key.depth_m), torch.zeros_like(key.depth_m)
    colour, balance = key.rgb.float(), torch.zeros_like(weight)
    for other in others:
        off, pixel = _against(key, other, clip)
        alike = (other.smooth.view(-1, 3)[pixel] - key.smooth).abs().mean(-1) < OTHER_COLOUR
        same = off.abs() <= tolerance
        agrees, denies = same & alike, (same & ~alike) | (off > THROUGH * tolerance)
        balance += agrees.float() - denies.float()
        counts = torch.where(agrees, (1 - (off / tolerance).square()).square(), 0.0)
        weight += counts
        shift += counts * off.nan_to_num(0.0)
        colour += counts[..., None] * other.rgb.view(-1, 3)[pixel]
    depth = torch.where(balance < 0, torch.nan, key.depth_m * torch.exp(shift / weight))
    return replace(key, depth_m=depth, rgb=(colour / weight[..., None] + 0.5).to(torch.uint8))


def cloud_background(cloud: PointSet, exo: CameraPath, frame: int) -> StaticBackground:
    """The static scene as one frame's camera sees it, a point standing for the 3 x 3 pixels around
    it; its spreads are unknown."""
    width, height = exo.camera.stored_size
    buffer = torch.full((height * width,), EMPTY)
    xyz = transform(exo.at(frame), cloud.xyz.double())
    _, pixel, seen = exo.camera.look_up(xyz)
    keep = seen.nonzero()[:, 0]
    # The bits of a positive float order like its value: depth above, point index below, one
    # minimum gives both. Those of an empty pixel are NaN.
    key = (xyz[keep, 2].float().contiguous().view(torch.int32).long() << 32) | keep
    buffer.scatter_reduce_(0, pixel[keep], key, "amin")
    padded = torch.nn.functional.pad(buffer.view(height, width), (1, 1, 1, 1), value=EMPTY)
    nearest = padded.unfold(0, 3, 1).unfold(1, 3, 1).amin((-1, -2))
    unknown = torch.full((height, width), torch.nan)
    colours = torch.nn.functional.pad(cloud.rgb, (0, 0, 0, 1))  # of a cloud without points, too
    return StaticBackground(
        depth_m=(nearest >> 32).to(torch.int32).view(torch.float32),
        rgb=colours[torch.where(nearest < EMPTY, nearest & 0xFFFFFFFF, 0)],
        depth_spread=unknown,
        rgb_spread=unknown,
    )
