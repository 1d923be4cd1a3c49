"""Start processes that draw rooms before torch is imported, so that all import at once."""

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
    """Task of the processes that draw."""

    folder: Path
    small: bool
    device: str | None  # None: a GPU if there is one
    workers: int


@dataclass(frozen=True, slots=True)
class Drawers:
    """Processes that draw."""

    processes: list[BaseProcess]
    enough: Event  # set: no more rooms to train on

    def end(self) -> None:
        """End the processes, whatever they are drawing."""
        self.enough.set()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()

    def wait(self) -> bool:
        """Let them draw for a moment, and say whether one still does."""
        time.sleep(0.2)
        return any(process.is_alive() for process in self.processes)


@contextmanager
def drawing(job: Drawing) -> Generator[Drawers]:
    """Run processes that draw until there are enough rooms, or the block ends."""
    context = multiprocessing.get_context("spawn")
    enough = context.Event()
    workers = [
        context.Process(target=_draw, args=(number, job, enough), daemon=True)
        for number in range(job.workers)
    ]
    for worker in workers:
        worker.start()
    drawers = Drawers(workers, enough)
    try:
        yield drawers
    finally:
        drawers.end()


def _draw(number: int, job: Drawing, enough: Event) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()  # it may be killed
    from .rooms import draw_rooms

    draw_rooms(number, job.workers, job.folder, job.small, job.device, enough)
