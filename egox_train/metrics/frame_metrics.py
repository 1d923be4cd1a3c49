"""All weight-free metrics of one video against the true one."""

from __future__ import annotations

from torch import Tensor

from egox_core.metrics.image import psnr, ssim_map
from egox_core.types import ObjectMasks

from .conditions import condition_rows
from .objects import object_rows
from .prior_regions import region_rows, time_rows
from .temporal import temporal_flickering

Values = dict[str, float | None]
"""Key of columns.METRICS -> value; None where there was nothing to measure."""


def frame_metrics(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor | None = None,  # [T, H, W] bool, of the prior
    masks: ObjectMasks | None = None,
) -> Values:
    """All weight-free metrics of one video against the true one.

    Raises:
        EgoXInputError: shapes that don't fit, torchmetrics missing.
    """
    decibels, similarity = psnr(generated, truth), ssim_map(generated, truth)
    values: Values = {
        "psnr": float(decibels.mean()),
        "ssim": float(similarity.mean()),
        **time_rows(decibels),
        "temporal_flickering": temporal_flickering(generated) if len(generated) > 1 else None,
        **condition_rows(generated, truth),
    }
    if coverage is not None:
        values.update(region_rows(generated, truth, similarity, coverage))
    if masks is not None:
        values.update(object_rows(masks, generated, truth))
    return values
