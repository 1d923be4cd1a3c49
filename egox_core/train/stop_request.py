"""SIGTERM (and Ctrl-C) ask the loop to finish its step, save, and end with 0."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopRequest:
    """Set by a signal while the ``with`` block runs; the handlers that were there come back afterwards."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C: the user doesn't want to wait for the step
        self.asked = True
