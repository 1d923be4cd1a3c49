"""Fuse the static scene of a moving exo camera from key frames that vote on each surface."""

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
EMPTY_PIXEL = torch.iinfo(torch.int64).max
WIDEST_TOLERANCE = 0.12
TOLERANCE_FACTOR = 3.0
"""The tolerance is so many times the typical difference between the maps of two key frames."""
ONE_SURFACE = 0.02  # relative depth between pixels that are mixed
PAST_TOLERANCES, SAME_TOLERANCES = 2.0, 2.5
"""Tolerances by which a key frame sees past a point; within which it has the surface already."""
OTHER_COLOUR, COLOUR_AROUND = 40.0, 5
"""Mean difference of 0...255 from which it isn't the same surface; px that colours are averaged
over, since outlines never fall on the same pixels."""


@frozen
class _KeyFrame:
    """Maps [H, W] of one key frame."""

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
    """Fuse key frames of a moving camera to static points in the world.

    Also returns the depth tolerance used and the spread of the maps.

    A pixel's depth is the mean of all key frames that see its surface. It is left out where
    more of them see past it, or see another colour there, as where somebody has left, and where
    an earlier key frame has the surface already.
    """
    key_frames, voted_keys, point_sets = [], [], []
    for t, depth, rgb in static_samples(clip.rgb, clip.depth.depth_m, masks, MAX_KEY_FRAMES):
        smooth = torch.nn.functional.avg_pool2d(
            rgb.permute(2, 0, 1).float(), COLOUR_AROUND, 1, COLOUR_AROUND // 2
        ).permute(1, 2, 0)
        key_frames.append(
            _KeyFrame(frame=t, w2c=clip.depth.exo.at(t), depth_m=depth, rgb=rgb, smooth=smooth)
        )
    map_spread = _map_difference(key_frames, clip)
    tolerance = max(SAME_SURFACE, min(WIDEST_TOLERANCE, TOLERANCE_FACTOR * map_spread))
    for key in key_frames:
        progress(len(voted_keys), len(key_frames), "fuse the moving camera's key frames")
        key = _correct_by_votes(
            key, [other_key for other_key in key_frames if other_key is not key], clip, tolerance
        )
        new_mask = torch.isfinite(key.depth_m)
        for earlier_key in voted_keys:
            new_mask &= ~(
                _compare_depth(key, earlier_key, clip)[0].abs() <= SAME_TOLERANCES * tolerance
            )
        point_sets.append(clip.lift(key.frame, key.depth_m, key.rgb, new_mask))
        voted_keys.append(key)
    progress(len(key_frames), len(key_frames), "fuse the moving camera's key frames")
    return PointSet.join(*point_sets), tolerance, map_spread


def _compare_depth(key: _KeyFrame, other: _KeyFrame, clip: ClipFrames) -> tuple[Tensor, Tensor]:
    """Look up the pixels of one key frame in another key frame's depth map.

    Returns:
        (logarithm [H, W] of the other's depth over that of the point, NaN where it isn't known;
        the other's pixel [H, W] int64).
    """
    shape = key.depth_m.shape
    camera = clip.depth.exo.camera
    points = transform(
        compose(other.w2c, invert(key.w2c)).float(),
        (clip.rays * key.depth_m[..., None]).flatten(0, 1),
    )
    uv, pixel, valid = camera.look_up(points)
    grid = (uv / (uv.new_tensor(camera.stored_size) - 1) * 2 - 1)[None, None]
    inverse_depth = torch.nn.functional.grid_sample(
        other.depth_m.reciprocal()[None, None], grid, align_corners=True
    ).view(-1)
    nearest_depth = other.depth_m.flatten()[pixel]
    # Inverse depth is linear on a plane; across an edge it is nobody's.
    is_smooth = (inverse_depth * nearest_depth - 1).abs() < ONE_SURFACE
    log_ratios = torch.log(torch.where(is_smooth, 1 / inverse_depth, nearest_depth) / points[:, 2])
    return torch.where(valid, log_ratios, torch.nan).view(shape), pixel.view(shape)


def _map_difference(key_frames: list[_KeyFrame], clip: ClipFrames) -> float:
    """Measure the typical difference between the depth maps of neighbouring key frames."""
    differences = torch.zeros(0)
    for key, next_key in zip(key_frames[:-1], key_frames[1:], strict=True):
        log_ratios = _compare_depth(key, next_key, clip)[0][::4, ::4].abs()
        differences = torch.cat((differences, log_ratios[log_ratios < 2 * WIDEST_TOLERANCE]))
    return float(differences.median()) if len(differences) else 0.0


def _correct_by_votes(
    key: _KeyFrame, other_keys: list[_KeyFrame], clip: ClipFrames, tolerance: float
) -> _KeyFrame:
    """Correct a key frame's depth and colour by the votes of the other key frames."""
    weight, shift = torch.ones_like(key.depth_m), torch.zeros_like(key.depth_m)
    colour = key.rgb.float()
    vote_balance = torch.zeros_like(weight)
    for other_key in other_keys:
        log_ratios, pixel = _compare_depth(key, other_key, clip)
        is_same_colour = (other_key.smooth.view(-1, 3)[pixel] - key.smooth).abs().mean(
            -1
        ) < OTHER_COLOUR
        is_same_depth = log_ratios.abs() <= tolerance
        agree_mask = is_same_depth & is_same_colour
        deny_mask = (is_same_depth & ~is_same_colour) | (log_ratios > PAST_TOLERANCES * tolerance)
        vote_balance += agree_mask.float() - deny_mask.float()
        vote_weight = torch.where(agree_mask, (1 - (log_ratios / tolerance).square()).square(), 0.0)
        weight += vote_weight
        shift += vote_weight * log_ratios.nan_to_num(0.0)
        colour += vote_weight[..., None] * other_key.rgb.view(-1, 3)[pixel]
    depth = torch.where(vote_balance < 0, torch.nan, key.depth_m * torch.exp(shift / weight))
    return replace(key, depth_m=depth, rgb=(colour / weight[..., None] + 0.5).to(torch.uint8))


def cloud_background(cloud: PointSet, exo: CameraPath, frame: int) -> StaticBackground:
    """Draw the static points as one frame's camera sees them, each on 3 x 3 pixels.

    The spreads are unknown.
    """
    width, height = exo.camera.stored_size
    buffer = torch.full((height * width,), EMPTY_PIXEL)
    xyz = transform(exo.at(frame), cloud.xyz.double())
    _, pixel, in_picture = exo.camera.look_up(xyz)
    kept_points = in_picture.nonzero()[:, 0]
    # The bits of a positive float order like its value: depth above, point index below, one
    # minimum gives both. Those of an empty pixel are NaN.
    depth_and_index = (
        xyz[kept_points, 2].float().contiguous().view(torch.int32).long() << 32
    ) | kept_points
    buffer.scatter_reduce_(0, pixel[kept_points], depth_and_index, "amin")
    padded = torch.nn.functional.pad(buffer.view(height, width), (1, 1, 1, 1), value=EMPTY_PIXEL)
    nearest = padded.unfold(0, 3, 1).unfold(1, 3, 1).amin((-1, -2))
    unknown_depth = torch.full((height, width), torch.nan)
    colours = torch.nn.functional.pad(cloud.rgb, (0, 0, 0, 1))  # of a cloud without points, too
    return StaticBackground(
        depth_m=(nearest >> 32).to(torch.int32).view(torch.float32),
        rgb=colours[torch.where(nearest < EMPTY_PIXEL, nearest & 0xFFFFFFFF, 0)],
        depth_spread=unknown_depth,
        rgb_spread=unknown_depth,
    )
