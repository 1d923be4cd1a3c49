"""Many items at once: takes in processes or on a Ray cluster, chunks of frames in threads.

A worker process that dies loses only the item that it was working on, which is given out again:
twice, in the pool the last time with no other beside it, and then it is reported as failed. On a
cluster models live in actors that hold a GPU each, and all other work in tasks without one.
Threads are one a core, each with a single-threaded torch.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from .errors import EgoXInputError, check_choice, needs_package
from .progress import Progress, no_progress

ENGINES = ("local", "ray")
PRIVATE_RAY = "local"  # Ray's own word for a cluster that begins and ends with the process
MAX_RETRIES = 2  # of an item whose worker process died
TASK_BYTES = 2 * 2**30
"""Memory that a Ray task asks for: a take's is below, whatever the size of its videos."""
LOOK_S, LOST_S = 5.0, 30.0
"""Between two looks at the head of a Ray cluster, and the longest that it may be away."""
GCS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
MOST_THREADS = 8  # more would mostly wait for the interpreter's lock
Result = TypeVar("Result")
logger = logging.getLogger(__name__)


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


def part_of(items: Sequence[Result], part: tuple[int, int]) -> Sequence[Result]:
    """Every n-th item from the i-th on, of part (i, n).

    Raises:
        EgoXInputError: no such part.
    """
    if not 0 <= part[0] < part[1]:
        raise EgoXInputError(
            "--shard",
            got=f"{part[0]}/{part[1]}",
            expected="I/N with I from 0 to N - 1",
            fix="for example 0/2 and 1/2",
        )
    return items[part[0]::part[1]]


def run_items(function: Callable[..., Any], items: Sequence[Any], *, engine: str = "local", workers: int = 1,
              devices: Sequence[str] = ()) -> Iterator[tuple[int, Any, str]]:
    """Yields (index, result, error) as items finish; ``error`` is "" where the function returned.

    ``function`` and items must be picklable (workers are spawned, also on Linux: a forked torch
    hangs). Exceptions, one for lack of memory too, and dead workers come back as text, so that one
    bad take never stops the others. Worker processes share the threads that torch has here.

    Args:
        devices: of :func:`devices_of`; ``function`` then gets (item, device). Each worker keeps to one of them, and
            there are at least as many workers. A Ray task asks for one GPU.

    Raises:
        EgoXInputError: unknown engine, no Ray as :func:`ray_cluster` says.
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
    except Exception as error:  # the one place where a take's failure becomes a line of the report
        return None, f"{type(error).__name__}: {error}"


_WORKER: list[str] = []
"""Of a pool's process: the device that it keeps to, where there are devices."""


def _start_worker(threads: int, device: str | None) -> None:
    torch.set_num_threads(threads)
    if device is not None:
        _WORKER.append(device)


def _call_in_worker(function: Callable[..., Any], item: Any) -> tuple[Any, str]:
    return _call(function, item, *_WORKER)


def _run_pool(function, items, workers, devices) -> Iterator[tuple[int, Any, str]]:
    """A pool of one process for each worker: so a death is one item's, and the others go on."""
    workers = min(workers, len(items))
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // max(1, workers))

    def start(worker: int) -> ProcessPoolExecutor:
        device = devices[worker % len(devices)] if devices else None
        return ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_start_worker,
                                   initargs=(threads, device))

    def submit(worker: int, index: int) -> Future:
        try:
            return pools[worker].submit(_call_in_worker, function, items[index])
        except BrokenProcessPool:  # its process died while it had nothing to do
            pools[worker] = start(worker)
            return pools[worker].submit(_call_in_worker, function, items[index])

    pools = {worker: start(worker) for worker in range(workers)}
    todo, free, deaths = deque(range(len(items))), deque(pools), Counter()
    running: dict[Future, tuple[int, int]] = {}  # (worker, index)
    try:
        while todo or running:
            # The last try has the machine's memory to itself.
            while todo and free and not (running and MAX_RETRIES in {
                    deaths[index] for index in (todo[0], *(i for _, i in running.values()))}):
                worker, index = free.popleft(), todo.popleft()
                running[submit(worker, index)] = worker, index
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, index = running.pop(future)
                free.append(worker)
                try:
                    result, error = future.result()
                except BrokenProcessPool:
                    pools[worker] = start(worker)
                    deaths[index] += 1
                    if deaths[index] <= MAX_RETRIES:
                        logger.warning("the worker process of item %d of %d died (out of memory?): "
                                       "it is tried again after the others", index + 1, len(items))
                        todo.append(index)
                        continue
                    result, error = None, "its worker process died (out of memory?)"
                yield index, result, error
    finally:
        for pool in pools.values():
            pool.shutdown()


def ray_needs(devices: Sequence[str]) -> dict[str, int]:
    """What a Ray task asks for; without its GPU it would see none."""
    return {"num_cpus": 1, "num_gpus": int(any(device.startswith("cuda") for device in devices)),
            "memory": TASK_BYTES, "max_retries": 0}


