"""Check whether a depth is z depth or disparity as stated, and whether its unit is metres.

Disparity grows towards the camera, z depth away from it, so the order of the values against a
metric depth of the same frames shows which one it is. The scale shows metres, millimetres or
pictures normalised to 0...1."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frame_store import sample_frames
from ..remarks import Remark, RemarkKind
from ..types import DepthVideo

# |rank correlation| below this says nothing (a flat wall, or depths of different videos)
CLEAR_ORDER = 0.3
SAMPLE = 4_000  # pixels per frame; the standard error of a rank correlation is then about 0.016
FRAMES = 5  # spread over the clip: one odd frame must not decide


@dataclass(frozen=True, slots=True)
class OrderCheck:
    """Correlation of a video depth with the metric depth, as z depth and as disparity."""

    # Spearman's, of the values as given with z depth in metres; median over a few frames
    correlation: float
    # share of 1/D^m's variance explained by 1/value (best of the linear fits), 0...1
    depth_fit: float
    disparity_fit: float  # the same by the value itself

    @property
    def looks_like(self) -> str | None:
        """Kind of depth that the values look like, 'disparity' or 'z', or None if unclear."""
        if abs(self.correlation) < CLEAR_ORDER:
            return None
        return "disparity" if self.correlation < 0 else "z"


def compare_order(
    metric_m: Tensor,  # [T, H, W] z depth, metres, NaN invalid
    values: Tensor,  # [T, H, W] depth or disparity, NaN invalid
    excluded: Tensor | None = None,  # [T, H, W] bool
) -> OrderCheck | None:
    """Compute the rank correlation of a video depth and a metric depth on a sample of static
    pixels."""
    count = len(metric_m)
    pixels = metric_m[0].numel()
    step = max(1, pixels // SAMPLE)
    frame_correlations = []
    for t in sample_frames(count, FRAMES):
        metric_values, other_values = (
            source[t].flatten()[::step].cpu().numpy().astype(np.float64)
            for source in (metric_m, values)
        )
        valid_mask = np.isfinite(metric_values) & np.isfinite(other_values) & (metric_values > 0)
        if excluded is not None:
            valid_mask &= ~excluded[t].flatten()[::step].cpu().numpy()
        metric_values, other_values = metric_values[valid_mask], other_values[valid_mask]
        if metric_values.size < 64:
            continue
        positive_mask = other_values > 0
        depth_correlation = (
            _correlation(1 / metric_values[positive_mask], 1 / other_values[positive_mask])
            if np.count_nonzero(positive_mask) >= 64
            else 0.0
        )
        frame_correlations.append(
            (
                _correlation(_ranks(metric_values), _ranks(other_values)),
                depth_correlation**2,
                _correlation(1 / metric_values, other_values) ** 2,
            )
        )
    if not frame_correlations:
        return None
    return OrderCheck(*(float(column) for column in np.median(frame_correlations, axis=0)))


def _ranks(values: np.ndarray) -> np.ndarray:  # [N] -> [N]
    """Compute the ranks of values from 1, with the mean rank for equal values."""
    _, inverse_index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse_index]


def check_order(
    metric: DepthVideo,
    video: DepthVideo,
    excluded: Tensor | None = None,  # [T, H, W] bool
) -> None:
    """Refuse a video depth whose order of near and far contradicts its stated kind.

    Raises:
        EgoXInputError: disparity given as z depth, z depth given as disparity.
    """
    check = compare_order(metric.depth_m, video.depth_m, excluded)
    if check is None or check.looks_like is None:
        return
    if (video.kind == "disparity") == (check.looks_like == "disparity"):
        return
    findings = (
        f"rank correlation {check.correlation:+.2f} with the metric depth, values "
        f"{_range_text(video.depth_m)} against {_range_text(metric.depth_m)} m; 1/D^m is explained "
        f"to {100 * check.disparity_fit:.0f} % as disparity and to {100 * check.depth_fit:.0f} % "
        "as z depth"
    )
    if check.looks_like == "disparity":
        raise EgoXInputError(
            f"video depth of kind '{video.kind}' looks like disparity (near is large)",
            got=findings,
            expected="values that grow with distance, as the metric depth's",
            fix="set video_kind to 'disparity' (an IMAGE depth map is one); if the video depth "
            "is right, then the metric depth is disparity",
        )
    raise EgoXInputError(
        "video depth of kind 'disparity' looks like z depth (far is large)",
        got=findings,
        expected="values that grow towards the camera",
        fix="set video_kind to 'relative z' (an IMAGE depth map: invert it)",
    )


def scale_notes(depth: DepthVideo) -> tuple[Remark, ...]:
    """Warn about a metric depth whose values are unlikely to be metres."""
    if depth.kind != "metric z":
        return ()
    values = depth.depth_m[:: max(1, len(depth.depth_m) // FRAMES), ::4, ::4]
    values = values[torch.isfinite(values)]
    if not values.numel():
        return ()
    median, low, high = float(values.median()), float(values.min()), float(values.max())
    if median > 300:
        finding = (
            f"median metric depth is {median:.0f} m; is the file in millimetres (scale 0.001)?"
        )
    elif 0.99 <= high <= 1.0 and low < 0.05:
        finding = (
            f"metric depth is in {low:.3g} to {high:.3g}, like a picture normalised to 0...1; such "
            "a map is a relative depth or disparity and belongs on the video depth input"
        )
    elif median < 0.05:
        finding = f"median metric depth is {1000 * median:.0f} mm; check the unit"
    else:
        return ()
    return (Remark(f"warning: the {finding}", RemarkKind.WARNING),)


def _range_text(values: Tensor) -> str:
    sample = values[:: max(1, len(values) // FRAMES), ::4, ::4]
    sample = sample[torch.isfinite(sample)]
    return (
        f"{float(sample.min()):.3g} to {float(sample.max()):.3g}"
        if sample.numel()
        else "without valid pixels"
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    spread = float((first @ first) * (second @ second)) ** 0.5
    return float(first @ second) / spread if spread > 0 else 0.0
