"""Read Ego-Exo4D's list of takes, ``takes.json``.

One entry per take. Read are ``take_name`` and ``take_uid``, ``task_start_sec`` and ``task_end_sec``
(the task in the take's own videos, without the separator and its QR code), ``physical_setting_uid``
and ``capture_uid`` (the room and the recording), ``parent_task_name`` (what is done), and
``best_exo`` (the exo camera that annotators chose). Any of them may be null or missing."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egox_core.errors import NO_NUMBERS, EgoXInputError
from egox_core.safe_files import read_json

TAKE_LIST = "takes.json"
MAX_LIST_BYTES = 2**30


def read_take_list(root: Path) -> dict[str, dict]:
    """Read what Ego-Exo4D's list of takes states of a raw take, by name and by uid.

    Raises:
        EgoXInputError: a file that is no such list.
    """
    list_file = root / TAKE_LIST
    if not list_file.is_file():
        return {}
    list_content = read_json(list_file, "list of takes", MAX_LIST_BYTES)
    if not isinstance(list_content, list) or not all(
        isinstance(entry, Mapping) for entry in list_content
    ):
        raise EgoXInputError(
            f"list of takes {TAKE_LIST}",
            got=type(list_content).__name__,
            expected="a list with one object per take",
            fix="download the dataset's metadata again, or move the file away",
        )
    takes: dict[str, dict] = {}
    for entry in list_content:
        stated = {
            "task_s": _task(entry),
            "task": str(entry.get("parent_task_name") or ""),
            "best_exo": str(entry.get("best_exo") or ""),
        }
        if room := _room(entry):
            stated["room"] = room
        takes |= {str(entry[key]): stated for key in ("take_uid", "take_name") if entry.get(key)}
    return takes


def _task(entry: Mapping) -> tuple[float, float] | None:
    start_and_end: Any = (entry.get("task_start_sec"), entry.get("task_end_sec"))
    try:
        start, end = (float(seconds) for seconds in start_and_end)
    except NO_NUMBERS:
        return None
    return (
        (start, end) if math.isfinite(start) and math.isfinite(end) and 0 <= start < end else None
    )


def _room(entry: Mapping) -> str:
    for key in ("physical_setting_uid", "capture_uid"):
        if entry.get(key) not in (None, ""):
            return f"{key} {entry[key]}"
    return ""


def room_of_name(take: str, numbers: int = 1) -> str:
    """Derive the name of a recording session from a take's name by removing numbers.

    ``cmu_bike08_2`` is the second take of ``cmu_bike08``; the released dataset's names have first
    and last frame as well (``cmu_soccer06_6_877_925``, three numbers). A name of another form is a
    recording of its own."""
    room_name, *last_numbers = take.rsplit("_", numbers)
    return (
        room_name
        if room_name
        and len(last_numbers) == numbers
        and all(number.isdecimal() for number in last_numbers)
        else take
    )
