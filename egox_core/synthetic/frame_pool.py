"""Chunks of frames side by side: one Python thread a core, each with a single-threaded torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")
MOST_WORKERS = 8  # more would mostly wait for the interpreter's lock


@contextmanager
def single_threaded() -> Iterator[int]:
    """Torch without threads inside its operations, the caller's and new threads' alike; yields how many there were.

    Casting is thousands of small operations: threads inside each would spend their time waiting for one another, on a
    busy machine twenty times as long as the work takes.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def map_chunks(work: Callable[[int], Result], count: int, workers: int) -> Iterator[Result]:
    """``work(0)`` ... ``work(count - 1)``, in order; an error or a caller that stops early leaves no thread behind."""
    pool = ThreadPoolExecutor(max_workers=max(1, min(workers, MOST_WORKERS)))
    try:
        yield from pool.map(work, range(count))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
