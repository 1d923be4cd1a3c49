"""Compute the metrics between two videos that need no network weights."""

import torch
from torch import Tensor

from egox_core.metrics import psnr, squared_error, ssim_map

from .patches import patch_zncc
from .prior_regions import class_rows, region_rows
from .temporal import temporal_flickering

DISK = 0.9
"""Part of the picture's half sides, beyond which a lens is dark."""
MetricValues = dict[str, float | None]
"""Key of columns.METRICS -> value; None where there was nothing to measure."""


def mean_colour(
    video: Tensor,  # [T, H, W, 3] float 0...1
) -> list[float]:  # red, green, blue
    """Compute a video's mean colour inside the ellipse that a lens leaves of its picture."""
    height, width = video.shape[1:3]
    down, right = (torch.linspace(-1, 1, side) for side in (height, width))
    disk_mask = torch.hypot(down[:, None], right) < DISK
    return video[:, disk_mask].double().mean((0, 1)).tolist()


def frame_metrics(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor | None = None,  # [T, H, W] bool, of the prior
    seen: Tensor | None = None,  # [T, H, W] uint8 classes of the ego pixels
) -> MetricValues:
    """Compute all metrics between a generated and a true video that need no network weights.

    Raises:
        EgoXInputError: shapes that don't fit, torchmetrics missing.
    """
    ssim_values, squared_errors = ssim_map(generated, truth), squared_error(generated, truth)
    values: MetricValues = {
        "psnr": float(psnr(generated, truth).mean()),
        "ssim": float(ssim_values.mean()),
        "temporal_flickering": temporal_flickering(generated) if len(generated) > 1 else None,
        "patch_zncc": patch_zncc(generated, truth),
    }
    if coverage is not None:
        values.update(region_rows(squared_errors, coverage))
    if seen is not None:
        values.update(class_rows(seen, squared_errors, ssim=ssim_values))
    return values
