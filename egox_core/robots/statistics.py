"""Statistics of features as LeRobot has them, of an episode and of a whole set."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from .episode import HAND_NUMBERS, VALID_BY, Episode
from .videos import PictureKind, as_loaded

Statistics = Mapping[str, np.ndarray]
"""By name, as :data:`NAMES` has them."""
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
SAMPLES, MOST_SAMPLES, LARGE_PX, SMALL_PX = 100, 10_000, 300, 150


def of_episode(
    episode: Episode,
    columns: Mapping[str, np.ndarray],  # all of its frames', [T] or [T, N]
) -> dict[str, Statistics]:
    """Statistics of each feature; of hands only where they are valid."""
    found = {key: of_pictures(frames, kind) for key, (kind, frames) in episode.videos.items()}
    for key, values in columns.items():
        valid = None
        if key in VALID_BY:
            valid = np.repeat(columns[VALID_BY[key]], HAND_NUMBERS, -1)
        found[key] = of_numbers(values, valid)
    return found


def of_numbers(
    values: np.ndarray,  # [T] or [T, N]
    valid: np.ndarray | None = None,  # [T, N] bool, which count, others are 0; None: all
) -> Statistics:
    """Statistics over frames, of each number by itself; 0 where none counts."""
    values, count = values.reshape(len(values), -1).astype(np.float64), len(values)
    if valid is not None:
        count = max(valid.sum(0).max(), 1)
        values = np.where(valid | ~valid.any(0), values, np.nan)
    quantiles = np.nanquantile(values, [*QUANTILES.values()], axis=0)
    return {
        "min": np.nanmin(values, axis=0),
        "max": np.nanmax(values, axis=0),
        "mean": np.nanmean(values, axis=0),
        "std": np.nanstd(values, axis=0),
        "count": np.array([count]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def of_pictures(
    frames: Tensor,  # [T, H, W, C], as in :func:`encode`
    kind: PictureKind,
) -> Statistics:
    """Statistics of each channel over pixels of frames evenly spread, in the form [C, 1, 1]."""
    total = len(frames)
    count = int(np.clip(total**0.75, min(SAMPLES, total), MOST_SAMPLES))
    picked = as_loaded(frames[np.linspace(0, total - 1, count).round().astype(int)], kind)
    longer = max(picked.shape[1:3])
    step = longer // SMALL_PX if longer >= LARGE_PX else 1
    found = of_numbers(picked[:, ::step, ::step].reshape(-1, picked.shape[-1]))
    shaped = {name: values[:, None, None] for name, values in found.items()}
    return shaped | {"count": np.array([count])}


def merged(
    first: Mapping[str, Statistics],  # by feature; empty: of nothing yet
    second: Mapping[str, Statistics],
) -> Mapping[str, Statistics]:
    """Statistics of both together; quantiles are averaged, as LeRobot does."""
    if not first:
        return second
    return {
        key: _merged(first[key], each, _weight(first, key), _weight(second, key))
        for key, each in second.items()
    }


def _weight(statistics: Mapping[str, Statistics], key: str) -> np.ndarray:
    """Count of the values that each number of a feature is of."""
    if key not in VALID_BY:
        return statistics[key]["count"]
    valid = statistics[VALID_BY[key]]  # ``count`` is one for both hands
    return np.repeat((valid["mean"] * valid["count"]).round(), HAND_NUMBERS)


def _merged(first: Statistics, second: Statistics, one: np.ndarray, two: np.ndarray) -> Statistics:
    total = np.maximum(one + two, 1)

    def average(name: str) -> np.ndarray:
        return (first[name] * one + second[name] * two) / total

    mean = average("mean")
    square = sum(
        weight * (each["std"] ** 2 + (each["mean"] - mean) ** 2)
        for each, weight in ((first, one), (second, two))
    )
    extremes = {
        name: of(
            np.where(one > 0, first[name], second[name]),
            np.where(two > 0, second[name], first[name]),
        )
        for name, of in (("min", np.minimum), ("max", np.maximum))
    }
    return {
        **extremes,
        "mean": mean,
        "std": np.sqrt(square / total),
        "count": first["count"] + second["count"],
        **{name: average(name) for name in QUANTILES},
    }
