"""Compute PSNR and SSIM of frames, with the numbers of torchmetrics."""

import math
from types import ModuleType

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError, needs_package

PSNR_CAP_DB = 100.0
"""PSNR of equal frames, which have no finite one: JSON and means need it."""
WINDOW_PX = 11
"""Pixels a side: SSIM's window."""
SIGMA_PX = 1.5
"""Spread of that window, a Gaussian."""
SSIM_CONSTANTS = (0.01**2, 0.03**2)
"""SSIM's constants for values of 0...1, which keep it steady where a picture is dark or even."""


def require_torchmetrics() -> ModuleType:
    """Import ``torchmetrics.functional.image``, with advice if it isn't installed.

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
    """Refuse two videos that can't be compared frame by frame.

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
    if min(generated.shape[1:3]) < WINDOW_PX or not len(generated):
        raise EgoXInputError(
            "frames to compare",
            got=f"{tuple(generated.shape)}",
            expected=f"at least one frame of {WINDOW_PX}x{WINDOW_PX}",
            fix="use larger images",
        )


def psnr(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T] dB
    """Compute the PSNR of each frame, limited to PSNR_CAP_DB.

    A node shows it, so it asks for no package beside torch; torchmetrics' has the same bits.

    Raises:
        EgoXInputError: see :func:`check_pair`.
    """
    check_pair(generated, truth)
    squared_errors = (generated.double() - truth.double()).square()
    mean_squared_error = squared_errors.sum((1, 2, 3)) / squared_errors[0].numel()
    decibels = 10 / torch.tensor(10.0).log()  # of float32, as torchmetrics': the same bits
    return (-mean_squared_error.log() * decibels).clamp(max=PSNR_CAP_DB)


def ssim_map(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] float64, -1...1
    """Compute the SSIM of each pixel, averaged over channels.

    Its mean over a frame is the frame's SSIM.

    Raises:
        EgoXInputError: see :func:`check_pair`.
    """
    check_pair(generated, truth)
    pairs = zip(generated, truth, strict=True)
    ssim_maps = [
        _ssim(*(picture.double().cpu().numpy() for picture in pair)).mean(axis=-1) for pair in pairs
    ]
    return torch.from_numpy(np.stack(ssim_maps))


def _ssim(
    first: np.ndarray,  # [H, W, 3] float64
    second: np.ndarray,  # [H, W, 3] float64
) -> np.ndarray:  # [H, W, 3]
    """Compute the SSIM of each value of two pictures.

    A column filter after a row filter takes a quarter of the time of torchmetrics' square one.
    """
    first_mean, second_mean, first_square, second_square, product = (
        cv2.GaussianBlur(
            values, (WINDOW_PX, WINDOW_PX), SIGMA_PX, borderType=cv2.BORDER_REFLECT_101
        )
        for values in (first, second, first * first, second * second, first * second)
    )
    means = first_mean * second_mean
    square_means = first_mean**2 + second_mean**2
    variance = np.maximum(first_square - first_mean**2, 0) + np.maximum(
        second_square - second_mean**2, 0
    )
    luminance = (2 * means + SSIM_CONSTANTS[0]) / (square_means + SSIM_CONSTANTS[0])
    return luminance * (2 * (product - means) + SSIM_CONSTANTS[1]) / (variance + SSIM_CONSTANTS[1])


def squared_error(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] float64
    """Compute the squared difference of two videos at each pixel, averaged over channels."""
    return (generated - truth).square().double().mean(dim=-1)


def region_psnr(
    error: Tensor,  # [T, H, W] of squared_error
    region: Tensor,  # [T, H, W] bool
) -> float | None:
    """Compute the PSNR in dB over all marked pixels of a clip together, or None without any.

    It is pooled, not a mean over frames, since a frame with a handful of marked pixels must not
    weigh as much as a full one.
    """
    if not bool(region.any()):
        return None
    mean_squared_error = float(error[region].mean())
    return (
        PSNR_CAP_DB
        if mean_squared_error <= 10 ** (-PSNR_CAP_DB / 10)
        else -10 * math.log10(mean_squared_error)
    )
