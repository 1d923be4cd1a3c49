"""α and β of one frame: the affine fit in inverse depth, 1/D^f = α/D^v + β (paper, Sec. 3.1, Eq.
1), in two modes.

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
then sqrt(0.1 * 0.9 / 40000) = 0.15 %: the gate moves by that share of the pixels, the fit by far
less than its own noise, and exact data are fitted exactly whatever the gate."""

ROBUST_SAMPLE = 20_000  # pixels that the iterations run on; their line need only be near, the last step takes all
TUKEY = 4.685  # biweight constant: 95 % efficiency with Gaussian noise
ITERATIONS = 40  # at most; 6 to 20 settle with 20 % outliers
SETTLED = 1e-4  # relative change of α at which the iterations end
# of the mean inverse depth; exact data would make every rounding error an outlier
SCALE_FLOOR = 1e-5


@frozen
class FrameFit:
    """α, β of one frame and how well they fit the pixels that were used."""

    alpha: float
    beta: float  # 1/m
    residual: float  # RMS, 1/m, of this fit on the used pixels
    mean_x: float  # mean 1/D^v of the used pixels
    mean_y: float  # mean 1/D^m of the used pixels, 1/m
    var_x: float
    used: int  # pixels

    def residual_of(self, alpha: float, beta: float) -> float:
        """Compute the RMS residual, 1/m, of another (α, β) on this frame's used pixels."""
        # Expanded around the frame's own fit, where the numbers are small; raw moments would
        # cancel. There is no mixed term, because the residual of a (weighted) least-squares fit is
        # orthogonal to x.
        slope = self.alpha - alpha
        shift = slope * self.mean_x + (self.beta - beta)
        return (self.residual**2 + shift**2 + slope**2 * self.var_x) ** 0.5


def sample_step(shape: tuple[int, ...]) -> int:
    """Choose the stride over rows and columns that keeps about ``QUANTILE_SAMPLE`` pixels."""
    return max(1, int((shape[0] * shape[1] / QUANTILE_SAMPLE) ** 0.5))


def quantile_range(
    sample: FloatArray, low: float, high: float
) -> tuple[float, float]:  # sample [N], finite
    """Compute nearest-rank quantiles.

    In inverse depth the 10-90 % range is the same set of pixels as in depth.
    """
    ranks = [round(q * (sample.size - 1)) for q in (low, high)]
    parts = np.partition(sample, ranks)
    return float(parts[ranks[0]]), float(parts[ranks[1]])


def fit_least_squares(
    x: FloatArray,  # [H, W] 1/D^v, NaN where the pixel must not count
    y: FloatArray,  # [H, W] 1/D^m, 1/m, NaN likewise
    gate_x: tuple[float, float],
    gate_y: tuple[float, float],
) -> FrameFit | None:
    """Fit y = α x + β by least squares over the pixels inside both gates.

    None where x does not vary or too few remain.
    """
    gate_mask = (
        (x >= gate_x[0]) & (x <= gate_x[1]) & (y >= gate_y[0]) & (y <= gate_y[1])
    )  # False at NaN
    # Centred on the gates and summed in double precision: β is a small difference of large numbers.
    mid_x, mid_y = 0.5 * (gate_x[0] + gate_x[1]), 0.5 * (gate_y[0] + gate_y[1])
    u, v = x[gate_mask] - np.float64(mid_x), y[gate_mask] - np.float64(mid_y)
    if u.size < 16:
        return None
    mean_u, mean_v = float(u.mean()), float(v.mean())
    u -= mean_u
    v -= mean_v
    var_x, cov_xy = dot(u, u) / u.size, dot(u, v) / u.size
    mean_x, mean_y = mean_u + mid_x, mean_v + mid_y
    if var_x <= 1e-10 * mean_x**2:
        return None
    alpha = cov_xy / var_x
    v -= alpha * u
    return FrameFit(
        alpha=alpha,
        beta=mean_y - alpha * mean_x,
        residual=(dot(v, v) / u.size) ** 0.5,
        mean_x=mean_x,
        mean_y=mean_y,
        var_x=var_x,
        used=u.size,
    )


def fit_robust(
    x: FloatArray,  # [H, W] 1/D^v, NaN where the pixel must not count
    y: FloatArray,  # [H, W] 1/D^m, 1/m, NaN likewise
    sample_x: FloatArray,  # [N] finite values of x at every so many pixels
    sample_y: FloatArray,  # [N] the values of y there
    start: FrameFit,
) -> FrameFit | None:
    """Fit a line with Tukey's biweight: from a start on the sample until it settles, then one step
    on all pixels.

    None where x does not vary on the pixels that agree with a line. A redescending weight, because
    Huber's lasting pull of every outlier adds up."""
    stride = max(1, sample_x.size // ROBUST_SAMPLE)
    u, v, fit = sample_x[::stride].astype(np.float64), sample_y[::stride].astype(np.float64), start
    for _ in range(ITERATIONS):
        residuals = np.abs(v - fit.alpha * u - fit.beta)
        scale = max(1.4826 * float(np.median(residuals)), SCALE_FLOOR * start.mean_y)
        alpha, fit = fit.alpha, _weighted(u, v, fit, scale)
        if fit is None or abs(fit.alpha - alpha) <= SETTLED * abs(alpha):
            break
    if fit is None:
        return None
    valid = np.isfinite(x) & np.isfinite(y)
    return _weighted(x[valid].astype(np.float64), y[valid].astype(np.float64), fit, scale)


def _weighted(x: FloatArray, y: FloatArray, line: FrameFit, scale: float) -> FrameFit | None:
    """Take one step of least squares, weighted by how near the pixels [N] lie to ``line``,
    ``scale`` being one sigma."""
    w = (y - line.alpha * x - line.beta) / (TUKEY * scale)
    w = np.square(np.maximum(1 - np.square(w, out=w), 0, out=w), out=w)
    total = float(w.sum())
    mean_x, mean_y = dot(w, x) / total, dot(w, y) / total
    u, v = x - mean_x, y - mean_y
    wu = w * u
    var_x = dot(wu, u) / total
    if var_x <= 1e-10 * mean_x**2:
        return None
    alpha = dot(wu, v) / total / var_x
    v -= alpha * u
    return FrameFit(
        alpha=alpha,
        beta=mean_y - alpha * mean_x,
        residual=(dot(w * v, v) / total) ** 0.5,
        mean_x=mean_x,
        mean_y=mean_y,
        var_x=var_x,
        used=int(np.count_nonzero(w)),
    )


def dot(a: FloatArray, b: FloatArray) -> float:
    """Compute the inner product without BLAS, which would start threads of its own for arrays of
    this length."""
    return float(np.einsum("i,i->", a, b))
