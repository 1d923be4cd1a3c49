"""Means with bootstrap confidence intervals. Whole takes are drawn: clips of one take are not independent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over clips and its percentile interval."""

    mean: float
    low: float
    high: float
    clips: int
    takes: int

    def as_dict(self) -> dict[str, float | int]:
        return {
            "mean": round(self.mean, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "clips": self.clips,
            "takes": self.takes,
        }


def bootstrap_mean(
    values: Sequence[float], takes: Sequence[str], *, samples: int = SAMPLES, seed: int = 0
) -> Estimate | None:
    """Mean of ``values`` with the 95 % interval from drawing takes with replacement; None without values.

    Deterministic for a seed. With a single take the interval has no width, since nothing is known of other takes.
    """
    if not len(values):
        return None
    names, place = np.unique(np.asarray(takes), return_inverse=True)
    sums = np.bincount(place, weights=np.asarray(values, dtype=np.float64), minlength=len(names))
    counts = np.bincount(place, minlength=len(names)).astype(np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(names), size=(samples, len(names)))
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
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Estimate | None:
    """Mean of a - b over the clips that have both, with its interval; None where there are none."""
    differences = {
        clip: x - y
        for clip in sorted(a)
        if (x := a[clip]) is not None and (y := b.get(clip)) is not None
    }
    return bootstrap_mean(
        list(differences.values()), [take_of[c] for c in differences], samples=samples, seed=seed
    )
