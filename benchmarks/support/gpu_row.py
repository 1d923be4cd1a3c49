"""Define a row of the ``bench gpu`` table, and remove private details from its text."""

import getpass
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from egox_core.frozen import frozen

GB = 1e9
MOST_REASON_LENGTH = 200
PACK_FOLDER = Path(__file__).resolve().parent.parent.parent


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


def anonymise(text: str) -> str:
    """Remove folders, user names and computer names from a text before it is published."""
    for folder, placeholder in ((PACK_FOLDER, "<pack>"), (Path.home(), "~")):
        for path_text in {str(folder), folder.as_posix(), str(folder).replace("\\", "\\\\")}:
            if len(path_text) > 3:
                text = text.replace(path_text, placeholder)
    for name, placeholder in ((_user(), "<user>"), (socket.gethostname(), "<computer>")):
        # Short or everyday names would take harmless words apart.
        if len(name) > 3 and name not in ("root", "localhost"):
            text = re.sub(rf"\b{re.escape(name)}\b", placeholder, text)
    return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[\w.+~-]+[\\/])+(?=[\w.+~-])", ".../", text)


def error_line(error: BaseException) -> str:
    """Shorten an exception to one line of text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return anonymise(f"{type(error).__name__}: {lines[0] if lines else 'no message'}")[
        :MOST_REASON_LENGTH
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return os.environ.get("USERNAME", "")
