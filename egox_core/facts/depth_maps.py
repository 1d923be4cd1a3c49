"""Settle what the numbers of depth maps are: kind, unit, and from where on they are sky."""

from collections.abc import Sequence

import numpy as np

from ..errors import EgoXInputError
from ..frozen import frozen
from ..remarks import FactRow
from .declared import Declared
from .settle import Statement, settle


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


def settle_depth(stated: Sequence[Statement], declared: Declared, what: str) -> DepthFacts:
    """Settle kind, unit and far end of depth maps, which ``what`` names in errors.

    Raises:
        EgoXInputError: maps that say of themselves that they have no scale, or whose name says
            disparity, without the user's word.
    """
    kind_advice = "declare depth.kind where they are distances from the camera (ray) or inverse"
    kind, kind_row = settle("depth.kind", stated, declared, "z", advice=kind_advice)
    unit_advice = "declare depth.unit where it is another"
    unit_m, unit_row = settle("depth.unit", stated, declared, 1.0, advice=unit_advice)
    far_m, far_row = settle("depth.far_m", stated, declared, None)
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
