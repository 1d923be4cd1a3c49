"""Settle the lens of the exo camera among those that the sources of a take state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..cameras import CameraModel
from ..errors import EgoXInputError
from ..frozen import frozen
from ..remarks import FactRow
from .settle import Statement, settle

KNOWN = frozenset({"depth", "meta", "caller"})
"""Kinds of sources that know the lens, so that none may contradict another."""


@frozen
class StatedLens:
    """Lens of the exo camera as one source states it, in px of one picture for all sources."""

    lens: CameraModel
    by: str  # names the source in rows
    source: str  # its kind, as in the fact's order of sources
    note: str = ""  # how it was read
    others: tuple[str, ...] = ()  # who said otherwise where it was settled before

    @classmethod
    def guess(cls, lens: CameraModel) -> StatedLens:
        """State a lens that nobody knows."""
        return cls(lens=lens, by="default", source="guess")

    @property
    def guessed(self) -> bool:
        """True if nobody states it."""
        return self.source == "guess"


def settle_lens(stated: Sequence[StatedLens]) -> tuple[StatedLens, FactRow]:
    """Choose the exo lens among those stated, of which a guess says nothing against the others.

    Raises:
        EgoXInputError: two that know the lens differ.
    """
    known_lenses = [each_stated for each_stated in stated if not each_stated.guessed]
    statements = [
        Statement("exo.lens", each_stated, each_stated.by, each_stated.source)
        for each_stated in known_lenses or stated[:1]
    ]
    chosen, row = settle("exo.lens", statements)
    for other in stated:
        if {chosen.source, other.source} <= KNOWN and not chosen.lens.agrees(other.lens):
            raise EgoXInputError(
                "camera given with the depth",
                got=f"{other.lens.words} ({other.by})",
                expected=f"the camera of the depth or of the meta file: {chosen.lens.words}",
                fix="leave camera out, or give depth and meta without one",
            )
    return chosen, replace(row, others=tuple(dict.fromkeys((*chosen.others, *row.others))))
