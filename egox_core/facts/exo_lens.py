"""Settle the lens of the exo camera among those that the sources of a take state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..cameras import CameraModel
from ..errors import EgoXInputError
from ..frozen import frozen
from ..remarks import FactRow

SOURCES = ("depth", "meta", "raw", "caller", "file", "angle", "model", "guess")
"""Kinds of sources of the exo lens, the first wins."""
KNOWN = frozenset({"depth", "meta", "caller"})
"""Kinds of sources that know the lens, so that none may contradict another."""
CONTRADICTING = KNOWN | {"file"}
"""Kinds that a caller's lens may not contradict."""


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

    def seen(self, view: Callable[[CameraModel], CameraModel]) -> StatedLens:
        """State the same lens in px of another picture, as ``view`` derives it."""
        return replace(self, lens=view(self.lens))

    def check_rays(self) -> None:
        """Refuse to convert distances along rays by a lens that is guessed.

        Raises:
            EgoXInputError: it is.
        """
        if self.guessed:
            raise EgoXInputError(
                "depth.kind",
                got="ray, for maps without a lens",
                expected="the exo camera",
                fix="give camera, meta or fov_deg",
            )

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
    ranked = sorted(known_lenses or stated[:1], key=lambda each: SOURCES.index(each.source))
    chosen = ranked[0]
    for other in stated:
        sources = {chosen.source, other.source}
        are_known = sources <= KNOWN or ("caller" in sources and sources <= CONTRADICTING)
        if are_known and not chosen.lens.agrees(other.lens):
            raise EgoXInputError(
                "camera given with the depth",
                got=f"{other.lens.words} ({other.by})",
                expected=f"the camera of the depth or of the meta file: {chosen.lens.words}",
                fix="leave camera out, or give depth and meta without one",
            )
    others = (
        f"{each.lens.words} ({each.by})" for each in ranked if not each.lens.agrees(chosen.lens)
    )
    return chosen, FactRow(
        fact="exo.lens",
        value=chosen.lens.words,
        by=chosen.by,
        others=tuple(dict.fromkeys((*chosen.others, *others))),
    )
