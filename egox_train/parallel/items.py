"""Run a function over many items in this process, in several processes, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from egox_core.errors import EgoXInputError, check_choice
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import file_lock

from ..options import Engine, RunOptions
from .cluster import run_on_ray
from .pool import call_safely, run_pool

BUSY = "busy"
"""Of an item that several processes share: another one is at it."""
Item = TypeVar("Item")
MadeItem = TypeVar("MadeItem")


@frozen
class WorkerPlan:
    """Plan of the worker processes: their number, devices and engine.

    With ``devices`` the function gets (item, device). Each worker keeps to one of them, and there
    are at least as many workers. On a Ray cluster each GPU has one worker, so that models are
    loaded once.
    """

    engine: str = "local"
    workers: int = 1
    devices: tuple[str, ...] = ()
    model_bytes: int = 0  # of a worker's models, which Ray is asked for beside an item's

    @classmethod
    def of(cls, run: RunOptions, device: str, model_bytes: int) -> WorkerPlan:
        """Choose the number of worker processes and their devices for a command.

        The text ``device`` is a list as :func:`parse_devices` parses it."""
        return cls(
            engine=run.engine,
            workers=run.workers,
            devices=parse_devices(device, run.engine),
            model_bytes=model_bytes,
        )

    @property
    def in_this_process(self) -> bool:
        return self.engine == "local" and max(self.workers, len(self.devices)) <= 1


THIS_PROCESS = WorkerPlan()


def parse_devices(text: str, engine: str = "local") -> tuple[str, ...]:
    """Parse a list of devices such as ``cuda:0,cuda:1``.

    On a Ray cluster, which assigns GPUs itself, only the kind of device is kept.

    Raises:
        EgoXInputError: no such device.
    """
    import torch

    devices = tuple(device_text.strip() for device_text in text.split(","))
    for device in devices:
        try:
            device_kind, index = torch.device(device).type, torch.device(device).index
        except RuntimeError as error:
            raise EgoXInputError(
                "device",
                got=repr(device),
                expected="cpu, cuda, or a list such as cuda:0,cuda:1",
                fix="correct it",
            ) from error
        if device_kind == "cuda" and engine != "ray" and (index or 0) >= torch.cuda.device_count():
            raise EgoXInputError(
                "device",
                got=f"{device!r}, where torch sees {torch.cuda.device_count()} CUDA devices",
                expected="devices that are there",
                fix="name those, or cpu",
            )
    return devices if engine != "ray" else (torch.device(devices[0]).type,)


def select_shard(
    items: Sequence[Item], shard: tuple[int, int], max_count: int = 0
) -> Sequence[Item]:
    """Select the items of part i of n.

    Args:
        max_count: of this many items, spread over all with the first and the last; 0: of all.

    Raises:
        EgoXInputError: no such part.
    """
    if not 0 <= shard[0] < shard[1]:
        raise EgoXInputError(
            "--shard",
            got=f"{shard[0]}/{shard[1]}",
            expected="I/N with I from 0 to N - 1",
            fix="for example 0/2 and 1/2",
        )
    if 0 < max_count < len(items):
        from egox_core.frame_store import sample_frames

        items = [items[index] for index in sample_frames(len(items), max_count)]
    return items[shard[0] :: shard[1]]


def run_items(
    function: Callable[..., Any], items: Sequence[Any], worker_plan: WorkerPlan = THIS_PROCESS
) -> Iterator[tuple[int, Any, str]]:
    """Run a function over items, and yield (index, result, error) as each finishes.

    ``function`` and items must be picklable (workers are spawned, also on Linux: a forked torch
    hangs). Exceptions, one for lack of memory too, and dead workers come back as text, so that one
    bad take never stops the others. Worker processes share the threads that torch has here.

    Raises:
        EgoXInputError: unknown engine, no Ray as :func:`.cluster.ray_cluster` says.
    """
    check_choice("engine", worker_plan.engine, get_args(Engine))
    worker_count, devices = worker_plan.workers, worker_plan.devices
    if worker_plan.engine == "ray":
        yield from run_on_ray(function, items, worker_count, devices, worker_plan.model_bytes)
    elif worker_plan.in_this_process:
        for index, item in enumerate(items):
            yield index, *call_safely(function, item, *devices)
    else:
        yield from run_pool(function, items, max(worker_count, len(devices)), devices)


def make_once(
    file: Path,
    find_existing: Callable[[], MadeItem | None],
    make_item: Callable[[], MadeItem],
    wait_for_lock: bool = True,
) -> tuple[MadeItem, bool] | str:
    """Make a file under a lock, so that only one of several processes makes it.

    The result tells whether this call made it.

    Args:
        find_existing: the item that is there, None where it has to be made; asked under the lock.
        wait_for_lock: for another process that makes it, instead of giving BUSY.
    """
    with file_lock(file, wait=wait_for_lock) as has_lock:
        if not has_lock:
            return BUSY
        existing_result = find_existing()
        return (make_item(), True) if existing_result is None else (existing_result, False)


def run_all(
    function: Callable[..., Any],
    items: Sequence[Any],
    names: Sequence[str],
    worker_plan: WorkerPlan = THIS_PROCESS,
    *,
    finished_count: int = 0,
    stage: str = "",
    progress: Progress = no_progress,
) -> tuple[dict[str, str], list[Any]]:
    """Run a function over all items, and return error messages by item name and the results.

    An item that is BUSY in another process is run again with ``wait`` set after all other
    items.

    Args:
        finished_count: items finished in an earlier run, counted by the progress.

    Raises:
        EgoXInputError: as :func:`run_items`.
    """
    errors_by_item, results, pending_items = {}, [], list(enumerate(items))
    while pending_items:
        busy_items = []
        for pending_index, result, error in run_items(
            function, [item for _, item in pending_items], worker_plan
        ):
            index, item = pending_items[pending_index]
            if error:
                errors_by_item[names[index]] = error
            elif result == BUSY:
                busy_items.append((index, replace(item, wait=True)))
                continue
            else:
                results.append(result)
            done_count = finished_count + len(errors_by_item) + len(results)
            progress(
                done_count,
                finished_count + len(items),
                stage_with_failures(stage, len(errors_by_item)),
            )
        pending_items = busy_items
    return errors_by_item, results


def stage_with_failures(stage: str, count: int) -> str:
    """Append the number of failed items to the name of a stage."""
    return f"{stage}, {count} failed" if count else stage
