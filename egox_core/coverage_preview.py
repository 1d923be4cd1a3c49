"""Where a prior shows something: the uncovered part tinted, so that black scene and empty picture can be told apart."""

from __future__ import annotations

import torch
from torch import Tensor

UNCOVERED = (0.85, 0.10, 0.55)
"""A magenta that few scenes contain; hatched as well, for those who don't see the colour."""
HATCH_PX = 8


def coverage_preview(
    rgb: Tensor,  # [T, H, W, 3] 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float32 0...1
    """The prior, diagonal magenta stripes where no point landed."""
    height, width = coverage.shape[1:]
    diagonal = torch.arange(height)[:, None] + torch.arange(width)[None]
    stripes = (diagonal // HATCH_PX % 2).float()[..., None] * 0.35 + 0.45
    hatch = stripes * torch.tensor(UNCOVERED)
    return torch.where(coverage[..., None], rgb.float(), hatch.to(rgb.device))


def covered_share(coverage: Tensor) -> list[float]:  # [T, H, W] bool
    """Percent of each frame that a point covers."""
    return (100 * coverage.float().mean(dim=(1, 2))).tolist()
