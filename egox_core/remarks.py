"""Remarks for people on what was taken and done: code asks for their kind, never for their words."""

from dataclasses import dataclass
from enum import Enum


class RemarkKind(str, Enum):
    """Use that code makes of a remark, besides showing it.

    It is a string, because the nodes may use an installed copy of egox-core next to their own.
    """

    NOTE = "note"
    WARNING = "warning"  # something to look at
    STRANGE_DEPTH = "strangeDepth"  # depth and frames may be of two takes
    HEAD_VIDEO = "headVideo"  # a wearer's own video may stand in exo's place
    STRANGE_PLACE = "strangePlace"  # the ego camera hardly is where it is
    FRAMES = "frames"  # of which frames the entries of a file, array or socket are


@dataclass(frozen=True, slots=True)
class Remark:
    """One sentence."""

    text: str
    kind: RemarkKind = RemarkKind.NOTE

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """Remarks of a stage, a part of one or a whole run on what it took and did."""

    notes: tuple[Remark, ...] = ()

    def text(self) -> str:
        """Join the notes, one per line."""
        return "\n".join(map(str, self.notes))

    def warnings(self) -> list[str]:
        """List the texts of all notes that are more than plain ones."""
        plain_kinds = (RemarkKind.NOTE, RemarkKind.FRAMES)
        return [note.text for note in self.notes if note.kind not in plain_kinds]
