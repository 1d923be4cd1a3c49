"""Settle what the numbers of depth maps are: kind, unit, and from where on they are sky."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import EgoXInputError
from ..frozen import frozen
from ..remarks import FactRow
from .declared import Declared
from .settle import Statement, settle

MIN_CEILING_SHARE = 0.005
"""Share of a map from which on a number says that nothing was measured, not a speck of depth."""
MIN_CEILING_BITS = 10
"""Least bits of such a number, below which 5 % of it are few steps."""
MAX_CEILING_BITS = 16
"""Most bits of such a number where maps became metres: more of them are finer than float32."""
MIN_LEVELS, MAX_LEVELS = 32, 4096
"""Different numbers of a map that became metres, least and most, by which its step is found."""
MAX_UNWHOLE = 0.02
"""Distance of a number in steps from a whole one: float32 has 0.004 of 65535 steps."""
BELOW_CEILING = 1 - 2**-17
"""Where a map ends that has a largest number: half a step of 16 bits below it."""
ROUNDING = 1e-9
"""Of a logarithm: of float32, too, 2^31 is an integer's largest number."""


@frozen
class DepthFacts:
    """Kind, unit and far end of depth maps, with the rows that tell who gave them."""

    kind: str = "z"
    unit_m: float = 1.0
    far_m: float | None = None
    rows: tuple[FactRow, ...] = ()

    @property
    def is_plain(self) -> bool:
        """True if the numbers are z depth in metres already."""
        return self.kind == "z" and self.unit_m == 1.0 and self.far_m is None

    def to_metres(
        self,
        values: np.ndarray,  # [..., H, W] float32 as stored
        ray_lengths: np.ndarray | None = None,  # [H, W] of rays whose z is 1; for kind ray
    ) -> np.ndarray:  # [..., H, W] float32 z depth in metres, NaN where invalid
        """Convert maps to z depth in metres, in which invalid pixels and the sky are NaN."""
        if self.is_plain:
            return values
        depth = values.astype(np.float32)
        if self.kind == "inverse":
            depth = np.reciprocal(np.where(depth > 0, depth, np.float32(np.nan)))
        depth = depth * np.float32(self.unit_m)
        if self.far_m is not None:
            depth = np.where(depth >= np.float32(self.far_m), np.float32(np.nan), depth)
        if self.kind == "ray" and ray_lengths is not None:
            depth = depth / ray_lengths
        return depth.astype(np.float32)


def ceiling_of(depth: np.ndarray) -> float | None:  # [H, W] as stored
    """Find the number by which a map says that there is nothing, or None.

    It is the largest one of a type or a sensor, 2^k - 1, on at least 0.5 % of the map, where no
    number within 5 % below is a tenth as common. All are whole, or were so before they became
    metres.
    """
    top = float(np.nanmax(depth, initial=0))
    top_count = np.count_nonzero(depth == top)
    if not 0 < top < math.inf or top_count < MIN_CEILING_SHARE * depth.size:
        return None
    _, counts_below = np.unique(depth[(depth >= 0.95 * top) & (depth < top)], return_counts=True)
    if counts_below.max(initial=0) > 0.1 * top_count:
        return None
    bits = math.log2(top + 1)
    if bits >= MIN_CEILING_BITS and abs(bits - round(bits)) <= ROUNDING:
        return None if (np.nan_to_num(depth) % 1).any() else top
    numbers = depth[np.isfinite(depth) & (depth != 0)].astype(np.float64)
    sample = np.unique(numbers[:: max(1, numbers.size // MAX_LEVELS)])
    for largest in 2.0 ** np.arange(MIN_CEILING_BITS, MAX_CEILING_BITS + 1) - 1:
        if all(_are_whole(values * (largest / top)) for values in (sample, numbers)):
            return top if sample.size >= MIN_LEVELS else None
    return None


def _are_whole(values: np.ndarray) -> bool:
    return bool((np.abs(values - values.round()) <= MAX_UNWHOLE).all())


def settle_depth(
    stated: Sequence[Statement],
    declared: Declared,
    what: str,
    # The number by which maps say that there is nothing, see ceiling_of; None: none was found.
    ceiling: float | None = None,
) -> DepthFacts:
    """Settle kind, unit and far end of depth maps, which ``what`` names in errors.

    Raises:
        EgoXInputError: maps that say of themselves that they have no scale, or whose name says
            disparity, without the user's word.
    """
    kind_advice = "declare depth.kind where they are distances from the camera (ray) or inverse"
    kind, kind_row = settle("depth.kind", stated, declared, "z", advice=kind_advice)
    unit_advice = "declare depth.unit where it is another"
    unit_m, unit_row = settle("depth.unit", stated, declared, 1.0, advice=unit_advice)
    if ceiling is not None and kind != "inverse":
        by = f"{ceiling:.7g}, the largest number of its bits, with little just below"
        stated = [*stated, Statement("depth.far_m", ceiling * BELOW_CEILING * unit_m, by)]
    far_m, far_row = settle("depth.far_m", stated, declared, None)
    if far_m is not None and declared.value("depth.far_m") is None:
        far_row = replace(far_row, advice="declare a larger depth.far_m where that is depth")
    metric, metric_row = settle("depth.metric", stated, declared, "yes")
    if metric == "no" and declared.value("depth.unit") is None:
        raise EgoXInputError(
            what,
            got=f"maps without a scale, by {metric_row.by}",
            expected="metric depth",
            fix="declare depth.unit, the metres per unit, if you know it; else give metric depth",
        )
    if "disparit" in kind_row.by and kind == "inverse":
        raise EgoXInputError(
            what,
            got=f"disparity, by {kind_row.by}",
            expected="depth in metres, or one over it",
            fix="convert it by focal length and baseline; where its numbers are 1/m, declare "
            "depth.kind=inverse",
        )
    rows = [kind_row, unit_row]
    rows += [far_row] if far_m is not None else []
    rows += [metric_row] if metric_row.by != "default" else []
    return DepthFacts(kind=kind, unit_m=unit_m, far_m=far_m, rows=tuple(rows))
