"""Maps as pictures: depth through the one colour map of all pictures of numbers, with its legend,
and coverage.

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
    """Make Turbo's colours: cold for low values, warm for high ones."""
    greys = np.arange(256, dtype=np.uint8).reshape(256, 1)
    return (
        cv2.applyColorMap(greys, cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1].astype(np.float32)
        / 255
    )


def colour_stops() -> list[str]:
    """List the map's colours as evenly spaced CSS colours, from low to high."""
    table = colour_table()
    entries = np.linspace(0, len(table) - 1, STOPS).round().astype(int)
    return [
        "#{:02x}{:02x}{:02x}".format(*(round(255 * float(c)) for c in table[i])) for i in entries
    ]


def round_values(low: float, high: float) -> list[float]:
    """Choose at most six well spread values such as 1, 2 or 5 times a power of ten between two
    positive ends.

    For scales on which equal ratios matter (depth); where fewer than two fit, the ends themselves.
    """
    low, high = min(low, high), max(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        values = [m * 10.0**e for e in decades for m in multiples if low <= m * 10.0**e <= high]
        if len(values) >= 4:
            break
    if len(values) < 2:
        return [low, high]
    while len(values) > 6:
        values = values[::2]
    return values


@frozen
class DepthScale:
    """Inverse depths at the ends of the colour map, 1/m."""

    low: float  # cold
    high: float  # warm

    def legend(self) -> dict[str, Any]:
        """List the colours from far to near, and round distances in metres with their place (0...1)
        among them."""
        span = max(self.high - self.low, 1e-6)
        metres = round_values(1 / max(self.high, 1e-6), 1 / max(self.low, 1e-6))
        ticks = [
            {"at": min(max((1 / m - self.low) / span, 0.0), 1.0), "label": f"{m:.3g} m"}
            for m in metres
        ]
        return {"colours": colour_stops(), "ticks": ticks}


def depth_scale(depth_m: Tensor) -> DepthScale | None:  # [T, H, W] metres, NaN invalid
    """Compute the 1 and 99 % quantiles of the whole clip's inverse depth, or None without a valid
    pixel."""
    flat = depth_m.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLE)].float().cpu().numpy()
    sample = np.reciprocal(sample[np.isfinite(sample)])
    if not sample.size:
        return None
    low, high = np.quantile(sample, [0.01, 0.99]).astype(np.float32)
    return DepthScale(low=float(low), high=float(high))


def depth_preview(
    depth_m: Tensor,  # [T, H, W] metres, NaN invalid
) -> tuple[Tensor, dict[str, Any] | None]:  # [T, H, W, 3] float32 0...1
    """Draw inverse depth in colour, with its legend.

    It is scaled by the whole clip, so that it can't flicker. Black and without a legend if no pixel
    is valid, as in a prior that sees nothing.
    """
    scale = depth_scale(depth_m)
    if scale is None:
        return depth_m.new_zeros((*depth_m.shape, 3)), None
    low, span = np.float32(scale.low), max(scale.high - scale.low, 1e-6)
    colours = colour_table()
    pictures = np.empty((*depth_m.shape, 3), np.float32)
    for depth, picture in zip(depth_m, pictures, strict=True):
        frame = np.reciprocal(depth.detach().float().cpu().numpy())
        valid = np.isfinite(frame)
        grey = np.clip((np.where(valid, frame, low) - low) * np.float32(255 / span), 0, 255).astype(
            np.uint8
        )
        np.take(colours, grey, axis=0, out=picture, mode="clip")
        picture[~valid] = 0
    return torch.from_numpy(pictures), scale.legend()


def coverage_preview(
    rgb: Tensor,  # [T, H, W, 3] 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Drawn:  # [T, H, W, 3] float32 0...1
    """Draw the prior, with diagonal magenta stripes where no point landed."""
    count, height, width = coverage.shape
    diagonal = torch.arange(height)[:, None] + torch.arange(width)[None]
    stripes = (diagonal // HATCH_PX % 2).float()[..., None] * 0.35 + 0.45
    hatch = stripes * torch.tensor(UNCOVERED)

    def draw(frame: int) -> Tensor:
        return torch.where(coverage[frame, ..., None], rgb[frame].float(), hatch.to(rgb.device))

    return Drawn(shape=(count, height, width, 3), draw=draw)
