"""Estimate the duration of a command over many clips from a measurement of one clip."""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen

from .items import WorkerPlan, run_items

MACHINE_COUNTS = (1, 8, 64)


@frozen
class RunEstimate:
    """Estimated number of clips, duration and disk space of a command."""

    clips: int
    seconds: float  # of one clip on one device, models loaded
    size_bytes: int  # of all

    def __str__(self) -> str:
        hours = self.seconds / 3600
        wall_hours = ", ".join(f"{hours * math.ceil(self.clips / n):.3g}" for n in MACHINE_COUNTS)
        return (
            f"{self.clips} clips to make, {hours * self.clips:.3g} device hours "
            f"({self.seconds:.3g} s per clip, measured), {self.size_bytes / 1e9:.3g} GB; "
            f"hours with {', '.join(map(str, MACHINE_COUNTS))} devices: {wall_hours}"
        )


def estimate_run(
    function: Callable[..., Any], jobs: Sequence[Any], field: str, worker_plan: WorkerPlan
) -> RunEstimate:
    """Measure the time and the file size of one clip, to estimate those of all.

    Args:
        field: of a job, the folder that it writes to.

    Raises:
        EgoXInputError: that clip can't be made.
    """
    if not jobs:
        return RunEstimate(clips=0, seconds=0.0, size_bytes=0)
    measured_item = (function, jobs[len(jobs) // 2], field)
    ((_, result, error),) = run_items(
        _measure_second_run, [measured_item], replace(worker_plan, devices=worker_plan.devices[:1])
    )
    if error:
        raise EgoXInputError(
            "--dry-run", got=error, expected="a clip that can be made", fix="see the reason"
        )
    if isinstance(result, EgoXInputError):
        raise result
    seconds, size = result
    return RunEstimate(clips=len(jobs), seconds=seconds, size_bytes=size * len(jobs))


def _measure_second_run(
    item: tuple[Callable[..., Any], Any, str], device: str
) -> tuple[float, int] | EgoXInputError:
    """Measure the seconds of a job's second run, and the bytes that it writes.

    A refusal is handed on whole, to be raised in the process that asks.
    """
    function, job, result_field = item
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix="egox-") as folder:
            start_time_s = time.monotonic()
            try:
                function(replace(job, **{result_field: Path(folder)}), device)
            except EgoXInputError as refusal:
                return refusal
            seconds = time.monotonic() - start_time_s
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return seconds, size