@contextmanager
def ray_cluster(address: str = "", workers: int = 1) -> Iterator[str]:
    """Connects to a Ray cluster, unless this process is, and yields which one, in words.

    Args:
        address: Ray's name for a cluster; ``local`` starts a private one here, which ends with the
            block. Default: the environment's RAY_ADDRESS, else the cluster that runs on this
            machine.
        workers: CPUs of a private one.

    Raises:
        EgoXInputError: Ray is not installed, there is no such cluster.
    """
    with needs_package("ray", "engine ray", expected="the ray extra", instead=", or use --engine local"):
        import ray
    if ray.is_initialized():
        yield "the Ray cluster that this process is connected to"
        return
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    private = {"num_cpus": workers, "include_dashboard": False} if address == PRIVATE_RAY else {}
    # Ray's own answer to a lost head is to abort this process; :func:`_run_ray` sees it first.
    os.environ.setdefault(GCS_PATIENCE, "600")
    try:
        _reach(address)
        context = ray.init(address=address, log_to_driver=False, configure_logging=False, **private)
    except (OSError, RuntimeError, ValueError) as error:
        raise EgoXInputError(
            "Ray cluster", got=f"none at {address!r} ({error})", expected="a cluster that runs",
            fix="start one (`ray start --head`) and name it by --ray-address or RAY_ADDRESS; or give "
            "--ray-address local, for a private one on this machine") from error
    lost = None
    try:
        # The context of Ray's client has no such field.
        where = getattr(context, "address_info", {}).get("address", address)
        has = ray.cluster_resources()
        yield (f"{'a private Ray on this machine' if private else f'the Ray cluster at {where}'}: "
               f"{has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs")
    except LostClusterError as error:
        lost = error
        raise
    finally:
        if lost is None:  # else it would wait for the head
            ray.shutdown()


class LostClusterError(EgoXInputError):
    """The head of a Ray cluster no longer answers. Ray's threads are still there: end the process
    by ``os._exit``."""


def _reach(address: str) -> None:
    """Raises OSError at once where nothing listens; Ray itself would try for many minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@dataclass(slots=True)
class _Head:
    """Watches the head of the cluster that this process is connected to."""

    address: str
    seen_s: float
    looked_s: float = 0.0

    def check(self) -> None:
        """Looks for it, now and then.

        Raises:
            LostClusterError: it has been away too long.
        """
        now = time.monotonic()
        if now - self.looked_s < LOOK_S:
            return
        self.looked_s = now
        try:
            _reach(self.address)
            self.seen_s = now
        except OSError as error:
            if now - self.seen_s > LOST_S:
                raise LostClusterError(
                    "Ray cluster",
                    got=f"no answer from its head at {self.address} for {now - self.seen_s:.0f} s",
                    expected="a cluster that runs",
                    fix="start the cluster, then the same command: what is finished is kept",
                ) from error


def cluster_cpus() -> int:
    """CPUs of a Ray cluster, which is as many tasks at once."""
    with ray_cluster():
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))


def has_gpu(engine: str) -> bool:
    """True with a GPU where the items run: here, or anywhere in the Ray cluster."""
    if engine != "ray":
        return torch.cuda.is_available()
    with ray_cluster():
        import ray

        return ray.cluster_resources().get("GPU", 0) > 0


def _run_ray(function, items, workers, devices) -> Iterator[tuple[int, Any, str]]:
    with ray_cluster(workers=workers):
        import ray

        remote = ray.remote(**ray_needs(devices))(_call)
        head = _Head(address=ray.get_runtime_context().gcs_address, seen_s=time.monotonic())
        # Twice what runs at once, so that nobody waits for the driver; a cluster may grow
        # meanwhile.
        window = max(8, 4 * int(ray.cluster_resources().get("CPU", 1)))
        todo, deaths, waiting = deque(range(len(items))), Counter(), {}
        while todo or waiting:
            head.check()
            while todo and len(waiting) < window:
                index = todo.popleft()
                waiting[remote.remote(function, items[index], *devices)] = index
            for reference in ray.wait(list(waiting), num_returns=1, timeout=LOOK_S)[0]:
                index = waiting.pop(reference)
                try:
                    result, error = ray.get(reference)
                except (
                    ray.exceptions.RayTaskError
                ) as failure:  # nothing ran: it could not be brought there
                    result, error = (
                        None,
                        f"{type(failure).__name__}: {str(failure).splitlines()[-1]}",
                    )
                except ray.exceptions.RayError as failure:
                    deaths[index] += 1
                    if deaths[index] <= MAX_RETRIES:
                        logger.warning(
                            "the worker process of item %d of %d died (%s): it is tried again "
                            "after the "
                            "others",
                            index + 1,
                            len(items),
                            type(failure).__name__,
                        )
                        todo.append(index)
                        continue
                    result, error = None, f"its worker process died ({type(failure).__name__})"
                yield index, result, error


class _ModelHost:
    """A process of a Ray cluster that holds a GPU and the models that run on it."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments, "cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class RemoteModels:
    """The GPUs of a Ray cluster, in place of a device: whatever asks for one runs there."""

    hosts: tuple[Any, ...]

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments, device)`` beside one of the GPUs; waits for it."""
        import ray

        try:
            return ray.get(random.choice(self.hosts).run.remote(function, *arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


def on_device(
    device: str | RemoteModels | None, function: Callable[..., Result], *arguments: Any
) -> Result:
    """``function(*arguments, device)``, here or where the device is."""
    return (
        device.run(function, *arguments)
        if isinstance(device, RemoteModels)
        else function(*arguments, device)
    )


@contextmanager
def remote_models(engine: str, devices: Sequence[str]) -> Iterator[RemoteModels | None]:
    """One process for each GPU of the cluster, where models are asked to run on them; they end with
    the block."""
    with ray_cluster() if engine == "ray" and "cuda" in devices else nullcontext("") as where:
        if not where:
            yield None
            return
        import ray

        host = ray.remote(num_gpus=1, num_cpus=0, max_restarts=-1, max_task_retries=MAX_RETRIES)(
            _ModelHost
        )
        models = RemoteModels(
            tuple(host.remote() for _ in range(int(ray.cluster_resources().get("GPU", 1))))
        )
        yield models
        for host in models.hosts:
            ray.kill(host)


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
