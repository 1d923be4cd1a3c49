"""Compute LeRobot's statistics of an episode, and merge them into those of the data set."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from .episode import Episode
from .videos import PictureKind, as_loaded

Statistics = Mapping[str, np.ndarray]
"""By name, as :data:`NAMES` has them."""
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
QUANTILE_PAIRS = (("q01", "q99"), ("q10", "q90"))
"""Quantiles that a policy may map to -1 and 1."""
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
MIN_STD = 0.02
"""Floor of the standard deviation by which a policy divides state, action and depth, metres and
entries of rotations: what rests, such as a hand that is never seen, isn't blown up."""
OF_LEAST_STD = ("observation.state", "action", "observation.images.ego_depth")
SAMPLES, MAX_SAMPLES, LARGE_PX, SMALL_PX = 100, 10_000, 300, 150


def episode_statistics(
    episode: Episode,
    columns: Mapping[str, np.ndarray],  # all of its frames', [T] or [T, N]
) -> dict[str, Statistics]:
    """Compute the statistics of each video and column of an episode."""
    statistics = {
        key: picture_statistics(frames, kind) for key, (kind, frames) in episode.videos.items()
    }
    statistics |= {key: number_statistics(values) for key, values in columns.items()}
    for key in statistics.keys() & {*OF_LEAST_STD}:
        std = np.maximum(statistics[key]["std"], MIN_STD)
        statistics[key] = with_least_width({**statistics[key], "std": std})
    return statistics


def with_least_width(statistics: Statistics) -> Statistics:
    """Widen a pair of quantiles that is less than two floors apart to two standard deviations, so
    that what rests in most frames isn't blown up in the others.

    All quantiles stay in order and within min and max, but those of what never moves.
    """
    std = statistics["std"]
    lowest, highest = _quantile_bounds(statistics)
    widened = dict(statistics)
    for lower_name, upper_name in QUANTILE_PAIRS:  # the outer one first, which bounds the other
        lower, upper = statistics[lower_name], statistics[upper_name]
        is_narrow = upper - lower < 2 * MIN_STD
        wide_lower = np.clip(statistics["mean"] - std, lowest, lower)
        wide_upper = np.clip(wide_lower + 2 * std, upper, highest)
        wide_lower = np.clip(wide_upper - 2 * std, lowest, wide_lower)
        lowest = widened[lower_name] = np.where(is_narrow, wide_lower, lower)
        highest = widened[upper_name] = np.where(is_narrow, wide_upper, upper)
    return widened


def _quantile_bounds(statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Compute between what the quantiles of a column lie: wider than its values if it rests."""
    lowest, highest, mean = (statistics[name] for name in ("min", "max", "mean"))
    rests = highest - lowest < 2 * MIN_STD
    return (
        np.where(rests, np.minimum(lowest, mean - MIN_STD), lowest),
        np.where(rests, np.maximum(highest, mean + MIN_STD), highest),
    )


def quantiles_of(
    values: np.ndarray,  # [T, N]
) -> Statistics:
    """Compute the quantiles of each number of a column."""
    quantiles = np.quantile(values.astype(np.float64), [*QUANTILES.values()], axis=0)
    return dict(zip(QUANTILES, quantiles, strict=True))


def number_statistics(
    values: np.ndarray,  # [T] or [T, N]
) -> Statistics:
    """Compute statistics over frames for each number of a column."""
    values = values.reshape(len(values), -1).astype(np.float64)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **quantiles_of(values),
    }


def picture_statistics(
    frames: Tensor,  # [T, H, W, C], as in :func:`.videos.encode`
    kind: PictureKind,
) -> Statistics:
    """Compute the statistics of each channel [C, 1, 1] over pixels of evenly spaced frames."""
    frame_count = len(frames)
    sample_count = int(np.clip(frame_count**0.75, min(SAMPLES, frame_count), MAX_SAMPLES))
    sampled_frames = as_loaded(
        frames[np.linspace(0, frame_count - 1, sample_count).round().astype(int)], kind
    )
    longer_side = max(sampled_frames.shape[1:3])
    step = longer_side // SMALL_PX if longer_side >= LARGE_PX else 1
    flat_statistics = number_statistics(
        sampled_frames[:, ::step, ::step].reshape(-1, sampled_frames.shape[-1])
    )
    statistics = {name: values[:, None, None] for name, values in flat_statistics.items()}
    return statistics | {"count": np.array([sample_count])}


def merge_statistics(
    first: Mapping[str, Statistics],  # by feature; empty: of nothing yet
    second: Mapping[str, Statistics],
) -> Mapping[str, Statistics]:
    """Merge two sets of statistics, with the outer of both quantiles, as LeRobot does.

    Quantiles of both together can't be computed from these (lerobot's pull request 3804).
    """
    if not first:
        return second
    return {key: _merge_feature(first[key], statistics) for key, statistics in second.items()}


def _merge_feature(first: Statistics, second: Statistics) -> Statistics:
    count = first["count"] + second["count"]
    mean = (first["mean"] * first["count"] + second["mean"] * second["count"]) / count
    square_sum = sum(
        statistics["count"] * (statistics["std"] ** 2 + (statistics["mean"] - mean) ** 2)
        for statistics in (first, second)
    )
    merged = {
        "min": np.minimum(first["min"], second["min"]),
        "max": np.maximum(first["max"], second["max"]),
        "mean": mean,
        "std": np.sqrt(square_sum / count),
        "count": count,
    }
    outer_quantiles = [
        (np.minimum if share <= 0.5 else np.maximum)(first[name], second[name])
        for name, share in QUANTILES.items()
    ]
    in_order = np.maximum.accumulate(outer_quantiles).clip(*_quantile_bounds(merged))
    return merged | dict(zip(QUANTILES, in_order, strict=True))
