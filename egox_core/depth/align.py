"""Align a video depth to metric depth by fitting scale and shift of inverse depth in each frame.

D^f = 1 / (α / D^v + β) (paper, section 3.1).

α and β come from least squares on the static, sky-free pixels that are inside both depths' 10-90 %
quantile ranges, and run through a momentum of 0.99, so that the clip's scale is steady. The plain
twin is ``tests/twins/align_depth.py``."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError, check_choice
from ..frame_store import store_frames
from ..frames import settle_frames
from ..progress import Progress, no_progress
from ..types import ALIGN_MODES, AlignMode, DepthVideo
from .fit import FloatArray, FrameFit, fit_least_squares, fit_robust, quantile_range, sample_step
from .kind import check_order
from .report import AlignReport

WORKERS = min(4, os.cpu_count() or 1)  # frames in work at once; more would only add memory
Result = TypeVar("Result")

QUANTILES = 0.10, 0.90
"""Pixels count where both depths are between these of the frame; robust: in its first fit only."""
MOMENTUM = 0.99
"""state = MOMENTUM * state + (1 - MOMENTUM) * fit of the frame."""
MIN_INVERSE = 1e-3
"""1/m, so nothing lies further than 1000 m."""
MIN_SHARE = 0.05
"""Valid pixels of a frame; below it the frame takes the momentum's state."""

MISSING_METRIC = "metric depth (the scale of the scene)"
ADVICE = "give the video's own depth: a file, or the output of MoGe"


@contextmanager
def depth_advice() -> Generator[None]:
    """Add advice on other depth to errors about a depth file, as a context manager."""
    try:
        yield
    except EgoXInputError as error:
        raise EgoXInputError(
            error.what, got=error.got, expected=error.expected, fix=f"{error.fix}; {ADVICE}"
        ) from error


def align_depth(
    # Z depth in metres, which may flicker from frame to frame.
    metric: DepthVideo | None,
    # Depth that is steady over time, of unknown scale and shift; None passes the metric depth
    # through.
    video: DepthVideo | None,
    # Moving pixels [T, H, W] bool, left out of the fit in addition to the payloads' own masks.
    dynamic: Tensor | None = None,
    sky: Tensor | None = None,  # [T, H, W] bool, left out of the fit, invalid in the result
    mode: AlignMode = "least squares",
    progress: Progress = no_progress,
) -> tuple[DepthVideo, AlignReport]:
    """Align a video depth to a metric depth.

    Returns:
        The aligned depth (``metric z``, the metric depth's camera, masks united) and the report of
        the fits.

    Raises:
        EgoXInputError: no metric depth, kinds that can't be aligned, sizes that differ, a depth
            that is disparity by mistake (see :mod:`depth.kind`), no frame that could be fitted, an
            unknown mode.
    """
    check_choice("alignment mode", mode, ALIGN_MODES)
    if metric is None:
        raise EgoXInputError(
            MISSING_METRIC,
            got="video depth only" if video is not None else "no depth at all",
            expected="a metric depth, and optionally a video depth",
            fix=ADVICE,
        )
    if metric.kind != "metric z":
        raise EgoXInputError(
            MISSING_METRIC,
            got=f"depth of kind '{metric.kind}'",
            expected="kind 'metric z'",
            fix="use it as the video depth and add a metric one (MoGe v2); " + ADVICE,
        )
    _check_shape("video depth", metric, None if video is None else video.depth_m)
    dynamic = _union_of_masks(
        "dynamic mask", metric, dynamic, metric.dynamic, None if video is None else video.dynamic
    )
    sky = _union_of_masks("sky mask", metric, sky, metric.sky, None if video is None else video.sky)
    if video is None:
        return _pass_through(metric, dynamic, sky, progress)

    excluded_mask = _combine_maps(torch.logical_or, dynamic, sky)
    check_order(metric, video, excluded_mask)
    count = len(metric.depth_m)
    disparity = video.kind == "disparity"
    metric_m, video_values = metric.depth_m.cpu().numpy(), video.depth_m.cpu().numpy()
    excluded_array = None if excluded_mask is None else excluded_mask.cpu().numpy()

    def fit_one_frame(t: int) -> FrameFit | str:
        return fit_frame(
            metric_m[t],
            video_values[t],
            None if excluded_array is None else excluded_array[t],
            disparity,
            mode,
        )

    frame_fits, reasons = [], []
    for t, fit_or_reason in enumerate(_run_in_threads(fit_one_frame, count)):
        is_reason = isinstance(fit_or_reason, str)
        frame_fits.append(None if is_reason else fit_or_reason)
        reasons.append(fit_or_reason if is_reason else "")
        progress(t + 1, 2 * count, "fitting depth")
    states = momentum_states(frame_fits)

    def align_frame(t: int) -> Tensor:
        alpha, beta = (np.float32(number) for number in states[t])
        inverse_depth = video_values[t] * alpha if disparity else alpha / video_values[t]
        inverse_depth += beta
        np.maximum(inverse_depth, np.float32(MIN_INVERSE), out=inverse_depth)  # keeps NaN
        depth = torch.from_numpy(np.reciprocal(inverse_depth, out=inverse_depth))
        return depth if sky is None else depth.masked_fill_(sky[t].cpu(), float("nan"))

    def aligned_frames() -> Iterator[Tensor]:
        for t, depth in enumerate(_run_in_threads(align_frame, count)):
            yield depth
            progress(count + t + 1, 2 * count, "aligning depth")

    aligned_maps = store_frames(aligned_frames(), count)
    used_share = [
        0.0 if each_fit is None else each_fit.used / metric_m[0].size for each_fit in frame_fits
    ]
    report = make_report(frame_fits, reasons, used_share, states, mode)
    aligned_video = replace(
        metric,
        depth_m=aligned_maps,
        dynamic=dynamic,
        sky=sky,
        trust=_combine_maps(torch.minimum, metric.trust, video.trust),
        exo=replace(metric.exo, frames=settle_frames(metric.frames, video.frames)),
    )
    return aligned_video, report


