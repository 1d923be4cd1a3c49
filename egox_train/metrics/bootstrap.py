"""Compute means with bootstrap confidence intervals, and tests of paired differences.

Takes are resampled as a whole, because clips of one take are not independent."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from egox_core.frozen import frozen

SAMPLES = 2000
CONFIDENCE_LEVEL = 0.95
FEWEST_TAKES = 5
"""Takes under an interval or a test: of fewer nothing is known but their mean."""


@frozen
class Estimate:
    """Mean of a metric over clips, with its bootstrap percentile interval."""

    mean: float
    low: float
    high: float
    clips: int
    takes: int


def bootstrap_mean(values: Sequence[float], takes: Sequence[str]) -> Estimate | None:
    """Compute the mean of ``values`` over clips and its 95 % bootstrap interval.

    None without values.

    The same in each run. With a single take the interval has no width, since nothing is known of
    other takes.
    """
    if not len(values):
        return None
    unique_takes, take_indices = np.unique(np.asarray(takes), return_inverse=True)
    sum_by_take = np.bincount(
        take_indices, weights=np.asarray(values, dtype=np.float64), minlength=len(unique_takes)
    )
    counts = np.bincount(take_indices, minlength=len(unique_takes)).astype(np.float64)
    take_draws = np.random.default_rng(0).integers(
        0, len(unique_takes), size=(SAMPLES, len(unique_takes))
    )
    drawn_means = sum_by_take[take_draws].sum(axis=1) / counts[take_draws].sum(axis=1)
    lower_bound, upper_bound = np.quantile(
        drawn_means, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2]
    )
    return Estimate(
        mean=float(sum_by_take.sum() / counts.sum()),
        low=float(lower_bound),
        high=float(upper_bound),
        clips=len(values),
        takes=len(unique_takes),
    )


def paired_difference(
    a: Mapping[str, float | None],
    b: Mapping[str, float | None],
    take_of: Mapping[str, str],
) -> tuple[Estimate | None, float | None]:
    """Compute the mean difference of two methods' values, its bootstrap interval and p value.

    None where there are no clips; no p with fewer takes than a test needs.
    """
    differences_by_take: dict[str, list[float]] = {}
    for clip in sorted(a):
        if (x := a[clip]) is not None and (y := b.get(clip)) is not None:
            differences_by_take.setdefault(take_of[clip], []).append(x - y)
    take_differences = [
        (take, value) for take, values in differences_by_take.items() for value in values
    ]
    mean_difference = bootstrap_mean(
        [value for _, value in take_differences], [take for take, _ in take_differences]
    )
    take_means = [float(np.mean(values)) for values in differences_by_take.values()]
    if len(take_means) < FEWEST_TAKES:
        return mean_difference, None
    return mean_difference, float(wilcoxon(take_means).pvalue) if any(take_means) else 1.0


def holm(values: Mapping[Any, float]) -> dict[Any, float]:
    """Adjust the p values of several comparisons by Holm's method."""
    adjusted_values, highest_p = {}, 0.0
    for rank, key in enumerate(sorted(values, key=lambda k: values[k])):
        highest_p = max(highest_p, min(1.0, (len(values) - rank) * values[key]))
        adjusted_values[key] = highest_p
    return adjusted_values
