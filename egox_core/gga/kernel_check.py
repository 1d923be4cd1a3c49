"""Comparison of attention kernels with the numbers that are right, and their time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import is_oom

AGREEMENT = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
FINE_AGREEMENT = 2e-3
"""Largest difference of a kernel from the twin, as a share of a head's largest value. Rounding to
the type allows it; float32 may be multiplied as TF32 where the host says so."""
WRONG = "gives wrong numbers here"
TIMED_RUNS = 3
log = logging.getLogger(__name__)


def agrees(ours: Tensor, twin: Tensor, heads: int) -> bool:  # [B, n, heads * d] each
    """Check that each head of each sample is right by its own largest value, however small."""
    kind, limit = torch.finfo(twin.dtype), AGREEMENT.get(twin.dtype, FINE_AGREEMENT)
    # Sums are of float32, whose subnormals a processor's bf16 instructions take for 0.
    last_bit = max(kind.smallest_normal * kind.eps, torch.finfo(torch.float32).smallest_normal)
    error, largest = (
        x.float().flatten(1, -2).unflatten(-1, (heads, -1)).abs().amax((1, 3))
        for x in (ours - twin, twin)
    )
    return bool((error <= limit * largest + last_bit).all())  # NaN does not agree


def fault_of(run: Callable[..., Tensor], args: tuple, twin: Tensor, heads: int) -> str:
    """Say why a kernel can't be taken, or nothing where it runs and agrees with the twin."""
    try:
        return "" if agrees(run(*args), twin, heads) else WRONG
    except Exception as error:  # compilers of kernels raise anything
        if is_oom(error):
            raise
        return f"is not available: {short(error)}"


def best_seconds(run: Callable[..., Tensor], args: tuple) -> float:
    """Time a kernel by the best of a few runs after a warm-up, infinite where one fails."""
    least_seconds, device = math.inf, args[0].device
    try:
        with torch.no_grad():
            for _ in range(1 + TIMED_RUNS):
                _wait(device)
                start = time.perf_counter()
                run(*args)
                _wait(device)
                least_seconds = min(least_seconds, time.perf_counter() - start)
    except Exception as error:  # compilers of kernels raise anything
        if is_oom(error):
            raise
        log.info("EgoX: attention kernel refused: %s", error)
        return math.inf
    return least_seconds


class Choosing:
    """Choosing between kernels, told to people.

    Args:
        tell: takes a line for people.
    """

    def __init__(self, tell: Callable[[str], None] = log.debug) -> None:
        self.tell, self.seconds = tell, 0.0

    @contextmanager
    def told(self, what: str) -> Generator[None]:
        """Tell what is compiled, compared or timed in this block, and count its seconds."""
        self.tell(f"choosing a kernel, {self.seconds:.0f} s ({what})")
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


def short(error: Exception) -> str:
    """Take the error's first line."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
