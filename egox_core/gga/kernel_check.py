"""Comparison of attention kernels with the numbers that are right, their time, and what was
chosen."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.collect_env import get_nvidia_driver_version, run

from .. import __version__
from ..errors import EgoXInputError
from ..safe_files import read_json_object, write_json
from .kernel_table import KERNELS, triton_version

AGREEMENT = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
FINE_AGREEMENT = 2e-3
"""Largest difference of a kernel from the twin, as a share of a head's largest value. Rounding to
the type allows it; float32 may be multiplied as TF32 where the host says so."""
TIMED_RUNS = 3
log = logging.getLogger(__name__)


def agrees(ours: Tensor, twin: Tensor, heads: int) -> bool:  # [B, n, heads * d] each
    """True where each head of each sample is right by its own largest value, however small."""
    kind, limit = torch.finfo(twin.dtype), AGREEMENT.get(twin.dtype, FINE_AGREEMENT)
    # Sums are of float32, whose subnormals a processor's bf16 instructions take for 0.
    last_bit = max(kind.smallest_normal * kind.eps, torch.finfo(torch.float32).smallest_normal)
    error, largest = (
        x.float().flatten(1, -2).unflatten(-1, (heads, -1)).abs().amax((1, 3))
        for x in (ours - twin, twin)
    )
    return bool((error <= limit * largest + last_bit).all())  # NaN does not agree


def best_seconds(run: Callable[..., Tensor], args: tuple) -> float:
    """Best of a few runs after a warm-up; infinite where one of them fails."""
    best, device = math.inf, args[0].device
    try:
        with torch.no_grad():
            for _ in range(1 + TIMED_RUNS):
                _wait(device)
                start = time.perf_counter()
                run(*args)
                _wait(device)
                best = min(best, time.perf_counter() - start)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (compilers of kernels raise anything)
        log.info("EgoX: attention kernel refused: %s", error)
        return math.inf
    return best


class Choosing:
    """Choosing between kernels: told to people, and kept in a file for processes to come.

    Args:
        file: None: nothing is kept.
        tell: takes a line for people.
    """

    def __init__(self, file: Path | None = None, tell: Callable[[str], None] = log.debug) -> None:
        self.file, self.tell, self.seconds = file, tell, 0.0

    @contextmanager
    def told(self, what: str) -> Generator[None]:
        """Tell what is compiled, compared or timed in this block, and count its seconds."""
        self.tell(f"choosing a kernel, {self.seconds:.0f} s ({what})")
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def kept(self, key: tuple) -> object:
        """Name that was kept for this key with the same driver and versions; None without one."""
        return None if self.file is None else self._all(self.file).get(_digest(key))

    def keep(self, key: tuple, name: str) -> None:
        """Keep a name; a disk that refuses costs a word in the log."""
        if self.file is not None:
            try:
                write_json(self.file, {**self._all(self.file), _digest(key): name})
            except OSError as error:
                log.warning("EgoX: the chosen kernel isn't kept: %s", error)

    def forget(self) -> None:
        """Have processes to come choose anew: a kernel that was right fails."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    @staticmethod
    def _all(file: Path) -> dict:
        try:
            if file.exists():
                return read_json_object(file, "kept kernels")
        except (EgoXInputError, OSError) as error:
            log.warning("EgoX: kernels are chosen anew: %s", error)
        return {}


def _digest(key: tuple) -> str:
    versions = torch.__version__, torch.backends.cudnn.version(), triton_version(), __version__
    return hashlib.sha256(repr((key, _driver(), versions, KERNELS)).encode()).hexdigest()


@cache
def _driver() -> str | None:
    """Version of the NVIDIA driver, as its own tool says it; None without one."""
    return get_nvidia_driver_version(run) if torch.cuda.is_available() else None


def short(error: Exception) -> str:
    """The error's first line."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
