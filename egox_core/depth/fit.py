"""Fit scale α and shift β of one frame's inverse depth, 1/D^f = α/D^v + β (paper, Eq. 1).

``least squares`` is the paper's, over the pixels inside both depths' quantile ranges. ``robust``
goes on from its line with Tukey's biweight over all valid pixels. It needs no ranges: the weights
cut what is off the line, whereas cutting noisy values at their own quantiles flattens the slope.

numpy, not torch: frames are fitted side by side in a few threads, each of them single-threaded,
which on a small or busy machine beats splitting each of the many short array passes over all
cores."""

import numpy as np
from numpy.typing import NDArray

from ..frozen import frozen

FloatArray = NDArray[np.floating]

QUANTILE_SAMPLE = 40_000
"""Pixels that a frame's quantiles are taken from. The standard error of a 10 % quantile's rank is
then 0.15 % of the pixels (``benchmarks/results/constants.md``)."""

# pixels that the iterations run on; their line need only be near, the last step takes all
ROBUST_SAMPLE = 20_000
TUKEY = 4.685  # biweight constant: 95 % efficiency with Gaussian noise
ITERATIONS = 40  # at most; 6 to 20 settle with 20 % outliers
SETTLED = 1e-4  # relative change of α at which the iterations end
# of the mean inverse depth; exact data would make every rounding error an outlier
SCALE_FLOOR = 1e-5


@frozen
class FrameFit:
    """Fitted α and β of one frame, with the residual on the pixels used."""

    alpha: float
    beta: float  # 1/m
    residual: float  # RMS, 1/m, of this fit on the used pixels
    mean_x: float  # mean 1/D^v of the used pixels
    mean_y: float  # mean 1/D^m of the used pixels, 1/m
    var_x: float
    used: int  # pixels

    def residual_of(self, alpha: float, beta: float) -> float:
        """Compute the RMS residual (1/m) of another (α, β) on the pixels used in this frame."""
        # Expanded around the frame's own fit, where the numbers are small; raw moments would
        # cancel. There is no mixed term, because the residual of a (weighted) least-squares fit is
        # orthogonal to x.
        slope = self.alpha - alpha
        shift = slope * self.mean_x + (self.beta - beta)
        return (self.residual**2 + shift**2 + slope**2 * self.var_x) ** 0.5


def sample_step(shape: tuple[int, ...]) -> int:
    """Choose the stride over rows and columns that leaves about ``QUANTILE_SAMPLE`` pixels."""
    return max(1, int((shape[0] * shape[1] / QUANTILE_SAMPLE) ** 0.5))


def quantile_range(
    sample: FloatArray, low: float, high: float
) -> tuple[float, float]:  # sample [N], finite
    """Compute two nearest-rank quantiles of a sample.

    In inverse depth the 10-90 % range is the same set of pixels as in depth.
    """
    ranks = [round(quantile * (sample.size - 1)) for quantile in (low, high)]
    partitioned_sample = np.partition(sample, ranks)
    return float(partitioned_sample[ranks[0]]), float(partitioned_sample[ranks[1]])


