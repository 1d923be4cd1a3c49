"""Chunks of frames in threads: one a core, each with a single-threaded torch."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

MAX_THREADS = 8  # more would mostly wait for the interpreter's lock
Result = TypeVar("Result")


@contextmanager
def single_threaded() -> Generator[int]:
    """Run torch without threads inside its operations, in this and in new threads, and yield the
    number of threads before.

    Ray casting is thousands of small operations: threads inside each would spend their time waiting
    for one another, on a busy machine twenty times as long as the work takes."""
    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield thread_count
    finally:
        torch.set_num_threads(thread_count)


def map_chunks(work: Callable[[int], Result], count: int, workers: int) -> Iterator[Result]:
    """Yield ``work(0)`` ... ``work(count - 1)`` in order. An error or a caller that stops early
    leaves no thread behind."""
    if count == 1:
        yield work(0)
        return
    pool = ThreadPoolExecutor(max_workers=max(1, min(workers, MAX_THREADS)))
    try:
        yield from pool.map(work, range(count))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
