"""Fuse a fixed exo camera's frames into one static background of depth and colour.

A pixel shows the background whenever nothing moves in front of it. So the background is the
farthest of the depths that a pixel has often enough over time (a flying pixel or a flicker of the
depth model doesn't last). Depth is a robust mean around it; colours are averaged over the same
samples. The released renderer takes the plain mean instead."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..arrays import as_uint8
from ..frame_store import sample_frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..types import RELEASED_RANGE
from .edges import depth_range

SAME_SURFACE = 0.04
"""Relative depth difference within which two samples of a pixel show the same surface."""
MAX_SAMPLES = 49
"""Frames that are fused, spread evenly over the clip: more add little and would make memory grow
with the clip."""
MIN_SHARE = 0.2
"""Share of the samples in which a depth must come back to be background; a person who walks through
covers less."""
MEAN_SHIFT_STEPS = 4
"""The farthest window starts up to 1.5 standard deviations too far; each step to the mean of the
samples around it at least halves that."""
BAND_PIXELS = 60_000
"""Pixels fused at once: 49 samples of depth and colour of that many are some 50 MB."""
COLOUR_STEPS = 2
"""Reweightings of the colour mean."""
COLOUR_NOISE = 9.0
"""Least variance of colour that the weights assume: three levels of 0...255."""
COLOUR_CUT = 4.0
"""Cauchy weights 1 / (1 + 4 d^2 / variance): a sample one standard deviation off counts a fifth."""


@frozen
class StaticBackground:
    """Static background of a fixed exo camera: depth and colour of each pixel without anything that
    moves."""

    depth_m: Tensor  # [H, W] float32 z depth, NaN where the background is never visible
    rgb: Tensor  # [H, W, 3] uint8
    # [H, W] float32, relative standard deviation of depth over time: the depth model's flicker
    depth_spread: Tensor
    rgb_spread: Tensor  # [H, W] float32, standard deviation of colour over time, 0...255


def static_samples(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Sequence[Tensor] | Tensor,  # T of [H, W] z depth, NaN invalid
    masks: Sequence[Tensor] | None,  # T of [H, W] bool: what moves or is sky
    limit: int,
) -> Iterator[
    tuple[int, Tensor, Tensor]
]:  # frame index, depth [H, W] NaN where masked, colours [H, W, 3] uint8
    """Yield depth and colours of at most ``limit`` evenly spaced frames, with moving pixels set to
    NaN."""
    for t in sample_frames(len(depth_m), limit):
        depth = depth_m[t].float()
        yield (
            t,
            depth if masks is None else depth.masked_fill(masks[t].bool(), torch.nan),
            as_uint8(frames[t]),
        )


def fuse_static(
    frames: Sequence[Tensor]
    | Tensor,  # T of [H, W, 3], 0...1 or uint8; only single frames are taken from it
    depth_m: Sequence[Tensor] | Tensor,  # T of [H, W] z depth, NaN invalid
    masks: Sequence[Tensor]
    | None = None,  # T of [H, W] bool of what moves or is sky: never background
    *,
    progress: Progress = no_progress,
) -> StaticBackground:
    """Fuse the frames of a fixed camera to one static background."""
    depths, colours = [], []
    for _, depth, rgb in static_samples(frames, depth_m, masks, MAX_SAMPLES):
        progress(
            len(depths), min(len(depth_m), MAX_SAMPLES), "read frames for the static background"
        )
        depths.append(depth)
        colours.append(rgb)
    height, width = depths[0].shape
    band_rows = max(1, BAND_PIXELS // width)
    fused_bands = []
    for top in range(0, height, band_rows):
        progress(top, height, "fuse the static background")
        rows = slice(top, min(top + band_rows, height))
        fused_bands.append(
            _fuse_band(
                torch.stack([depth_map[rows] for depth_map in depths]),
                torch.stack([colour_map[rows] for colour_map in colours]),
            )
        )
    progress(height, height, "fuse the static background")
    depth, rgb, depth_spread, rgb_spread = (
        torch.cat(part) for part in zip(*fused_bands, strict=True)
    )
    return StaticBackground(
        depth_m=depth, rgb=rgb, depth_spread=depth_spread, rgb_spread=rgb_spread
    )


def mean_background(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Sequence[Tensor] | Tensor,  # T of [H, W] z depth, NaN invalid
    moves: Callable[[int], Tensor],  # [H, W] bool of one frame: what moves or is sky
    *,
    progress: Progress = no_progress,
) -> tuple[
    Tensor, Tensor
]:  # depth [H, W] float32, NaN where nothing counts; colours [H, W, 3] uint8
    """Average the static background over time as the released renderer does.

    What stands in front for a part of the clip is averaged in, and a depth model's flicker averages
    out."""
    height, width = depth_m[0].shape
    depth_sum, sample_count = (
        torch.zeros(height, width, dtype=torch.float64),
        torch.zeros(height, width),
    )
    colour_sum = torch.zeros(height, width, 3)
    for t in range(len(depth_m)):
        progress(t, len(depth_m), "average the static background")
        depth = depth_m[t].float()
        valid_mask = (depth_range(depth) < RELEASED_RANGE) & ~moves(t)
        depth_sum += torch.where(valid_mask, depth, 0.0)
        colour_sum += as_uint8(frames[t]) * valid_mask[..., None]
        sample_count += valid_mask
    progress(len(depth_m), len(depth_m), "average the static background")
    mean = torch.where(sample_count > 0, depth_sum.float() / sample_count.clamp_min(1), torch.nan)
    return mean, (colour_sum / sample_count.clamp_min(1)[..., None] + 0.5).to(torch.uint8)


def _fuse_band(
    depth_m: Tensor,  # [K, h, W]
    rgb: Tensor,  # [K, h, W, 3] uint8
) -> tuple[Tensor, ...]:
    """Compute the fields of :class:`StaticBackground` for one band of rows."""
    sample_count = depth_m.shape[0]
    valid = torch.isfinite(depth_m)
    depth = depth_m.nan_to_num(float("inf"))
    centre_depth = _farthest_window(depth, valid, max(1, round(MIN_SHARE * sample_count)))
    for _ in range(MEAN_SHIFT_STEPS):
        near_mask = valid & ((depth_m - centre_depth).abs() <= SAME_SURFACE * centre_depth)
        centre_depth = _weighted_mean(depth_m, near_mask)
    near_mask = valid & ((depth_m - centre_depth).abs() <= SAME_SURFACE * centre_depth)

    colours = rgb.float()
    mean_colour = _weighted_mean(colours, near_mask[..., None])
    # A hand just above the table has the table's depth but not its colour.
    weight = near_mask.float()[..., None]
    for _ in range(COLOUR_STEPS):
        colour_distance = (colours - mean_colour).square().sum(-1, keepdim=True)
        variance = _weighted_mean(colour_distance, near_mask[..., None]).clamp_min(COLOUR_NOISE)
        weight = near_mask[..., None] / (1.0 + COLOUR_CUT * colour_distance / variance)
        mean_colour = (weight * colours).sum(0) / weight.sum(0).clamp_min(1e-9)
    rgb_spread = _weighted_mean((colours - mean_colour).square().mean(-1), weight[..., 0]).sqrt()
    depth_spread = _weighted_mean((depth_m / centre_depth - 1).square(), near_mask).sqrt()
    rgb_out = torch.where(
        torch.isfinite(centre_depth)[..., None], mean_colour, colours[sample_count // 2]
    )
    return centre_depth, (rgb_out + 0.5).clamp(0, 255).to(torch.uint8), depth_spread, rgb_spread


def _farthest_window(depth: Tensor, valid: Tensor, count: int) -> Tensor:
    """Find the farthest depth on which ``count`` samples agree, or else their median.

    NaN where no sample is valid."""
    sorted_depth = depth.sort(dim=0).values  # invalid samples are infinite and come last
    valid_count = valid.sum(0)
    count = min(count, depth.shape[0])
    window_start = sorted_depth[: depth.shape[0] - count + 1]
    window_end = sorted_depth[count - 1 :]
    window_mask = torch.isfinite(window_end) & (window_end <= window_start * (1 + SAME_SURFACE))
    position = torch.arange(window_start.shape[0], device=depth.device)[:, None, None]
    start = torch.where(window_mask, position, -1).amax(0)
    median = (valid_count - 1).clamp_min(0) // 2
    index = torch.where(start >= 0, start + count // 2, median)
    centre_depth = sorted_depth.gather(0, index[None])[0]
    return torch.where(valid_count > 0, centre_depth, torch.full_like(centre_depth, float("nan")))


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Compute the weighted mean over samples, NaN where all weights are 0."""
    weight = weight.float()
    return (values.nan_to_num(0.0) * weight).sum(0) / weight.sum(0).where(
        weight.sum(0) > 0, torch.nan
    )
