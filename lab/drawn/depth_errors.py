"""Add errors to exact depth that are like those of depth networks.

A network's error is smooth: neighbouring pixels are off alike, so independent noise from pixel to
pixel says nothing of how real depth fares. How far off: mean relative errors of single-picture
networks on rooms are between 3 and 6 % (MoGe and Depth Anything 3 at the lower end once their scale
is fitted, UniDepth and the metric Depth Anything at the
upper: .056 on NYUv2, its README). The defaults are the lower end, for depth whose scale is aligned
    before it is used. How wide outlines are and how far the scale flickers is published nowhere in
    these terms; both are judgement: a sharp network's outline takes two to three pixels, and
    per-frame scales of one standing scene differ by about a per cent."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.types import DepthVideo

CORRELATION_HEIGHTS = 0.25  # picture heights over which the slow error falls to e^-1/2 of itself
# seconds over which it does: what stands still is mistaken alike in neighbouring frames
CORRELATION_S = 1.0
LEAST_INVERSE = 0.01  # 1/m, of depth that is bent to beyond all
FALLBACK_FPS = 30.0  # of depth without times


@frozen
class DepthErrors:
    """Sizes of the errors that are added to a depth video.

    Raises:
        EgoXInputError: a negative amount, or one that is no number.
    """

    low_frequency: float = 0.03  # standard deviation of a smooth field of the logarithm of depth
    # px of the depth map; near and far mix at outlines with a spread of half of it
    bleed_px: float = 2.0
    # standard deviation of the logarithm of a frame's scale, drawn anew in every frame
    flicker: float = 0.01
    # standard deviation of a shift of inverse depth, in shares of its median: it slants all
    # surfaces towards the camera or away, as a wrong lens does
    bend: float = 0.0

    def __post_init__(self) -> None:
        amounts = (self.low_frequency, self.bleed_px, self.flicker, self.bend)
        if not all(math.isfinite(amount) and amount >= 0 for amount in amounts):
            raise EgoXInputError(
                "depth errors",
                got=f"low_frequency, bleed_px, flicker, bend = {amounts}",
                expected="finite numbers, 0 or more",
                fix="0 switches an error off",
            )


def add_depth_errors(depth: DepthVideo, errors: DepthErrors, seed: int) -> DepthVideo:
    """Add a depth network's typical errors to a clip's depth.

    The error's pattern belongs to the seed alone: other amounts scale it, another size of the
    picture resamples it. Masks and cameras stay true, unknown depth stays unknown.

    Args:
        depth: exact z depth.
        seed: of the slow field and of the flicker.
    """
    depth_maps, frames = depth.depth_m, len(depth.depth_m)
    height, width = depth_maps.shape[1:]
    times_s = (
        torch.arange(frames) / FALLBACK_FPS
        if depth.frames.counted
        else depth.frames.times_s - depth.frames.times_s[0]
    )
    correlation_px = CORRELATION_HEIGHTS * height
    mixing_weights = [
        _correlation_weights(times_s.float(), CORRELATION_S),
        _correlation_weights(torch.arange(height).float(), correlation_px),
        _correlation_weights(torch.arange(width).float(), correlation_px),
    ]
    random_generator = torch.Generator().manual_seed(seed)
    scale = errors.flicker * torch.randn(frames, generator=random_generator)
    time_weights, row_weights, column_weights = mixing_weights
    white_noise = torch.randn(
        [len(weights[0]) for weights in mixing_weights], generator=random_generator
    )
    coarse_errors = torch.einsum("ti,ijk->tjk", time_weights, white_noise)
    wrong_depth = [
        _blur_depth(frame.float(), errors.bleed_px)
        * (
            errors.low_frequency * (row_weights @ coarse_error @ column_weights.T) + error_shift
        ).exp()
        for frame, coarse_error, error_shift in zip(depth_maps, coarse_errors, scale, strict=True)
    ]
    error_shift = (
        errors.bend
        * float(torch.randn((), generator=random_generator))
        / float(depth_maps.nanmedian())
    )
    wrong_depth = [1 / (1 / frame + error_shift).clamp_min(LEAST_INVERSE) for frame in wrong_depth]
    return replace(depth, depth_m=torch.stack(wrong_depth).to(depth_maps.dtype))


def _correlation_weights(
    positions: Tensor,  # [N], from 0 on
    # In the unit of the places.
    correlation_length: float,
) -> Tensor:  # [N, K]
    """Compute weights that turn independent normal numbers into smoothly correlated ones."""
    last_knot = math.ceil(2 * (float(positions[-1]) + 0.5) / correlation_length)
    knot_positions = torch.arange(-4, last_knot + 5) * (correlation_length / 2)
    weights = (-(((positions[:, None] - knot_positions) / correlation_length) ** 2)).exp()
    return weights / weights.norm(dim=1, keepdim=True)


def _blur_depth(
    depth_m: Tensor,  # [H, W], NaN where unknown
    bleed_px: float,
) -> Tensor:  # [H, W]
    """Blur depth by averaging 1/z over each pixel's neighbourhood.

    A plane's 1/z is linear in the picture, so surfaces stay as they are and only outlines soften;
    the near side weighs more, so silhouettes swell, as those of networks that regress disparity do.
    """
    if bleed_px == 0:
        return depth_m
    radius_px = math.ceil(1.5 * bleed_px)
    offsets = torch.arange(-radius_px, radius_px + 1)
    weights = (-0.5 * (offsets / (bleed_px / 2)) ** 2).exp()
    valid_mask = torch.isfinite(depth_m) & (depth_m > 0)
    inverse_and_mask = torch.stack((torch.where(valid_mask, 1 / depth_m, 0.0), valid_mask.float()))[
        :, None
    ]
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        blur_kernel = (weights / weights.sum()).reshape(shape)
        inverse_and_mask = torch.nn.functional.conv2d(inverse_and_mask, blur_kernel, padding="same")
    return torch.where(valid_mask, inverse_and_mask[1, 0] / inverse_and_mask[0, 0], depth_m)
