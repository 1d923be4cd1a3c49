"""Call a function on one item without raising, and run many items in a pool of processes.

A worker process that dies loses only the item that it was working on, which is given out again:
twice, the last time with no other beside it, and then it is reported as failed.
"""

import logging
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import FrameType
from typing import Any

ITEM_SIGNALS = signal.SIGINT, signal.SIGTERM
MAX_RETRIES = 2  # of an item whose worker process died
logger = logging.getLogger(__name__)


def call_safely(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Call a function, and return its result or the error message."""
    try:
        return function(*arguments), ""
    except Exception as error:  # the one place where a take's failure becomes a line of the report
        return None, f"{type(error).__name__}: {error}"


_WORKER_DEVICES: list[str] = []
"""Of a pool's process: the device that it keeps to, where there are devices."""


@contextmanager
def interrupts_held() -> Generator[None]:
    """Hold Ctrl-C back within a ``with`` block, and from the processes that are started there.

    A terminal sends it to each process. The traceback of one that has nothing to clear away would
    stand beside our line, and its parent ends it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start would let Ctrl-C through again
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def _interrupt_once(signal_number: int, frame: FrameType | None) -> None:
    """Break an item off, so that what is half made is removed, which nothing breaks off."""
    for each_signal in ITEM_SIGNALS:
        signal.signal(each_signal, lambda *_: None)  # SIG_IGN would complain of what came already
    raise KeyboardInterrupt


def _start_worker(threads: int, device: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    import torch

    torch.set_num_threads(threads)
    if device is not None:
        _WORKER_DEVICES.append(device)


def _call_in_worker(function: Callable[..., Any], item: Any) -> tuple[Any, str]:
    idle_handlers = {number: signal.signal(number, _interrupt_once) for number in ITEM_SIGNALS}
    try:
        return call_safely(function, item, *_WORKER_DEVICES)
    finally:
        for number, idle_handler in idle_handlers.items():
            signal.signal(number, idle_handler)


def run_pool(function, items, workers, devices) -> Iterator[tuple[int, Any, str]]:
    """Run items in a pool of processes, in which a dying process costs only one item."""
    import torch

    workers = min(workers, len(items))
    spawn_context = multiprocessing.get_context("spawn")
    threads_per_worker = max(1, torch.get_num_threads() // max(1, workers))

    def start_pool(worker: int) -> ProcessPoolExecutor:
        device = devices[worker % len(devices)] if devices else None
        return ProcessPoolExecutor(
            max_workers=1,
            mp_context=spawn_context,
            initializer=_start_worker,
            initargs=(threads_per_worker, device),
        )

    def submit_item(worker: int, index: int) -> Future:
        with interrupts_held():  # the first item of a pool starts its process
            try:
                return worker_pools[worker].submit(_call_in_worker, function, items[index])
            except BrokenProcessPool:  # its process died while it had nothing to do
                worker_pools[worker] = start_pool(worker)
                return worker_pools[worker].submit(_call_in_worker, function, items[index])

    worker_pools = {worker: start_pool(worker) for worker in range(workers)}
    pending_indices = deque(range(len(items)))
    idle_workers = deque(worker_pools)
    death_counts = Counter()
    running_futures: dict[Future, tuple[int, int]] = {}  # (worker, index)
    try:
        while pending_indices or running_futures:
            # The last try has the machine's memory to itself.
            while (
                pending_indices
                and idle_workers
                and not (
                    running_futures
                    and MAX_RETRIES
                    in {
                        death_counts[index]
                        for index in (pending_indices[0], *(i for _, i in running_futures.values()))
                    }
                )
            ):
                worker, index = idle_workers.popleft(), pending_indices.popleft()
                running_futures[submit_item(worker, index)] = worker, index
            for future in wait(running_futures, return_when=FIRST_COMPLETED).done:
                worker, index = running_futures.pop(future)
                idle_workers.append(worker)
                try:
                    result, error = future.result()
                except BrokenProcessPool:
                    worker_pools[worker] = start_pool(worker)
                    death_counts[index] += 1
                    if death_counts[index] <= MAX_RETRIES:
                        logger.warning(
                            "the worker process of item %d of %d died (out of memory?): "
                            "it is tried again after the others",
                            index + 1,
                            len(items),
                        )
                        pending_indices.append(index)
                        continue
                    result, error = None, "its worker process died (out of memory?)"
                yield index, result, error
    except BaseException:  # such as Ctrl-C: nobody waits for processes that only begin
        if os.name != "nt":  # which would leave what is half made
            for worker_pool in worker_pools.values():
                for process in [*(worker_pool._processes or {}).values()]:
                    process.terminate()
        raise
    finally:
        for worker_pool in worker_pools.values():
            worker_pool.shutdown()
