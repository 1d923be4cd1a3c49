"""PSNR of frames, and SSIM as torchmetrics has it, by a separable filter."""

import math
from types import ModuleType

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError, needs_package

PSNR_CAP_DB = 100.0
"""Equal frames have no finite PSNR; JSON and means need one. Only frames that differ by one step of
255 in up to three of a 448x448 frame's 602,112 values are above it. """
SMALLEST = 11
"""Pixels a side: SSIM's window."""
SIGMA_PX = 1.5
"""Spread of that window, a Gaussian."""
STEADY = (0.01**2, 0.03**2)
"""SSIM's constants for values of 0...1, which keep it steady where a picture is dark or even."""


def require_torchmetrics() -> ModuleType:
    """Import ``torchmetrics.functional.image``.

    Raises:
        EgoXInputError: not installed.
    """
    with needs_package("torchmetrics", "evaluation", expected="the extra `evaluate`"):
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
            fix="use larger images",
        )


def psnr(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T] dB
    """Compute the PSNR of each frame, at most PSNR_CAP_DB.

    A node shows it, so it asks for no package beside torch; torchmetrics' has the same bits.

    Raises:
        EgoXInputError: see :func:`check_pair`.
    """
    check_pair(generated, truth)
    squares = (generated.double() - truth.double()).square()
    error = squares.sum((1, 2, 3)) / squares[0].numel()
    decibels = 10 / torch.tensor(10.0).log()  # of float32, as torchmetrics': the same bits
    return (-error.log() * decibels).clamp(max=PSNR_CAP_DB)


def ssim_map(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] float64, -1...1
    """Compute the SSIM of each pixel, mean over channels.

    Its mean over a frame is the frame's SSIM.

    Raises:
        EgoXInputError: see :func:`check_pair`.
    """
    check_pair(generated, truth)
    pairs = zip(generated, truth, strict=True)
    maps = [_ssim(*(x.double().cpu().numpy() for x in pair)).mean(axis=-1) for pair in pairs]
    return torch.from_numpy(np.stack(maps))


def _ssim(
    a: np.ndarray,  # [H, W, 3] float64
    b: np.ndarray,  # [H, W, 3] float64
) -> np.ndarray:  # [H, W, 3]
    """Compute the SSIM of each value.

    A column filter after a row filter takes a quarter of the time of torchmetrics' square one.
    """
    mean_a, mean_b, square_a, square_b, product = (
        cv2.GaussianBlur(x, (SMALLEST, SMALLEST), SIGMA_PX, borderType=cv2.BORDER_REFLECT_101)
        for x in (a, b, a * a, b * b, a * b)
    )
    means, square_means = mean_a * mean_b, mean_a**2 + mean_b**2
    variance = np.maximum(square_a - mean_a**2, 0) + np.maximum(square_b - mean_b**2, 0)
    luminance = (2 * means + STEADY[0]) / (square_means + STEADY[0])
    return luminance * (2 * (product - means) + STEADY[1]) / (variance + STEADY[1])


def squared_error(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] float64
    """Compute the squared difference, mean over channels."""
    return (generated - truth).square().double().mean(dim=-1)


def region_psnr(
    error: Tensor,  # [T, H, W] of squared_error
    region: Tensor,  # [T, H, W] bool
) -> float | None:
    """Compute the PSNR in dB over all marked pixels of the clip together, None without any.

    It is pooled, not a mean over frames, since a frame with a handful of marked pixels must not
    weigh as much as a full one.
    """
    if not bool(region.any()):
        return None
    mean = float(error[region].mean())
    return PSNR_CAP_DB if mean <= 10 ** (-PSNR_CAP_DB / 10) else -10 * math.log10(mean)
