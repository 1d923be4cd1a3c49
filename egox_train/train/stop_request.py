"""Hear the requests to stop a run: signals, and the file that ``train_egox.py launch`` writes.

SIGTERM, SIGUSR1 and Ctrl-C ask the training loop to finish its step, save, and end with 0.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

STOP_FILE_VARIABLE = "EGOX_STOP_FILE"
"""Variable of the environment: a file that is there once the run should stop. ``train_egox.py
launch`` sets it."""
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)
LAUNCHER_VARIABLES = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
"""Variables that a launcher sets for the processes that it starts."""
PR_SET_PDEATHSIG = 1


class StopRequest:
    """Context manager that notes a request to stop, such as SIGTERM or Ctrl-C.

    The earlier signal handlers come back after the block.
    """

    def __init__(self) -> None:
        self._is_requested = False
        self._stop_file = os.environ.get(STOP_FILE_VARIABLE)
        self._old_handlers: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        return self._is_requested or (
            self._stop_file is not None and os.path.exists(self._stop_file)
        )

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for signal_number in STOP_SIGNALS:
                self._old_handlers[signal_number] = signal.signal(signal_number, self._note_request)
            if any(name in os.environ for name in LAUNCHER_VARIABLES):
                stop_with_parent()  # accelerate's of one process ends without telling its child
        return self

    def __exit__(self, *_: object) -> None:
        for signal_number, old_handler in self._old_handlers.items():
            signal.signal(signal_number, old_handler)

    def _note_request(self, number: int, frame: FrameType | None) -> None:
        if self._is_requested and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C: the user doesn't want to wait for the step
        self._is_requested = True


def stop_with_parent() -> None:
    """Ask Linux to send SIGTERM to this process when its parent process dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