def fit_frame(
    metric_m: FloatArray,  # [H, W] float32, metres, NaN invalid
    video: FloatArray,  # [H, W] float32, relative depth or disparity, NaN invalid
    excluded: np.ndarray | None,  # [H, W] bool
    # True if the video's values are inverse depth already.
    disparity: bool,
    mode: AlignMode,
) -> FrameFit | str:
    """Fit α and β of one frame, or return the reason why there is no fit."""
    video_inverse = np.array(video) if disparity else np.reciprocal(video)
    metric_inverse = np.reciprocal(metric_m)
    if excluded is not None:
        video_inverse[excluded] = np.nan
    stride = sample_step(video_inverse.shape)
    video_sample, metric_sample = (
        video_inverse[::stride, ::stride].ravel(),
        metric_inverse[::stride, ::stride].ravel(),
    )
    valid = np.isfinite(video_sample + metric_sample)
    valid_share = float(valid.mean())
    video_sample, metric_sample = video_sample[valid], metric_sample[valid]
    if valid_share < MIN_SHARE or video_sample.size < 16:
        return f"only {100 * valid_share:.1f} % of the pixels are static and valid in both depths"
    fit = fit_least_squares(
        video_inverse,
        metric_inverse,
        quantile_range(video_sample, *QUANTILES),
        quantile_range(metric_sample, *QUANTILES),
    )
    if fit is not None and mode == "robust":
        fit = fit_robust(video_inverse, metric_inverse, video_sample, metric_sample, fit)
    if fit is None:
        return "no depth variation on the static pixels, so scale and shift can't be distinguished"
    if not fit.alpha > 0:
        return f"the fit turned near and far around (α = {fit.alpha:.3g})"
    return fit


def momentum_states(fits: list[FrameFit | None]) -> list[tuple[float, float]]:
    """Smooth the fitted α and β of each frame over time with a momentum.

    The first fit starts the state, and frames before it take it as well.

    Raises:
        EgoXInputError: no frame has a fit.
    """
    first_fit = next((fit for fit in fits if fit is not None), None)
    if first_fit is None:
        raise EgoXInputError(
            "depth alignment",
            got="no frame in which scale and shift could be fitted",
            expected="some frames with valid, static pixels at different depths",
            fix="check that both depths belong to this video and that the dynamic mask does not "
            "cover everything; leave the video depth out to use the metric depth as it is",
        )
    alpha = first_fit.alpha
    beta = first_fit.beta
    states = []
    for fit in fits:
        if fit is not None:
            alpha = MOMENTUM * alpha + (1 - MOMENTUM) * fit.alpha
            beta = MOMENTUM * beta + (1 - MOMENTUM) * fit.beta
        states.append((alpha, beta))
    return states


