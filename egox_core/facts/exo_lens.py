"""Settle the lens of the exo camera among those that the sources of a take state."""

from collections.abc import Sequence
from dataclasses import replace

from ..cameras import CameraModel
from ..errors import EgoXInputError
from ..frozen import frozen
from ..remarks import FactRow
from .declared import NOTHING_DECLARED
from .settle import Statement, settle
from .table import Fact

KNOWN = frozenset({"depth", "meta", "caller"})
"""Kinds of sources that know the lens, so that none may contradict another."""


@frozen
class StatedLens:
    """Lens of the exo camera as one source states it, in px of one picture for all sources."""

    lens: CameraModel
    by: str  # names the source in rows
    source: str  # its kind, one of LENS_FACT.sources
    note: str = ""  # how it was read
    others: tuple[str, ...] = ()  # who said otherwise where it was settled before

    @property
    def guessed(self) -> bool:
        """True if nobody states it."""
        return self.source == "guess"


LENS_FACT = Fact(
    meaning="lens of the exo camera",
    expected="a CameraModel",
    parse=lambda value: value,
    show=lambda stated: stated.lens.words,
    same=lambda first, second: first.lens.agrees(second.lens),
    # A finished depth's own goes first, an estimate of a depth model comes last.
    sources=("depth", "meta", "caller", "file", "angle", "model"),
)


def settle_lens(stated: Sequence[StatedLens]) -> tuple[StatedLens, FactRow]:
    """Choose the exo lens among those stated, of which one may be a guess.

    Raises:
        EgoXInputError: two that know the lens differ.
    """
    statements = [
        Statement("exo.lens", each_stated, each_stated.by, each_stated.source)
        for each_stated in stated
        if not each_stated.guessed
    ]
    chosen, row = settle("exo.lens", statements, NOTHING_DECLARED, stated[0], description=LENS_FACT)
    known_lenses = [each_stated for each_stated in stated if each_stated.source in KNOWN]
    for other in known_lenses:
        if chosen.source in KNOWN and not LENS_FACT.same(chosen, other):
            raise EgoXInputError(
                "camera given with the depth",
                got=f"{other.lens.words} ({other.by})",
                expected=f"the camera of the depth or of the meta file: {chosen.lens.words}",
                fix="leave camera out, or give depth and meta without one",
            )
    return chosen, replace(row, others=(*chosen.others, *row.others))
