"""Keep torch to one thread."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def single_threaded() -> Generator[int]:
    """Limit torch to one thread within a ``with`` block.

    Ray casting is thousands of small operations: threads inside each would spend their time waiting
    for one another, on a busy machine twenty times as long as the work takes."""
    import torch

    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield thread_count
    finally:
        torch.set_num_threads(thread_count)