def make_report(
    fits: list[FrameFit | None],
    reasons: list[str],
    used_share: list[float],
    states: list[tuple[float, float]],
    mode: str,
) -> AlignReport:
    """Make the report of an alignment from the frames' fits and the smoothed (α, β)."""
    nan = float("nan")

    def as_tensor_column(values) -> Tensor:
        return torch.tensor(list(values), dtype=torch.float64)

    return AlignReport(
        mode=mode,
        alpha=as_tensor_column(alpha for alpha, _ in states),
        beta=as_tensor_column(beta for _, beta in states),
        fit_alpha=as_tensor_column(nan if fit is None else fit.alpha for fit in fits),
        fit_beta=as_tensor_column(nan if fit is None else fit.beta for fit in fits),
        residual=as_tensor_column(
            nan if fit is None else fit.residual_of(alpha, beta)
            for fit, (alpha, beta) in zip(fits, states, strict=True)
        ),
        fit_residual=as_tensor_column(nan if fit is None else fit.residual for fit in fits),
        mean_inverse=as_tensor_column(nan if fit is None else fit.mean_y for fit in fits),
        used_share=as_tensor_column(used_share),
        reported_frames=tuple((t, reason) for t, reason in enumerate(reasons) if reason),
    )


def _pass_through(
    metric: DepthVideo,
    dynamic: Tensor | None,
    sky: Tensor | None,
    progress: Progress,
) -> tuple[DepthVideo, AlignReport]:
    count = len(metric.depth_m)

    def clamped_frame(t: int) -> Tensor:
        depth = metric.depth_m[t].cpu().clamp_max(1 / MIN_INVERSE)  # keeps NaN
        return depth if sky is None else depth.masked_fill_(sky[t].cpu(), float("nan"))

    depth = store_frames(map(clamped_frame, range(count)), count)
    mode = "metric depth as it is"
    report = make_report([None] * count, [], [0.0] * count, [(1.0, 0.0)] * count, mode)
    progress(count, count, "depth as it is")
    return replace(metric, depth_m=depth, dynamic=dynamic, sky=sky), report


def _run_in_threads(work: Callable[[int], Result], count: int) -> Iterator[Result]:
    """Run ``work(0 ... count-1)`` in threads, and yield the results in order.

    A consumer that raises (Cancel) drops what has not begun.
    """
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="egox-depth")
    pending_results = deque()
    try:
        for index in range(count):
            pending_results.append(pool.submit(work, index))
            if len(pending_results) > 2 * WORKERS:
                yield pending_results.popleft().result()
        while pending_results:
            yield pending_results.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check_shape(label: str, metric: DepthVideo, other: Tensor | None) -> None:
    if other is not None and other.shape != metric.depth_m.shape:
        raise EgoXInputError(
            label,
            got=f"{_size_text(other)}",
            expected=f"{_size_text(metric.depth_m)}, as the metric depth",
            fix="make both depths from the same frames at the same size",
        )


def _size_text(values: Tensor) -> str:
    return (
        f"{values.shape[0]} frames of {values.shape[-1]}x{values.shape[-2]}"
        if values.dim() == 3
        else f"shape {tuple(values.shape)}"
    )


def _union_of_masks(label: str, metric: DepthVideo, *masks: Tensor | None) -> Tensor | None:
    union_mask = None
    for mask in masks:
        if mask is not None:
            _check_shape(label, metric, mask)
            union_mask = _combine_maps(torch.logical_or, union_mask, mask.bool())
    return union_mask


def _combine_maps(
    combine: Callable[[Tensor, Tensor], Tensor], first: Tensor | None, second: Tensor | None
) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    frames = (
        combine(first_frame, second_frame).cpu()
        for first_frame, second_frame in zip(first, second, strict=True)
    )
    return store_frames(frames, len(first))


def _first(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return a if a is not None else b
