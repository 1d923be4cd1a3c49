"""The user's cache folder, and in it who tests or measures right now: a training that runs beside yields to them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STALE_SECONDS = 3 * 3600.0
"""A file so old was left by something that was killed."""
LOOK_SECONDS = 5.0
OURS = "EGOX_AT_WORK"
"""Environment variable of a test's or bench's own processes: what these train doesn't wait for them."""


def cache_folder() -> Path:
    """Where the system has users' caches; a lost checkout doesn't take what lies here along. Nothing is created."""
    home = Path.home()
    if sys.platform == "win32":
        place = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        place = home / "Library" / "Caches"
    else:
        place = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return place / "egox-comfyui"


@contextmanager
def at_work() -> Iterator[None]:
    """Says, while it lasts, that a test or a bench runs. A cache folder that can't be written is no obstacle."""
    file = _folder() / str(os.getpid())
    before = os.environ.get(OURS)
    os.environ[OURS] = "1"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError:
        pass
    try:
        yield
    finally:
        if before is None:
            del os.environ[OURS]
        file.unlink(missing_ok=True)


def somebody_at_work() -> bool:
    """Whether a test or a bench that this process is no part of said so and isn't long gone."""
    if OURS in os.environ:
        return False
    files = _folder().glob("*") if _folder().is_dir() else ()
    return any((since := _written(file)) is not None and time.time() - since < STALE_SECONDS for file in files)


def wait_for_others(tell: Callable[[str], None] = lambda text: None, wanted: Callable[[], bool] = lambda: True) -> None:
    """Returns when nobody tests or measures any more, or ``wanted`` says no."""
    if somebody_at_work():
        tell("waiting: a test or a bench runs")
    while wanted() and somebody_at_work():
        time.sleep(LOOK_SECONDS)


def _folder() -> Path:
    return cache_folder() / "at_work"


def _written(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:  # just gone
        return None
