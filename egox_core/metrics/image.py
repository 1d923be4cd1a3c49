"""PSNR and SSIM of frames, by torchmetrics."""

from __future__ import annotations

import math
from types import ModuleType

import torch
from torch import Tensor

from ..errors import EgoXInputError, needs_package

PSNR_CAP_DB = 100.0
"""Equal frames have no finite PSNR; JSON and means need one. Only frames that differ by one step of
255 in up to three of a 448x448 frame's 602,112 values are above it. """
SMALLEST = 11
"""Pixels a side: SSIM's window."""
CHUNK = 4
"""Frames at once: SSIM holds five filtered copies of each; with twice as many the time at 128 px
goes into memory pages (0.16 s of CPU a 17-frame clip instead of 0.11 s)."""


def require_torchmetrics() -> ModuleType:
    """``torchmetrics.functional.image``.

    Raises:
        EgoXInputError: not installed.
    """
    with needs_package("torchmetrics", "evaluation", expected="the evaluate extra"):
        import torchmetrics.functional.image as functional
    return functional


def check_pair(
    generated: Tensor,  # [T, H, W, 3]
    truth: Tensor,  # [T, H, W, 3]
) -> None:
    """Refuse what can't be compared frame by frame.

    Raises:
        EgoXInputError: other shapes, no [T, H, W, 3], pictures under 11 px.
    """
    if generated.shape != truth.shape or generated.ndim != 4 or generated.shape[-1] != 3:
        raise EgoXInputError(
            "frames to compare",
            got=f"{tuple(generated.shape)} and {tuple(truth.shape)}",
            expected="two videos of the same [frames, height, width, 3]",
            fix="generate as many frames, at the size of the true ego video",
        )
    if min(generated.shape[1:3]) < SMALLEST or not len(generated):
        raise EgoXInputError(
            "frames to compare",
            got=f"{tuple(generated.shape)}",
            expected=f"at least one frame of {SMALLEST}x{SMALLEST}",
            fix="use larger pictures",
        )


def psnr(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T] dB
    """PSNR of each frame, at most PSNR_CAP_DB.

    Raises:
        EgoXInputError: see :func:`check_pair`; no torchmetrics.
    """
    check_pair(generated, truth)
    values = require_torchmetrics().peak_signal_noise_ratio(
        generated.double(), truth.double(), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    return values.clamp(max=PSNR_CAP_DB)


def ssim_map(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] float64, -1...1
    """SSIM of each pixel, mean over channels; the mean over a frame is its SSIM.

    Raises:
        EgoXInputError: see :func:`check_pair`; no torchmetrics.
    """
    check_pair(generated, truth)
    functional = require_torchmetrics()
    maps = []
    for first in range(0, len(generated), CHUNK):
        pair = [
            x[first : first + CHUNK].float().movedim(-1, 1).contiguous() for x in (generated, truth)
        ]
        _, full = functional.structural_similarity_index_measure(
            *pair, data_range=1.0, reduction="none", return_full_image=True
        )
        maps.append(full.double().mean(dim=1))
    return torch.cat(maps)


def squared_error(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] float64
    """Squared difference, mean over channels."""
    return (generated - truth).square().double().mean(dim=-1)


def region_psnr(
    error: Tensor,  # [T, H, W] of squared_error
    region: Tensor,  # [T, H, W] bool
) -> float | None:
    """dB over all marked pixels of the clip together; None where nothing is marked.

    Pooled, not a mean over frames: a frame in which a handful of pixels is marked must not weigh as
        much as a full one."""
    if not bool(region.any()):
        return None
    mean = float(error[region].mean())
    return PSNR_CAP_DB if mean <= 10 ** (-PSNR_CAP_DB / 10) else -10 * math.log10(mean)
