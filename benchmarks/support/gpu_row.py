"""Define a row of the ``bench gpu`` table, and remove folders from its text."""

import re
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from egox_core.frozen import frozen

GB = 1e9
MOST_REASON_LENGTH = 200


@frozen
class Row:
    """Row of the GPU benchmark's table: one measurement and its limit, as text and as numbers."""

    what: str
    measured: str
    bar: str = ""
    held: bool | None = None  # None: nothing to hold, or not judged at this size
    numbers: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judged_row(
    what: str,
    measured: str,
    limits: Mapping[str, bool],  # a limit's words, and whether it holds
    *,
    is_judged: bool = True,
    **numbers: Any,
) -> Row:
    """Make a row that holds if all of its limits do, or one without limits if it isn't judged."""
    return Row(
        what=what,
        measured=measured,
        bar=", ".join(limits) if is_judged else "",
        held=all(limits.values()) if is_judged else None,
        numbers=numbers,
    )


def error_line(error: BaseException) -> str:
    """Shorten an exception to one line of text that names no folder."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    text = text.replace(str(Path.home()), "~")
    folders_pattern = r"(?<![\w.])(?:[A-Za-z]:|~)?[\\/](?:[\w.+~-]+[\\/])+(?=[\w.+~-])"
    return re.sub(folders_pattern, ".../", text)[:MOST_REASON_LENGTH]
