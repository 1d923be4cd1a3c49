"""Start processes that draw training rooms."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Drawing:
    """Settings of the processes that draw rooms."""

    folder: Path
    small: bool
    device: str | None  # None: a GPU if there is one
    workers: int


@dataclass(frozen=True, slots=True)
class Drawers:
    """Control running processes that draw rooms: wait for them or end them."""

    processes: list[BaseProcess]
    stop_event: Event  # set: no more rooms to train on

    def end(self) -> None:
        """End all drawing processes at once."""
        self.stop_event.set()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()

    def wait(self) -> bool:
        """Wait for a moment, and return whether any process is still drawing."""
        time.sleep(0.2)
        return any(process.is_alive() for process in self.processes)


@contextmanager
def drawing(job: Drawing) -> Generator[Drawers]:
    """Run processes that draw rooms within a ``with`` block."""
    spawn_context = multiprocessing.get_context("spawn")
    stop_event = spawn_context.Event()
    workers = [
        spawn_context.Process(target=_draw, args=(worker_number, job, stop_event), daemon=True)
        for worker_number in range(job.workers)
    ]
    for worker in workers:
        worker.start()
    room_drawers = Drawers(workers, stop_event)
    try:
        yield room_drawers
    finally:
        room_drawers.end()


def _draw(number: int, job: Drawing, enough: Event) -> None:
    parent_process = multiprocessing.parent_process()
    assert parent_process is not None

    def end_with_it() -> None:
        parent_process.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()  # it may be killed
    from .rooms import draw_rooms

    draw_rooms(number, job.workers, job.folder, job.small, job.device, enough)
