"""Statistics of features as LeRobot has them, of an episode and of a whole set."""

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

Statistics = Mapping[str, np.ndarray]
"""By name, as :data:`NAMES` has them, and ``weight``: how many values each number is of."""
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
SAMPLES, MOST_SAMPLES, LARGE_PX, SMALL_PX = 100, 10_000, 300, 150


def of_numbers(
    values: np.ndarray,  # [T] or [T, N]
    valid: np.ndarray | None = None,  # [T, N] bool, which count; None: all
) -> Statistics:
    """Statistics over frames, of each number by itself; 0 where none counts."""
    values = values.reshape(len(values), -1).astype(np.float64)
    weight = np.full(values.shape[1], float(len(values)))
    if valid is not None:
        weight = valid.sum(0).astype(np.float64)
        values = np.where(valid, values, np.where(weight > 0, np.nan, 0.0))
    quantiles = np.nanquantile(values, [*QUANTILES.values()], axis=0)
    return {
        "count": np.array([max(int(weight.max()), 1)]),
        "weight": weight,
        "min": np.nanmin(values, axis=0),
        "max": np.nanmax(values, axis=0),
        "mean": np.nanmean(values, axis=0),
        "std": np.nanstd(values, axis=0),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def of_pictures(
    frames: Tensor,  # [T, ...]
    as_loaded: Callable[[Tensor], np.ndarray],  # [N, ...] to [N, H, W, C]
) -> Statistics:
    """Statistics of each channel over pixels of frames evenly spread, in the form [C, 1, 1]."""
    total = len(frames)
    count = min(total, int(max(min(SAMPLES, total), min(total**0.75, MOST_SAMPLES))))
    picked = as_loaded(frames[np.linspace(0, total - 1, count).round().astype(int)])
    longer = max(picked.shape[1:3])
    step = longer // SMALL_PX if longer >= LARGE_PX else 1
    pixels = picked[:, ::step, ::step].reshape(-1, picked.shape[-1])
    found = of_numbers(pixels)
    shaped = {name: values[:, None, None] for name, values in found.items() if name != "count"}
    return {**shaped, "weight": np.full_like(shaped["weight"], count), "count": np.array([count])}


def merged(first: Statistics, second: Statistics) -> Statistics:
    """Statistics of both together; quantiles are averaged, as LeRobot does."""
    one, two = first["weight"], second["weight"]
    total = np.maximum(one + two, 1)

    def average(name: str) -> np.ndarray:
        return (first[name] * one + second[name] * two) / total

    mean = average("mean")
    square = sum(
        weight * (each["std"] ** 2 + (each["mean"] - mean) ** 2)
        for each, weight in ((first, one), (second, two))
    )
    extremes = {
        name: np.where(
            one == 0, second[name], np.where(two == 0, first[name], of(first[name], second[name]))
        )
        for name, of in (("min", np.minimum), ("max", np.maximum))
    }
    return {
        **extremes,
        "mean": mean,
        "std": np.sqrt(square / total),
        "count": first["count"] + second["count"],
        "weight": one + two,
        **{name: average(name) for name in QUANTILES},
    }
