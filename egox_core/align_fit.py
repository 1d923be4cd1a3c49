"""α and β of one frame: plain least squares over the gated pixels. The robust twin is ``align_robust.py``.

numpy, not torch: frames are fitted side by side in a few threads, each of them single-threaded, which on a small or
busy machine beats splitting each of the many short array passes over all cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

QUANTILE_SAMPLE = 40_000
"""Pixels that a frame's quantiles are taken from. The standard error of a 10 % quantile's rank is then
sqrt(0.1 * 0.9 / 40000) = 0.15 %: the gate moves by that share of the pixels, the fit by far less than its own noise,
and exact data are fitted exactly whatever the gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFit:
    """α, β of one frame and how well they fit the pixels that were used."""

    alpha: float
    beta: float  # 1/m
    residual: float  # RMS, 1/m, of this fit on the used pixels
    mean_x: float  # mean 1/D^v of the used pixels
    mean_y: float  # mean 1/D^m of the used pixels, 1/m
    var_x: float
    cov_xy: float
    used: int  # pixels

    def residual_of(self, alpha: float, beta: float) -> float:
        """RMS residual, 1/m, of another (α, β) on this frame's used pixels."""
        # Expanded around the frame's own fit, where the numbers are small; raw moments would cancel.
        slope = self.alpha - alpha
        shift = slope * self.mean_x + (self.beta - beta)
        cross = self.cov_xy - self.alpha * self.var_x  # zero for plain least squares
        square = self.residual**2 + shift**2 + slope**2 * self.var_x + 2 * slope * cross
        return max(square, 0.0) ** 0.5


def sample_step(shape: tuple[int, ...]) -> int:
    """Every so many rows and columns make a sample of about ``QUANTILE_SAMPLE`` pixels."""
    return max(1, int((shape[0] * shape[1] / QUANTILE_SAMPLE) ** 0.5))


def quantile_range(sample: FloatArray, low: float, high: float) -> tuple[float, float]:  # sample [N], finite
    """Nearest-rank quantiles. In inverse depth the 10-90 % range is the same set of pixels as in depth."""
    ranks = [round(q * (sample.size - 1)) for q in (low, high)]
    parts = np.partition(sample, ranks)
    return float(parts[ranks[0]]), float(parts[ranks[1]])


def fit_least_squares(
    x: FloatArray,  # [H, W] 1/D^v, NaN where the pixel must not count
    y: FloatArray,  # [H, W] 1/D^m, 1/m, NaN likewise
    gate_x: tuple[float, float],
    gate_y: tuple[float, float],
) -> FrameFit | None:
    """Least squares y = α x + β over the pixels inside both gates; None where x does not vary or too few remain."""
    keep = (x >= gate_x[0]) & (x <= gate_x[1]) & (y >= gate_y[0]) & (y <= gate_y[1])  # False at NaN
    # Centred on the gates and summed in double precision: β is a small difference of large numbers.
    mid_x, mid_y = 0.5 * (gate_x[0] + gate_x[1]), 0.5 * (gate_y[0] + gate_y[1])
    u, v = x[keep] - np.float64(mid_x), y[keep] - np.float64(mid_y)
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
    return FrameFit(alpha=alpha, beta=mean_y - alpha * mean_x, residual=(dot(v, v) / u.size) ** 0.5,
                    mean_x=mean_x, mean_y=mean_y, var_x=var_x, cov_xy=cov_xy, used=u.size)


def dot(a: FloatArray, b: FloatArray) -> float:
    """Inner product without BLAS, which would start threads of its own for arrays of this length."""
    return float(np.einsum("i,i->", a, b))
