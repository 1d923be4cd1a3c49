"""Depth as a picture in colour: near is warm, far is cold, invalid is black."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .colour_scale import colour_stops, colour_table, round_values
from .errors import EgoXInputError

SAMPLE = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthScale:
    """Which inverse depths the ends of the colour map stand for, 1/m."""

    low: float  # cold
    high: float  # warm

    def legend(self) -> dict[str, Any]:
        """Colours from far to near, and round distances in metres with their place (0...1) among them."""
        span = max(self.high - self.low, 1e-6)
        metres = round_values(1 / max(self.high, 1e-6), 1 / max(self.low, 1e-6))
        ticks = [{"at": min(max((1 / m - self.low) / span, 0.0), 1.0), "label": f"{m:.3g} m"} for m in metres]
        return {"colours": colour_stops(), "ticks": ticks}


def depth_scale(depth_m: Tensor) -> DepthScale:  # [T, H, W] metres, NaN invalid
    """1 and 99 % quantiles of the whole clip's inverse depth.

    Raises:
        EgoXInputError: no valid pixel.
    """
    flat = depth_m.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLE)].float().cpu().numpy()
    sample = np.reciprocal(sample[np.isfinite(sample)])
    if not sample.size:
        raise EgoXInputError("depth", got="no valid pixel", expected="some", fix="check the depth's source")
    low, high = np.quantile(sample, [0.01, 0.99]).astype(np.float32)
    return DepthScale(low=float(low), high=float(high))


def depth_preview(
    depth_m: Tensor,  # [T, H, W] metres, NaN invalid
    scale: DepthScale | None = None,  # None: the clip's own
) -> Tensor:  # [T, H, W, 3] float32 0...1
    """Inverse depth through a colour map, scaled by the whole clip so that it can't flicker.

    Raises:
        EgoXInputError: no valid pixel.
    """
    scale = depth_scale(depth_m) if scale is None else scale
    low, span = np.float32(scale.low), max(scale.high - scale.low, 1e-6)
    inverse = np.reciprocal(depth_m.detach().float().cpu().numpy())
    colours = colour_table()
    pictures = np.empty((*inverse.shape, 3), np.float32)
    for frame, picture in zip(inverse, pictures, strict=True):
        valid = np.isfinite(frame)
        grey = np.clip((np.where(valid, frame, low) - low) * np.float32(255 / span), 0, 255).astype(np.uint8)
        np.take(colours, grey, axis=0, out=picture, mode="clip")
        picture[~valid] = 0
    return torch.from_numpy(pictures)
