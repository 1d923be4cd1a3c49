"""All weight-free metrics of one video against the true one; what the node and the command both
call."""

from __future__ import annotations

from torch import Tensor

from ..errors import EgoXInputError
from ..types import ObjectMasks
from .conditions import condition_rows
from .image import check_pair, psnr, ssim_map
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


def compare_clips(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor | None = None,  # [T, H, W] 0...1, of the prior
    generated_mask: Tensor | None = None,  # [T, H, W] 0...1, one object in the generated clip
    true_mask: Tensor | None = None,  # [T, H, W] 0...1, the same object in the true one
) -> Values:
    """The same from the host's tensors, rounded to 8 bits as a video file is, so that node and
    command agree.

    Raises:
        EgoXInputError: as :func:`frame_metrics`; masks of another size; one object mask without the
            other.
    """
    check_pair(generated, truth)
    if (generated_mask is None) != (true_mask is None):
        raise EgoXInputError(
            "object masks",
            got="one of the two",
            expected="generated_mask and true_mask",
            fix="connect both, or none",
        )
    masks = None
    if true_mask is not None:
        masks = ObjectMasks(
            ids=("object",),
            truth=_mask_of(true_mask, truth, "true_mask").numpy()[None],
            generated=_mask_of(generated_mask, truth, "generated_mask").numpy()[None],
        )
    covered = None if coverage is None else _mask_of(coverage, truth, "coverage")
    generated, truth = (
        (clip.detach().float().cpu().clamp(0, 1) * 255).round() / 255 for clip in (generated, truth)
    )
    return frame_metrics(generated, truth, covered, masks)


def _mask_of(mask: Tensor, clip: Tensor, name: str) -> Tensor:  # [T, H, W] bool
    """Of the clip's size exactly: a scaled mask would move the edges."""
    shape = tuple(clip.shape[:3])
    if tuple(mask.shape) != shape:
        raise EgoXInputError(
            name,
            got=tuple(mask.shape),
            expected=f"{shape} (frames, height, width)",
            fix="connect the mask that belongs to this video",
        )
    return mask.cpu() >= 0.5