def fit_least_squares(
    x: FloatArray,  # [H, W] 1/D^v, NaN where the pixel must not count
    y: FloatArray,  # [H, W] 1/D^m, 1/m, NaN likewise
    gate_x: tuple[float, float],
    gate_y: tuple[float, float],
) -> FrameFit | None:
    """Fit the line y = α x + β by least squares, using only pixels within the given ranges.

    None where x does not vary or too few remain.
    """
    gate_mask = (
        (x >= gate_x[0]) & (x <= gate_x[1]) & (y >= gate_y[0]) & (y <= gate_y[1])
    )  # False at NaN
    # Centred on the gates and summed in double precision: β is a small difference of large numbers.
    middle_x, middle_y = 0.5 * (gate_x[0] + gate_x[1]), 0.5 * (gate_y[0] + gate_y[1])
    centred_x, centred_y = x[gate_mask] - np.float64(middle_x), y[gate_mask] - np.float64(middle_y)
    if centred_x.size < 16:
        return None
    centred_mean_x, centred_mean_y = float(centred_x.mean()), float(centred_y.mean())
    centred_x -= centred_mean_x
    centred_y -= centred_mean_y
    var_x, cov_xy = (
        dot(centred_x, centred_x) / centred_x.size,
        dot(centred_x, centred_y) / centred_x.size,
    )
    mean_x, mean_y = centred_mean_x + middle_x, centred_mean_y + middle_y
    if var_x <= 1e-10 * mean_x**2:
        return None
    alpha = cov_xy / var_x
    centred_y -= alpha * centred_x
    return FrameFit(
        alpha=alpha,
        beta=mean_y - alpha * mean_x,
        residual=(dot(centred_y, centred_y) / centred_x.size) ** 0.5,
        mean_x=mean_x,
        mean_y=mean_y,
        var_x=var_x,
        used=centred_x.size,
    )


def fit_robust(
    x: FloatArray,  # [H, W] 1/D^v, NaN where the pixel must not count
    y: FloatArray,  # [H, W] 1/D^m, 1/m, NaN likewise
    sample_x: FloatArray,  # [N] finite values of x at every so many pixels
    sample_y: FloatArray,  # [N] the values of y there
    start: FrameFit,
) -> FrameFit | None:
    """Fit a line by iterations with Tukey's biweight on a sample, and a last step on all pixels.

    None where x does not vary on the pixels that agree with a line. A redescending weight, because
    Huber's lasting pull of every outlier adds up."""
    stride = max(1, sample_x.size // ROBUST_SAMPLE)
    sampled_x = sample_x[::stride].astype(np.float64)
    sampled_y = sample_y[::stride].astype(np.float64)
    fit = start
    for _ in range(ITERATIONS):
        residuals = np.abs(sampled_y - fit.alpha * sampled_x - fit.beta)
        scale = max(1.4826 * float(np.median(residuals)), SCALE_FLOOR * start.mean_y)
        alpha = fit.alpha
        fit = _weighted_step(sampled_x, sampled_y, fit, scale)
        if fit is None or abs(fit.alpha - alpha) <= SETTLED * abs(alpha):
            break
    if fit is None:
        return None
    valid = np.isfinite(x) & np.isfinite(y)
    return _weighted_step(x[valid].astype(np.float64), y[valid].astype(np.float64), fit, scale)


def _weighted_step(x: FloatArray, y: FloatArray, line: FrameFit, scale: float) -> FrameFit | None:
    """Refit the line by weighted least squares, with smaller weights for pixels far from the
    previous line."""
    weight = (y - line.alpha * x - line.beta) / (TUKEY * scale)
    weight = np.square(np.maximum(1 - np.square(weight, out=weight), 0, out=weight), out=weight)
    weight_sum = float(weight.sum())
    mean_x, mean_y = dot(weight, x) / weight_sum, dot(weight, y) / weight_sum
    centred_x, centred_y = x - mean_x, y - mean_y
    weighted_x = weight * centred_x
    var_x = dot(weighted_x, centred_x) / weight_sum
    if var_x <= 1e-10 * mean_x**2:
        return None
    alpha = dot(weighted_x, centred_y) / weight_sum / var_x
    centred_y -= alpha * centred_x
    return FrameFit(
        alpha=alpha,
        beta=mean_y - alpha * mean_x,
        residual=(dot(weight * centred_y, centred_y) / weight_sum) ** 0.5,
        mean_x=mean_x,
        mean_y=mean_y,
        var_x=var_x,
        used=int(np.count_nonzero(weight)),
    )


def dot(first: FloatArray, second: FloatArray) -> float:
    """Compute an inner product without BLAS, which would start threads for arrays of this
    length."""
    return float(np.einsum("i,i->", first, second))
