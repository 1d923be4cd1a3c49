"""Quality inside and outside the prior's coverage."""

from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.metrics import region_psnr

# A pixel of the prior's video counts as covered where its brightest channel is above this. Holes
# are black, lifted by compression at their rims: 0.4 to 1.3 % of the picture too much on three
# synthetic takes of 128 px.
PRIOR_BLACK = 16 / 255


def coverage_of_picture(
    prior: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [T, H, W] bool
    """Coverage read off the prior's picture."""
    return prior.amax(dim=-1) > PRIOR_BLACK


def region_rows(
    error: Tensor,  # [T, H, W] of image.squared_error
    coverage: Tensor,  # [T, H, W] bool
) -> dict[str, float | None]:
    """PSNR inside and outside, and the covered share; None where a region is empty.

    Raises:
        EgoXInputError: a coverage of another size.
    """
    if coverage.shape != error.shape:
        raise EgoXInputError(
            "prior's coverage",
            got=tuple(coverage.shape),
            expected=tuple(error.shape),
            fix="render the prior at the size and length of the true ego video",
        )
    return {
        "psnr_inside": region_psnr(error, coverage),
        "psnr_outside": region_psnr(error, ~coverage),
        "coverage": float(coverage.double().mean()),
    }
