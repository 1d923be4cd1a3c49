"""Quality inside and outside the prior's coverage, by distance to its edge, and over time."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.metrics.image import region_psnr, squared_error

EDGE, NEAR = 1 / 32, 1 / 8
"""Shares of the picture's height."""
PRIOR_BLACK = 16 / 255
"""A pixel of the prior's video counts as covered where its brightest channel is above this. Holes are black,
lifted by compression at their rims: 0.4 to 1.3 % of the picture too much on three synthetic takes of 128 px."""


def coverage_of_picture(
    prior: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] bool
    """Coverage read off the prior's picture."""
    return prior.amax(dim=-1) > PRIOR_BLACK


def distance_to_edge(
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W] float32 px
    """Distance to the nearest pixel of the other kind; infinite where there is none."""
    distances = []
    for frame in coverage.cpu().numpy():
        if frame.all() or not frame.any():
            distances.append(np.full(frame.shape, np.inf, np.float32))
            continue
        inside, outside = (
            cv2.distanceTransform(
                np.ascontiguousarray(part, dtype=np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
            )
            for part in (frame, ~frame)
        )
        distances.append(np.where(frame, inside, outside))
    return torch.from_numpy(np.stack(distances))


def region_rows(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
    ssim: Tensor,  # [T, H, W] of image.ssim_map
    coverage: Tensor,  # [T, H, W] bool
) -> dict[str, float | None]:
    """PSNR and SSIM by region; None where a region is empty.

    Raises:
        EgoXInputError: a coverage of another size.
    """
    if coverage.shape != truth.shape[:3]:
        raise EgoXInputError(
            "prior's coverage",
            got=tuple(coverage.shape),
            expected=tuple(truth.shape[:3]),
            fix="render the prior at the size and length of the true ego video",
        )
    distance = distance_to_edge(coverage) / truth.shape[1]
    regions = {
        "psnr_inside": coverage,
        "psnr_outside": ~coverage,
        "psnr_inside_deep": coverage & (distance > EDGE),
        "psnr_inside_edge": coverage & (distance <= EDGE),
        "psnr_outside_edge": ~coverage & (distance <= EDGE),
        "psnr_outside_near": ~coverage & (distance > EDGE) & (distance <= NEAR),
        "psnr_outside_far": ~coverage & (distance > NEAR),
    }
    error = squared_error(generated, truth)
    rows = {name: region_psnr(error, region) for name, region in regions.items()}
    rows["ssim_inside"] = float(ssim[coverage].mean()) if bool(coverage.any()) else None
    rows["ssim_outside"] = float(ssim[~coverage].mean()) if bool((~coverage).any()) else None
    rows["coverage"] = float(coverage.double().mean())
    return rows


def time_rows(
    psnr: Tensor,  # [T] dB
) -> dict[str, float | None]:
    """Means over the three thirds of the clip; None for a clip of fewer than three frames."""
    parts = torch.tensor_split(psnr.double(), 3)
    return {
        name: float(part.mean()) if len(part) else None
        for name, part in zip(("psnr_begin", "psnr_middle", "psnr_end"), parts, strict=True)
    }
