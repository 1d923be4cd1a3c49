"""Name the fields of a file that no reader takes."""

import re
from collections.abc import Iterable

from ..remarks import FactRow, Remark, RemarkKind

SYNONYMS = (
    "unit scale axes axis convention handed frame_idx frame_numbers frame_ids side offset coord "
    "metric"
).split()
"""Parts of names under which programs write a fact of ours."""
WHOLE_WORDS = {*SYNONYMS, "coordinate", "handedness"}


def unread_fields(fields: Iterable[str], what: str, *, limit: int = 8) -> tuple[Remark, ...]:
    """Name a file's unread fields in one remark, a warning where one may be a fact of the take."""
    names = sorted(fields)
    if not names:
        return ()
    suspect_names = [name for name in names if any(synonym in name.lower() for synonym in SYNONYMS)]
    shown_names = dict.fromkeys([*suspect_names, *names[:limit]])
    text = f"{what}: not read: {', '.join(shown_names)}"
    if not suspect_names:
        return (Remark(text),)
    warning = f"warning: {text}; look at what {', '.join(suspect_names)} say, it may be a fact"
    return (Remark(warning, RemarkKind.WARNING),)


def unread_row(fields: Iterable[str], what: str) -> tuple[FactRow, ...]:
    """Record a file's unread fields of which whole words of the name mean a fact of the take.

    Other fields, which a lab adds to its own files, aren't named.
    """
    suspects = [name for name in sorted(fields) if _words(name) & WHOLE_WORDS]
    if not suspects:
        return ()
    names = ", ".join(suspects)
    advice = f"look at what {names} say, it may be a fact to declare"
    return (FactRow(fact="fields not read", value=names, by=what, advice=advice),)


def _words(name: str) -> set[str]:
    """Split a name at other than letters, and at capitals, into words and pairs of these."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    words = [word.lower() for word in words]
    singular = [word.removesuffix("s") for word in words]
    return {*words, *singular, *map("_".join, zip(words, words[1:], strict=False))}
