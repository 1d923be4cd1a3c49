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

from .errors import EgoXInputError, check_choice, needs_package
from .progress import Progress, no_progress

ENGINES = ("local", "ray")
MAX_TRIES = 2  # of an item whose worker process died
MOST_THREADS = 8  # more would mostly wait for the interpreter's lock
Result = TypeVar("Result")


def devices_of(text: str, engine: str = "local") -> tuple[str, ...]:
    """The devices of a list such as ``cuda:0,cuda:1``. On a Ray cluster, which hands out GPUs itself, only their kind
    counts.

    Raises:
        EgoXInputError: no such device.
    """
    devices = tuple(part.strip() for part in text.split(","))
    for device in devices:
        try:
            kind, index = torch.device(device).type, torch.device(device).index
        except RuntimeError as error:
            raise EgoXInputError("device", got=repr(device), expected="cpu, cuda, or a list such as cuda:0,cuda:1",
                                 fix="correct it") from error
        if kind == "cuda" and engine != "ray" and (index or 0) >= torch.cuda.device_count():
            raise EgoXInputError("device", got=f"{device!r}, where torch sees {torch.cuda.device_count()} CUDA devices",
                                 expected="devices that are there", fix="name those, or cpu")
    return devices if engine != "ray" else (torch.device(devices[0]).type,)


def run_items(function: Callable[..., Any], items: Sequence[Any], *, engine: str = "local", workers: int = 1,
              devices: Sequence[str] = ()) -> Iterator[tuple[int, Any, str]]:
    """Yields (index, result, error) as items finish; ``error`` is "" where the function returned.

    ``function`` and items must be picklable (workers are spawned, also on Linux: a forked torch hangs). Exceptions
    other than a dying worker come back as text, so that one bad take never stops the others. Worker processes share the
    threads that torch has here.

    Args:
        devices: of :func:`devices_of`; ``function`` then gets (item, device). Each worker keeps to one of them, and
            there are at least as many workers. A Ray task asks for one GPU.

    Raises:
        EgoXInputError: unknown engine, Ray asked for and not installed.
    """
    check_choice("engine", engine, ENGINES)
    if engine == "ray":
        yield from _run_ray(function, items, workers, devices)
    elif max(workers, len(devices)) <= 1:
        for index, item in enumerate(items):
            yield index, *_call(function, item, *devices)
    else:
        yield from _run_pool(function, items, max(workers, len(devices)), devices)


def run_all(function: Callable[..., Any], items: Sequence[Any], names: Sequence[str], *, engine: str = "local",
            workers: int = 1, devices: Sequence[str] = (), before: int = 0, stage: str = "",
            progress: Progress = no_progress) -> list[str]:
    """Runs all items and returns the failures, as ``name: error``.

    Args:
        before: items finished in an earlier run, counted by the progress.

    Raises:
        EgoXInputError: as :func:`run_items`.
    """
    failures = []
    run = run_items(function, items, engine=engine, workers=workers, devices=devices)
    for count, (index, _, error) in enumerate(run, before + 1):
        if error:
            failures.append(f"{names[index]}: {error}")
        progress(count, before + len(items), stage)
    return failures


def _call(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    try:
        return function(*arguments), ""
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:  # the one place where a take's failure becomes a line of the report
        return None, f"{type(error).__name__}: {error}"


_WORKER: list[str] = []
"""Of a pool's process: the device that it keeps to, where there are devices."""


def _start_worker(threads: int, free_devices) -> None:
    torch.set_num_threads(threads)
    if free_devices is not None:
        _WORKER.append(free_devices.get())


def _call_in_worker(function: Callable[..., Any], item: Any) -> tuple[Any, str]:
    return _call(function, item, *_WORKER)


def _run_pool(function, items, workers, devices) -> Iterator[tuple[int, Any, str]]:
    tries = dict.fromkeys(range(len(items)), 0)
    while tries:
        # After a death nobody knows whose item it was: a pool of one finds out without punishing the others.
        suspects = [i for i, count in tries.items() if count > 0]
        batch, size = (suspects[:1], 1) if suspects else (list(tries), workers)
        context = multiprocessing.get_context("spawn")
        free_devices = context.Queue() if devices else None
        for number in range(size if devices else 0):
            free_devices.put(devices[number % len(devices)])
        threads = max(1, torch.get_num_threads() // size)
        with ProcessPoolExecutor(max_workers=size, mp_context=context, initializer=_start_worker,
                                 initargs=(threads, free_devices)) as pool:
            futures = {pool.submit(_call_in_worker, function, items[i]): i for i in batch}
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


def ray_needs(devices: Sequence[str]) -> dict[str, int]:
    """What a Ray task asks for; without its GPU it would see none."""
    return {"num_cpus": 1, "num_gpus": int(any(device.startswith("cuda") for device in devices))}


def _run_ray(function, items, workers, devices) -> Iterator[tuple[int, Any, str]]:
    with needs_package("ray", "engine ray", expected="the ray extra", instead=", or use --engine local"):
        import ray
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        remote = ray.remote(**ray_needs(devices), max_retries=MAX_TRIES)(_call)
        waiting = {remote.remote(function, item, *devices): index for index, item in enumerate(items)}
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
