"""All weight-free metrics of one video against the true one; what the node and the command both call."""

from __future__ import annotations

from torch import Tensor

from ..types import ObjectMasks
from .image import psnr, ssim_map
from .objects import object_rows
from .prior_regions import region_rows, time_rows
from .temporal import temporal_flickering

Values = dict[str, float | None]
"""Key of columns.METRICS -> value; None where there was nothing to measure."""


def frame_metrics(generated: Tensor, truth: Tensor, coverage: Tensor | None = None,
                  masks: ObjectMasks | None = None) -> Values:
    """All weight-free metrics of one video against the true one ([T, H, W, 3] float 0...1, coverage [T, H, W] bool).

    Raises:
        EgoXInputError: shapes that don't fit, torchmetrics missing.
    """
    decibels, similarity = psnr(generated, truth), ssim_map(generated, truth)
    values: Values = {"psnr": float(decibels.mean()), "ssim": float(similarity.mean()), **time_rows(decibels),
                      "temporal_flickering": temporal_flickering(generated) if len(generated) > 1 else None}
    if coverage is not None:
        values.update(region_rows(generated, truth, similarity, coverage))
    if masks is not None:
        values.update(object_rows(masks, generated, truth))
    return values
