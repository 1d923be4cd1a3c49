"""Many items at once: takes in processes or on a Ray cluster, chunks of frames in threads.

A worker process that dies loses only the items that it was working on; those are given out again. An item whose worker
dies twice is reported as failed instead of being tried for ever. Threads are one a core, each with a single-threaded
torch.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from .errors import check_choice, needs_package
from .progress import Progress, no_progress

ENGINES = ("local", "ray")
MAX_TRIES = 2  # of an item whose worker process died
MOST_THREADS = 8  # more would mostly wait for the interpreter's lock
Result = TypeVar("Result")


def run_items(function: Callable[[Any], Any], items: Sequence[Any], *, engine: str = "local",
              workers: int = 1) -> Iterator[tuple[int, Any, str]]:
    """Yields (index, result, error) as items finish; ``error`` is "" where the function returned.

    ``function`` and items must be picklable (workers are spawned, also on Linux: a forked torch hangs). Exceptions
    other than a dying worker come back as text, so that one bad take never stops the others.

    Raises:
        EgoXInputError: unknown engine, Ray asked for and not installed.
    """
    check_choice("engine", engine, ENGINES)
    if engine == "ray":
        yield from _run_ray(function, items, workers)
    elif workers <= 1:
        for index, item in enumerate(items):
            yield index, *_call(function, item)
    else:
        yield from _run_pool(function, items, workers)


def run_all(function: Callable[[Any], Any], items: Sequence[Any], names: Sequence[str], *, engine: str = "local",
            workers: int = 1, before: int = 0, stage: str = "", progress: Progress = no_progress) -> list[str]:
    """Runs all items and returns the failures, as ``name: error``.

    Args:
        before: items finished in an earlier run, counted by the progress.

    Raises:
        EgoXInputError: as :func:`run_items`.
    """
    failures = []
    for count, (index, _, error) in enumerate(run_items(function, items, engine=engine, workers=workers), before + 1):
        if error:
            failures.append(f"{names[index]}: {error}")
        progress(count, before + len(items), stage)
    return failures


def _call(function: Callable[[Any], Any], item: Any) -> tuple[Any, str]:
    try:
        return function(item), ""
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:  # the one place where a take's failure becomes a line of the report
        return None, f"{type(error).__name__}: {error}"


def _run_pool(function, items, workers) -> Iterator[tuple[int, Any, str]]:
    tries = dict.fromkeys(range(len(items)), 0)
    while tries:
        # After a death nobody knows whose item it was: a pool of one finds out without punishing the others.
        suspects = [i for i, count in tries.items() if count > 0]
        batch, size = (suspects[:1], 1) if suspects else (list(tries), workers)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=size, mp_context=context) as pool:
            futures = {pool.submit(_call, function, items[i]): i for i in batch}
            try:
                for future in as_completed(futures):
                    index = futures[future]
                    result, error = future.result()
                    del tries[index]
                    yield index, result, error
            except BrokenProcessPool:
                for index in batch:
                    if index not in tries:
                        continue
                    tries[index] += 1
                    if tries[index] > MAX_TRIES:
                        del tries[index]
                        yield index, None, "its worker process died (out of memory?)"


def _run_ray(function, items, workers) -> Iterator[tuple[int, Any, str]]:
    with needs_package("ray", "engine ray", expected="the ray extra", instead=", or use --engine local"):
        import ray
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        remote = ray.remote(num_cpus=1, max_retries=MAX_TRIES)(_call)
        waiting = {remote.remote(function, item): index for index, item in enumerate(items)}
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ready:
                index = waiting.pop(reference)
                try:
                    yield index, *ray.get(reference)
                except ray.exceptions.RayError as error:
                    yield index, None, f"its worker process died ({type(error).__name__})"
    finally:
        if started:
            ray.shutdown()


@contextmanager
def single_threaded() -> Iterator[int]:
    """Torch without threads inside its operations, in this and in new threads; yields how many there were before.

    Ray casting is thousands of small operations: threads inside each would spend their time waiting for one another, on
    a busy machine twenty times as long as the work takes.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def map_chunks(work: Callable[[int], Result], count: int, workers: int) -> Iterator[Result]:
    """``work(0)`` ... ``work(count - 1)``, in order; an error or a caller that stops early leaves no thread behind."""
    pool = ThreadPoolExecutor(max_workers=max(1, min(workers, MOST_THREADS)))
    try:
        yield from pool.map(work, range(count))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
