"""Define remarks: sentences on what a stage read and did, each with a kind that code can check."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class RemarkKind(str, Enum):
    """Kind of a remark, by which code can react to it.

    It is a string, because the nodes may use an installed copy of egox-core next to their own.
    """

    NOTE = "note"
    WARNING = "warning"  # something to look at
    STRANGE_DEPTH = "strangeDepth"  # depth and frames may be of two takes
    HEAD_VIDEO = "headVideo"  # a wearer's own video may stand in exo's place
    STRANGE_PLACE = "strangePlace"  # the ego camera hardly is where it is
    # from there nothing of the scene is seen, or a unit is wrong
    IMPOSSIBLE_PLACE = "impossiblePlace"
    FRAMES = "frames"  # of which frames the entries of a file, array or socket are


@dataclass(frozen=True, slots=True)
class Remark:
    """One sentence on what was read or done, and its kind."""

    text: str
    kind: RemarkKind = RemarkKind.NOTE

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class FactRow:
    """Record one settled fact of a take: its value, who gave it, and who said otherwise."""

    fact: str  # a name of facts.FACTS, or another one that no user declares
    value: str
    by: str  # "declared", a file's name, "default"
    others: tuple[str, ...] = ()  # "value (source)" of each source that says otherwise
    advice: str = ""  # of a default that nothing checks: what to declare if it is wrong

    @property
    def text(self) -> str:
        """Write the row as one line."""
        otherwise = f"; otherwise: {', '.join(self.others)}" if self.others else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.fact}: {self.value} (by {self.by}){otherwise}{advice}"


def facts_text(rows: Iterable[FactRow]) -> str:
    """Write the rows of facts as lines, those on which sources differ first, each line once."""
    ordered_rows = sorted(rows, key=lambda row: (not row.others, row.fact))
    return "\n".join(dict.fromkeys(row.text for row in ordered_rows))


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """Remarks on what a stage, or a whole run, read and did."""

    notes: tuple[Remark, ...] = ()
    facts: tuple[FactRow, ...] = ()  # what was settled of the take, and by whom

    def text(self) -> str:
        """Join the notes, one per line."""
        return "\n".join(map(str, self.notes))

    def warnings(self) -> list[str]:
        """List the texts of the notes that warn of something."""
        plain_kinds = (RemarkKind.NOTE, RemarkKind.FRAMES)
        return [note.text for note in self.notes if note.kind not in plain_kinds]
