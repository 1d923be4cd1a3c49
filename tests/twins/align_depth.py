"""Align depth by a simple reference implementation.

Same signature, same meaning; the tests hold the fast path to it.
"""

from dataclasses import replace

import numpy as np
import torch

from egox_core.depth import align
from egox_core.depth.align import make_report
from egox_core.depth.fit import SCALE_FLOOR, TUKEY, FrameFit
from egox_core.depth.report import AlignReport
from egox_core.types import AlignMode, DepthVideo


def align_depth_reference(
    # Z depth in metres.
    metric: DepthVideo,
    # Relative depth or disparity.
    video: DepthVideo,
    mode: AlignMode = "least squares",
) -> tuple[DepthVideo, AlignReport]:
    """Align depth like :func:`depth.align.align_depth`, as a simple reference."""
    fits, reasons, used_shares = [], [], []
    for t in range(len(metric.depth_m)):
        metric_inverse_depth = 1 / metric.depth_m[t].double().numpy()
        video_values = video.depth_m[t].double().numpy()
        video_values = video_values if video.kind == "disparity" else 1 / video_values
        valid_mask = np.isfinite(video_values) & np.isfinite(metric_inverse_depth)
        for mask in (metric.dynamic, metric.sky, video.dynamic, video.sky):
            if mask is not None:
                valid_mask &= ~mask[t].numpy()
        fit = None
        if valid_mask.mean() >= align.MIN_SHARE:
            fit = (_robust if mode == "robust" else _least_squares)(
                np.where(valid_mask, video_values, np.nan),
                np.where(valid_mask, metric_inverse_depth, np.nan),
            )
        fits.append(fit)
        reasons.append("" if fit is not None else "too few pixels")
        used_shares.append(0.0 if fit is None else fit.used / video_values.size)
    first_fit = next(fit for fit in fits if fit is not None)
    alpha, beta, states, frames = first_fit.alpha, first_fit.beta, [], []
    for t, fit in enumerate(fits):
        if fit is not None:
            alpha = align.MOMENTUM * alpha + (1 - align.MOMENTUM) * fit.alpha
            beta = align.MOMENTUM * beta + (1 - align.MOMENTUM) * fit.beta
        states.append((alpha, beta))
        video_values = video.depth_m[t].double()
        video_values = video_values if video.kind == "disparity" else 1 / video_values
        depth = 1 / (alpha * video_values + beta).clamp_min(align.MIN_INVERSE)
        for mask in (metric.sky, video.sky):
            if mask is not None:
                depth = depth.masked_fill(mask[t], float("nan"))
        frames.append(depth.float())
    return replace(metric, depth_m=torch.stack(frames)), make_report(
        fits, reasons, used_shares, states, mode
    )


def _inlier_mask(values: np.ndarray) -> np.ndarray:
    low, high = np.nanquantile(values, align.QUANTILES, method="nearest")
    return (values >= low) & (values <= high)


def _least_squares(x: np.ndarray, y: np.ndarray) -> FrameFit:
    kept_mask = _inlier_mask(x) & _inlier_mask(y)
    x, y = x[kept_mask], y[kept_mask]
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1), y, rcond=None)
    return _summarise_fit(x, y, np.ones_like(x), alpha, beta)


def _robust(x: np.ndarray, y: np.ndarray) -> FrameFit:
    start_fit = _least_squares(x, y)
    alpha, beta = start_fit.alpha, start_fit.beta
    valid = np.isfinite(x) & np.isfinite(y)
    x, y = x[valid], y[valid]
    design = np.stack([x, np.ones_like(x)], axis=1)
    for _ in range(60):  # far past convergence
        residual = y - alpha * x - beta
        scale = max(1.4826 * np.median(np.abs(residual)), SCALE_FLOOR * start_fit.mean_y)
        weights = np.clip(1 - (residual / (TUKEY * scale)) ** 2, 0, None) ** 2
        weighted_design = design * weights[:, None]
        alpha, beta = np.linalg.solve(weighted_design.T @ design, weighted_design.T @ y)
    return _summarise_fit(x, y, weights, alpha, beta)


def _summarise_fit(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, alpha: float, beta: float
) -> FrameFit:
    mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
    return FrameFit(
        alpha=float(alpha),
        beta=float(beta),
        residual=float(np.average((y - alpha * x - beta) ** 2, weights=w)) ** 0.5,
        mean_x=float(mean_x),
        mean_y=float(mean_y),
        var_x=float(np.average((x - mean_x) ** 2, weights=w)),
        used=int(np.count_nonzero(w)),
    )
