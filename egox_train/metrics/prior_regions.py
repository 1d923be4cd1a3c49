"""Measure image quality inside and outside the area that the prior covers, and by visibility
class."""

from torch import Tensor

from egox_core.metrics import region_psnr
from egox_core.types import SEEN_KINDS

# A pixel of the prior's video counts as covered where its brightest channel is above this. Holes
# are black, lifted by compression at their rims: 0.4 to 1.3 % of the picture too much on three
# synthetic takes of 128 px.
PRIOR_BLACK = 16 / 255


def coverage_of_picture(
    prior: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] bool
    """Mark the pixels that a prior covers, given that its holes are black."""
    return prior.amax(dim=-1) > PRIOR_BLACK


def region_rows(
    error: Tensor,  # [T, H, W] of image.squared_error
    coverage: Tensor,  # [T, H, W] bool
) -> dict[str, float | None]:
    """Compute the PSNR inside and outside the area that the prior covers."""
    return {
        "psnr_inside": region_psnr(error, coverage),
        "psnr_outside": region_psnr(error, ~coverage),
        "coverage": float(coverage.double().mean()),
    }


def class_rows(
    classes: Tensor,  # [T, H, W] uint8 classes
    error: Tensor | None = None,  # [T, H, W] of image.squared_error
    **maps: Tensor,  # [T, H, W] by name of the metric, of which the mean counts
) -> dict[str, float | None]:
    """Compute image metrics separately for each visibility class of the ego pixels."""
    rows: dict[str, float | None] = {}
    for name, class_index in SEEN_KINDS.items():
        class_mask = classes == class_index
        if error is not None:
            rows[f"psnr_{name}"] = region_psnr(error, class_mask)
        for metric_name, values in maps.items():
            rows[f"{metric_name}_{name}"] = (
                float(values[class_mask].mean()) if class_mask.any() else None
            )
    return rows
