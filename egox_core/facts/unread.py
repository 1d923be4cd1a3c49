"""Name the fields of a file that no reader takes."""

from collections.abc import Iterable

from ..remarks import Remark, RemarkKind

SYNONYMS = (
    "unit scale axes axis convention handed frame_idx frame_numbers frame_ids side offset coord "
    "metric"
).split()
"""Parts of names under which programs write a fact of ours."""


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
    warning = f"warning: {text}; declare what {', '.join(suspect_names)} say"
    return (Remark(warning, RemarkKind.WARNING),)
