"""α and β of one frame in the presence of outliers and of noise in both depths (mode ``robust``).

Three things bias least squares here, and each has its remedy:

- outliers: a redescending M-estimator (Tukey's bisquare by IRLS). Huber's bounded but lasting pull would leave about
  0.5 % at 20 % outliers;
- noise in the regressor 1/D^v flattens the slope (errors in variables): the normal equations use an instrument, the
  median of a pixel's four neighbours, which knows the pixel's depth but not its noise;
- cutting noisy values at their own quantiles (truncation) flattens it too: the 10-90 % ranges are tested on the
  neighbours' medians of both depths, so that whether a pixel counts does not depend on its own noise.

On maps without any spatial coherence the neighbours say nothing; that is measured (first-stage correlation) and the
pixel's own values are used instead, the range of D^m then being carried over through the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .align_fit import FloatArray, FrameFit, dot, quantile_range, sample_step

TUKEY = 4.685  # bisquare constant for 95 % efficiency with Gaussian noise
COARSE_ITERATIONS = 15  # on the sample; converges geometrically, 5 to 8 suffice with 20 % outliers
SCALE_ITERATIONS = 4  # the scale is settled by then; a median costs more than a step
SETTLED = 1e-5  # relative change of α at which the coarse iterations end
FINE_ITERATIONS = 2  # on all pixels, from the coarse solution: a one-step estimator is already efficient
WEAK_INSTRUMENT = 0.5  # first-stage correlation below which neighbours do not predict a pixel
SCALE_FLOOR = 1e-5  # relative; exact data would make the scale zero and every rounding error an outlier
START_SAMPLE = 6_000  # pixels for the starting line; it only has to land near the right one
FEWEST = 32  # pixels


def neighbour_median(values: FloatArray) -> FloatArray:  # [H, W] -> [H, W]
    """Mean of the middle two of the four direct neighbours; NaN at the border and beside invalid pixels."""
    out = np.full_like(values, np.nan)
    up, down, left, right = values[:-2, 1:-1], values[2:, 1:-1], values[1:-1, :-2], values[1:-1, 2:]
    # The middle two of two ordered pairs: the larger minimum and the smaller maximum.
    inner = np.maximum(np.minimum(up, down), np.minimum(left, right))
    inner += np.minimum(np.maximum(up, down), np.maximum(left, right))
    np.multiply(inner, 0.5, out=out[1:-1, 1:-1])
    return out


def fit_robust(
    x: FloatArray,  # [H, W] 1/D^v, NaN where the pixel must not count
    y: FloatArray,  # [H, W] 1/D^m, 1/m, NaN likewise
    low: float,  # quantiles of the gate
    high: float,
) -> FrameFit | None:
    """Robust α and β of y = α x + β; None where the frame has no depth variation or too little data."""
    if min(x.shape) < 3:
        return None
    zx, zy = neighbour_median(x), neighbour_median(y)
    coarse = _Sample.lattice(x, y, zx, zy, sample_step(x.shape))
    if coarse.x.size < FEWEST:
        return None
    gate_x, gate_y = quantile_range(coarse.zx, low, high), quantile_range(coarse.zy, low, high)
    inside = _inside(coarse.zx, gate_x) & _inside(coarse.zy, gate_y)
    weak = _correlation(coarse.zx[inside], coarse.x[inside]) < WEAK_INSTRUMENT
    if weak:
        gate_x, gate_y = quantile_range(coarse.x, low, high), quantile_range(coarse.y, low, high)
        coarse, zx, zy = _Sample(coarse.x, coarse.y, coarse.x, coarse.y), x, y
        inside = _inside(coarse.zx, gate_x) & _inside(coarse.zy, gate_y)
    start = _start(coarse.zx[inside], coarse.zy[inside])
    if start is None:
        return None
    alpha, beta = start
    if weak and alpha > 0:
        gate_x = max(gate_x[0], (gate_y[0] - beta) / alpha), min(gate_x[1], (gate_y[1] - beta) / alpha)
        gate_y = -np.inf, np.inf
        inside = _inside(coarse.zx, gate_x)
    sample, scale = coarse.where(inside), SCALE_FLOOR
    for iteration in range(COARSE_ITERATIONS):
        relative = sample.relative_residual(alpha, beta)
        if iteration < SCALE_ITERATIONS:
            scale = max(1.4826 * float(np.median(np.abs(relative))), SCALE_FLOOR)
        solved = sample.solve(_weights(relative, scale))
        if solved is None:
            return None
        change, (alpha, beta) = abs(solved[0] - alpha), solved
        if change <= SETTLED * abs(alpha):
            break
    keep = _inside(zx, gate_x) & _inside(zy, gate_y) & np.isfinite(x) & np.isfinite(y)
    sample = _Sample.double(x[keep], y[keep], zx[keep], zy[:0])
    weights = None
    for _ in range(FINE_ITERATIONS):
        weights = _weights(sample.relative_residual(alpha, beta), scale)
        solved = sample.solve(weights)
        if solved is None:
            return None
        alpha, beta = solved
    return sample.summary(weights, alpha, beta)


@dataclass(frozen=True, slots=True)
class _Sample:
    x: FloatArray  # [N] regressor 1/D^v
    y: FloatArray  # [N] response 1/D^m
    zx: FloatArray  # [N] instrument of x
    zy: FloatArray  # [N] neighbours' median of y, for the gate and the starting line only (else empty)

    @staticmethod
    def lattice(x: FloatArray, y: FloatArray, zx: FloatArray, zy: FloatArray, step: int) -> _Sample:
        # Starting at 1 skips the border, where neighbours are missing.
        parts = [part[1::step, 1::step].ravel() for part in (x, y, zx, zy)]
        ok = np.isfinite(parts[0] + parts[1] + parts[2] + parts[3])
        return _Sample.double(*[part[ok] for part in parts])

    @staticmethod
    def double(*parts: FloatArray) -> _Sample:
        # β is a small difference of large sums; and mixing precisions would convert anew at every pass.
        return _Sample(*[part.astype(np.float64) for part in parts])

    def where(self, keep: FloatArray) -> _Sample:
        return _Sample(self.x[keep], self.y[keep], self.zx[keep], self.zy[keep])

    def relative_residual(self, alpha: float, beta: float) -> FloatArray:  # [N]
        # Depth noise is multiplicative, so the residual is judged against the pixel's (instrumented) inverse depth.
        expected = np.abs(self.zx * alpha + beta)
        return (self.y - self.x * alpha - beta) / np.maximum(expected, 1e-6, out=expected)

    def solve(self, w: FloatArray) -> tuple[float, float] | None:
        """Weighted instrumental-variable solution: Σ w (1, z) (y - α x - β) = 0."""
        total = float(w.sum())
        if total < FEWEST:
            return None
        mean_x, mean_y, mean_z = dot(w, self.x) / total, dot(w, self.y) / total, dot(w, self.zx) / total
        wz = w * (self.zx - mean_z)
        cov_zx = dot(wz, self.x - mean_x)
        if cov_zx == 0.0:
            return None
        alpha = dot(wz, self.y - mean_y) / cov_zx
        return alpha, mean_y - alpha * mean_x

    def summary(self, w: FloatArray, alpha: float, beta: float) -> FrameFit:
        total = float(w.sum())
        mean_x, mean_y = dot(w, self.x) / total, dot(w, self.y) / total
        dx = self.x - mean_x
        wdx = w * dx
        rest = self.y - alpha * self.x - beta
        return FrameFit(alpha=alpha, beta=beta, residual=(dot(w * rest, rest) / total) ** 0.5, mean_x=mean_x,
                        mean_y=mean_y, var_x=dot(wdx, dx) / total, cov_xy=dot(wdx, self.y - mean_y) / total,
                        used=int(np.count_nonzero(w)))


def _inside(values: FloatArray, gate: tuple[float, float]) -> FloatArray:
    return (values >= gate[0]) & (values <= gate[1])


def _weights(relative: FloatArray, scale: float) -> FloatArray:  # [N] 0...1
    w = 1 - np.square(relative / (TUKEY * scale))
    return np.square(np.maximum(w, 0, out=w), out=w)


def _correlation(a: FloatArray, b: FloatArray) -> float:
    if a.size < FEWEST:
        return 0.0
    a, b = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    spread = (dot(a, a) * dot(b, b)) ** 0.5
    return dot(a, b) / spread if spread > 0 else 0.0


def _start(x: FloatArray, y: FloatArray) -> tuple[float, float] | None:
    """Theil-Sen on pairs of far-apart values: stands 29 % bad pixels, and neighbours' medians hold far fewer."""
    every = max(1, x.size // START_SAMPLE)
    x, y = x[::every], y[::every]
    order = x.argsort()
    x, y = x[order], y[order]
    third = x.size // 3
    if third < 8:
        return None
    dx = x[-third:] - x[:third]
    far = dx > 1e-5 * abs(float(x.mean()))
    if np.count_nonzero(far) < 8:
        return None  # every pixel has one depth: α and β can't be told apart
    alpha = float(np.median((y[-third:] - y[:third])[far] / dx[far]))
    return alpha, float(np.median(y - alpha * x))
