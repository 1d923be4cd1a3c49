"""Run a function over many items in this process, in several processes, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from egox_core.errors import EgoXInputError, check_choice
from egox_core.frame_store import sample_frames
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import file_lock

from ..options import Engine, RunOptions
from .cluster import run_on_ray
from .pool import call, run_pool

BUSY = "busy"
"""Of an item that several processes share: another one is at it."""
Item = TypeVar("Item")
Made = TypeVar("Made")


@frozen
class RunPlaces:
    """Number of worker processes, their devices, and the engine that runs them.

    With ``devices`` the function gets (item, device). Each worker keeps to one of them, and there
    are at least as many workers. On a Ray cluster each GPU has one worker, so that models are
    loaded once.
    """

    engine: str = "local"
    workers: int = 1
    devices: tuple[str, ...] = ()
    model_bytes: int = 0  # of a worker's models, which Ray is asked for beside an item's

    @classmethod
    def of(cls, run: RunOptions, device: str, model_bytes: int) -> RunPlaces:
        """Choose workers and devices for a command whose models run on ``device``, a list as
        :func:`devices_of` parses it."""
        return cls(
            engine=run.engine,
            workers=run.workers,
            devices=devices_of(device, run.engine),
            model_bytes=model_bytes,
        )

    @property
    def in_this_process(self) -> bool:
        return self.engine == "local" and max(self.workers, len(self.devices)) <= 1


HERE = RunPlaces()


def devices_of(text: str, engine: str = "local") -> tuple[str, ...]:
    """Parse a list of devices such as ``cuda:0,cuda:1``. On a Ray cluster, which assigns GPUs
    itself, only the kind of device is kept.

    Raises:
        EgoXInputError: no such device.
    """
    devices = tuple(part.strip() for part in text.split(","))
    for device in devices:
        try:
            kind, index = torch.device(device).type, torch.device(device).index
        except RuntimeError as error:
            raise EgoXInputError(
                "device",
                got=repr(device),
                expected="cpu, cuda, or a list such as cuda:0,cuda:1",
                fix="correct it",
            ) from error
        if kind == "cuda" and engine != "ray" and (index or 0) >= torch.cuda.device_count():
            raise EgoXInputError(
                "device",
                got=f"{device!r}, where torch sees {torch.cuda.device_count()} CUDA devices",
                expected="devices that are there",
                fix="name those, or cpu",
            )
    return devices if engine != "ray" else (torch.device(devices[0]).type,)


def part_of(items: Sequence[Item], part: tuple[int, int], most: int = 0) -> Sequence[Item]:
    """Select the items of part i of n, which are every n-th item from the i-th on.

    Args:
        most: of this many items, spread over all with the first and the last; 0: of all.

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
    if 0 < most < len(items):
        items = [items[index] for index in sample_frames(len(items), most)]
    return items[part[0] :: part[1]]


def run_items(
    function: Callable[..., Any], items: Sequence[Any], places: RunPlaces = HERE
) -> Iterator[tuple[int, Any, str]]:
    """Run a function over items, and yield (index, result, error) as each finishes, with ``error``
    "" on success.

    ``function`` and items must be picklable (workers are spawned, also on Linux: a forked torch
    hangs). Exceptions, one for lack of memory too, and dead workers come back as text, so that one
    bad take never stops the others. Worker processes share the threads that torch has here.

    Raises:
        EgoXInputError: unknown engine, no Ray as :func:`ray_cluster` says.
    """
    check_choice("engine", places.engine, get_args(Engine))
    workers, devices = places.workers, places.devices
    if places.engine == "ray":
        yield from run_on_ray(function, items, workers, devices, places.model_bytes)
    elif places.in_this_process:
        for index, item in enumerate(items):
            yield index, *call(function, item, *devices)
    else:
        yield from run_pool(function, items, max(workers, len(devices)), devices)


def made_once(
    file: Path, finished: Callable[[], Made | None], make: Callable[[], Made], wait: bool = True
) -> tuple[Made, bool] | str:
    """Make an item under a file lock, so that only one of several processes makes it, and report
    whether this call made it.

    Args:
        finished: the item that is there, None where it has to be made; asked under the lock.
        wait: for another process that makes it, instead of giving BUSY.
    """
    with file_lock(file, wait=wait) as has_lock:
        if not has_lock:
            return BUSY
        existing = finished()
        return (make(), True) if existing is None else (existing, False)


def run_all(
    function: Callable[..., Any],
    items: Sequence[Any],
    names: Sequence[str],
    places: RunPlaces = HERE,
    *,
    before: int = 0,
    stage: str = "",
    progress: Progress = no_progress,
) -> tuple[dict[str, str], list[Any]]:
    """Run a function over all items, and return error messages by item name and the results. An
    item that is BUSY in another process is run again with ``wait`` set after all other items.

    Args:
        before: items finished in an earlier run, counted by the progress.

    Raises:
        EgoXInputError: as :func:`run_items`.
    """
    errors, results, todo = {}, [], list(enumerate(items))
    while todo:
        busy = []
        for place, result, error in run_items(function, [item for _, item in todo], places):
            index, item = todo[place]
            if error:
                errors[names[index]] = error
            elif result == BUSY:
                busy.append((index, replace(item, wait=True)))
                continue
            else:
                results.append(result)
            done_count = before + len(errors) + len(results)
            progress(done_count, before + len(items), with_failures(stage, len(errors)))
        todo = busy
    return errors, results


def with_failures(stage: str, count: int) -> str:
    """Append the number of failed items to the name of a stage."""
    return f"{stage}, {count} failed" if count else stage
