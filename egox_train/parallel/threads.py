"""Process chunks of frames in one thread per CPU core."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

MAX_THREADS = 8  # more would mostly wait for the interpreter's lock
Result = TypeVar("Result")


@contextmanager
def single_threaded() -> Generator[int]:
    """Limit torch to one thread within a ``with`` block.

    Ray casting is thousands of small operations: threads inside each would spend their time waiting
    for one another, on a busy machine twenty times as long as the work takes."""
    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield thread_count
    finally:
        torch.set_num_threads(thread_count)


def map_chunks(work: Callable[[int], Result], count: int, workers: int) -> Iterator[Result]:
    """Run ``work(0)`` to ``work(count - 1)`` in threads, and yield their results in order.

    All threads end, even after an error or if the caller stops early."""
    if count == 1:
        yield work(0)
        return
    thread_pool = ThreadPoolExecutor(max_workers=max(1, min(workers, MAX_THREADS)))
    try:
        yield from thread_pool.map(work, range(count))
    finally:
        thread_pool.shutdown(wait=True, cancel_futures=True)
