"""Where a picture of surfaces shows one surface alone."""

from __future__ import annotations

import torch
from torch import Tensor


def away_from_outlines(
    index: Tensor,  # [H, W] number of the solid at each pixel, or bool
    margin: int = 2,  # px
) -> Tensor:  # [H, W] bool
    """Pixels with nothing but their own solid within ``margin`` px."""
    solids = index.float()[None, None]
    size = 2 * margin + 1
    highest = torch.nn.functional.max_pool2d(solids, size, 1, margin)
    lowest = -torch.nn.functional.max_pool2d(-solids, size, 1, margin)
    return (highest == lowest)[0, 0]
