"""Draw depth and coverage maps as coloured pictures, with the legend of the colours.

Near is warm, far is cold, invalid is black. Where a prior shows nothing it is tinted, so that a
black scene and an empty picture can be distinguished."""

import math
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..frozen import frozen
from .sheets import Drawn

STOPS = 16
SAMPLE = 200_000
UNCOVERED = (0.85, 0.10, 0.55)
"""A magenta that few scenes contain; hatched as well, for those who don't see the colour."""
HATCH_PX = 8


@cache
def colour_table() -> np.ndarray:  # [256, 3] float32 0...1, RGB
    """Make the Turbo colour map, cold for low values and warm for high ones."""
    greys = np.arange(256, dtype=np.uint8).reshape(256, 1)
    return (
        cv2.applyColorMap(greys, cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1].astype(np.float32)
        / 255
    )


def colour_stops() -> list[str]:
    """List evenly spaced CSS colours of the colour map, from low to high."""
    table = colour_table()
    table_indices = np.linspace(0, len(table) - 1, STOPS).round().astype(int)
    return [
        "#{:02x}{:02x}{:02x}".format(*(round(255 * float(channel)) for channel in table[entry]))
        for entry in table_indices
    ]


def round_values(low: float, high: float) -> list[float]:
    """Choose up to six round numbers between two positive limits, for the labels of a scale.

    For scales on which equal ratios matter (depth); where fewer than two fit, the ends themselves.
    """
    low, high = min(low, high), max(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        values = [
            multiple * 10.0**exponent
            for exponent in decades
            for multiple in multiples
            if low <= multiple * 10.0**exponent <= high
        ]
        if len(values) >= 4:
            break
    if len(values) < 2:
        return [low, high]
    while len(values) > 6:
        values = values[::2]
    return values


@frozen
class DepthScale:
    """Inverse depths (1/m) at the two ends of the colour map."""

    low: float  # cold
    high: float  # warm

    def legend(self) -> dict[str, Any]:
        """List the colours from far to near, with round distances in metres and their positions
        (0...1)."""
        inverse_range = max(self.high - self.low, 1e-6)
        label_distances = round_values(1 / max(self.high, 1e-6), 1 / max(self.low, 1e-6))
        ticks = [
            {
                "at": min(max((1 / distance - self.low) / inverse_range, 0.0), 1.0),
                "label": f"{distance:.3g} m",
            }
            for distance in label_distances
        ]
        return {"colours": colour_stops(), "ticks": ticks}


def depth_scale(depth_m: Tensor) -> DepthScale | None:  # [T, H, W] metres, NaN invalid
    """Compute the colour scale of a clip's depth from quantiles of inverse depth, or None without
    valid pixels."""
    all_depth = depth_m.detach().reshape(-1)
    sample = all_depth[:: max(1, all_depth.numel() // SAMPLE)].float().cpu().numpy()
    sample = np.reciprocal(sample[np.isfinite(sample)])
    if not sample.size:
        return None
    far_inverse, near_inverse = np.quantile(sample, [0.01, 0.99]).astype(np.float32)
    return DepthScale(low=float(far_inverse), high=float(near_inverse))


def depth_preview(
    depth_m: Tensor,  # [T, H, W] metres, NaN invalid
) -> tuple[Tensor, dict[str, Any] | None]:  # [T, H, W, 3] float32 0...1
    """Draw inverse depth as coloured pictures, with the legend.

    It is scaled by the whole clip, so that it can't flicker. Black and without a legend if no pixel
    is valid, as in a prior that sees nothing.
    """
    scale = depth_scale(depth_m)
    if scale is None:
        return depth_m.new_zeros((*depth_m.shape, 3)), None
    far_inverse = np.float32(scale.low)
    span = max(scale.high - scale.low, 1e-6)
    colours = colour_table()
    pictures = np.empty((*depth_m.shape, 3), np.float32)
    for depth, picture in zip(depth_m, pictures, strict=True):
        inverse_depth = np.reciprocal(depth.detach().float().cpu().numpy())
        valid = np.isfinite(inverse_depth)
        grey = np.clip(
            (np.where(valid, inverse_depth, far_inverse) - far_inverse) * np.float32(255 / span),
            0,
            255,
        ).astype(np.uint8)
        np.take(colours, grey, axis=0, out=picture, mode="clip")
        picture[~valid] = 0
    return torch.from_numpy(pictures), scale.legend()


def coverage_preview(
    rgb: Tensor,  # [T, H, W, 3] 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Drawn:  # [T, H, W, 3] float32 0...1
    """Draw the prior, with diagonal magenta stripes where it has no points."""
    count, height, width = coverage.shape
    diagonal = torch.arange(height)[:, None] + torch.arange(width)[None]
    stripes = (diagonal // HATCH_PX % 2).float()[..., None] * 0.35 + 0.45
    hatch = stripes * torch.tensor(UNCOVERED)

    def draw(frame: int) -> Tensor:
        return torch.where(coverage[frame, ..., None], rgb[frame].float(), hatch.to(rgb.device))

    return Drawn(shape=(count, height, width, 3), draw=draw)
