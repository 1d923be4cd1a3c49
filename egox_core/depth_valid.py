"""Which depth pixels count, and when there are too few of them."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import EgoXInputError

MIN_VALID_SHARE = 0.05
"""Of a frame's pixels; under it a frame is refused: a scene of scattered specks is no scene."""


def mark_invalid(depth: Tensor) -> Tensor:
    """Depth (or disparity) [..., H, W] float32 with NaN for what is NaN, infinite, zero or negative."""
    depth = depth.float()
    return torch.where(torch.isfinite(depth) & (depth > 0), depth, depth.new_tensor(float("nan")))


def check_valid_shares(shares: Tensor, name: str) -> float:
    """The invalid share of the whole clip, from the valid share of each frame [T]; ``name`` stands in messages.

    Raises:
        EgoXInputError: no valid pixel at all, or a frame with under 5 %.
    """
    if len(shares) == 0 or float(shares.max()) == 0:
        raise EgoXInputError(f"depth {name}", got="no valid pixel in the clip (all NaN, infinite, zero or negative)",
                             expected="positive, finite depth", fix="check the depth source and its unit")
    worst = int(shares.argmin())
    if float(shares[worst]) < MIN_VALID_SHARE:
        raise EgoXInputError(f"depth {name}", got=f"frame {worst} with {100 * float(shares[worst]):.1f} % valid pixels",
                             expected=f"at least {100 * MIN_VALID_SHARE:.0f} % in every frame",
                             fix="leave the frame out, or take another depth source")
    return 1 - float(shares.double().mean())
