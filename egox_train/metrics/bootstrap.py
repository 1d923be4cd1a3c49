"""Means with bootstrap confidence intervals, and tests of paired differences. Whole takes are drawn:
clips of one take are not independent."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from egox_core.frozen import frozen

SAMPLES = 2000
LEVEL = 0.95
FEWEST_TAKES = 5
"""Takes under an interval or a test: of fewer nothing is known but their mean."""


@frozen
class Estimate:
    """A mean over clips and its percentile interval."""

    mean: float
    low: float
    high: float
    clips: int
    takes: int


def bootstrap_mean(values: Sequence[float], takes: Sequence[str]) -> Estimate | None:
    """Mean of ``values`` with the 95 % interval from drawing takes with replacement; None without values.

    The same in each run. With a single take the interval has no width, since nothing is known of other takes.
    """
    if not len(values):
        return None
    names, place = np.unique(np.asarray(takes), return_inverse=True)
    sums = np.bincount(place, weights=np.asarray(values, dtype=np.float64), minlength=len(names))
    counts = np.bincount(place, minlength=len(names)).astype(np.float64)
    drawn = np.random.default_rng(0).integers(0, len(names), size=(SAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        mean=float(sums.sum() / counts.sum()),
        low=float(low),
        high=float(high),
        clips=len(values),
        takes=len(names),
    )


def paired_difference(
    a: Mapping[str, float | None],
    b: Mapping[str, float | None],
    take_of: Mapping[str, str],
) -> Estimate | None:
    """Mean of a - b over the clips that have both, with its interval; None where there are none."""
    differences = _differences(a, b)
    return bootstrap_mean(list(differences.values()), [take_of[c] for c in differences])


def _differences(
    a: Mapping[str, float | None], b: Mapping[str, float | None]
) -> dict[str, float]:  # by clip
    return {
        clip: x - y
        for clip in sorted(a)
        if (x := a[clip]) is not None and (y := b.get(clip)) is not None
    }


def signed_rank(
    a: Mapping[str, float | None], b: Mapping[str, float | None], take_of: Mapping[str, str]
) -> float | None:
    """Wilcoxon's two-sided p of a - b, whose mean over each take's clips counts once; None with
    fewer takes than a test needs."""
    by_take: dict[str, list[float]] = {}
    for clip, difference in _differences(a, b).items():
        by_take.setdefault(take_of[clip], []).append(difference)
    differences = [float(np.mean(values)) for values in by_take.values()]
    if len(differences) < FEWEST_TAKES:
        return None
    return float(wilcoxon(differences).pvalue) if any(differences) else 1.0


def holm(values: Mapping[Any, float]) -> dict[Any, float]:
    """Holm's p of each of many comparisons: under .05 none is wrong at that level, however many."""
    adjusted, highest = {}, 0.0
    for rank, key in enumerate(sorted(values, key=lambda k: values[k])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[key]))
        adjusted[key] = highest
    return adjusted
