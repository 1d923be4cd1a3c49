"""Compare attention kernels with the float32 reference, and time them."""

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


def agrees(result: Tensor, reference: Tensor, heads: int) -> bool:  # [B, n, heads * d] each
    """Check that every head of a kernel's result agrees with the reference, relative to the head's
    largest value."""
    float_info = torch.finfo(reference.dtype)
    error_limit = AGREEMENT.get(reference.dtype, FINE_AGREEMENT)
    # Sums are of float32, whose subnormals a processor's bf16 instructions take for 0.
    rounding = max(
        float_info.smallest_normal * float_info.eps, torch.finfo(torch.float32).smallest_normal
    )
    error, largest = (
        x.float().flatten(1, -2).unflatten(-1, (heads, -1)).abs().amax((1, 3))
        for x in (result - reference, reference)
    )
    return bool((error <= error_limit * largest + rounding).all())  # NaN does not agree


def kernel_fault(run: Callable[..., Tensor], args: tuple, reference: Tensor, heads: int) -> str:
    """Describe why a kernel can't be used, or return "" if it runs and agrees with the
    reference."""
    try:
        return "" if agrees(run(*args), reference, heads) else WRONG
    except Exception as error:  # compilers of kernels raise anything
        if is_oom(error):
            raise
        return f"is not available: {first_line(error)}"


def best_seconds(run: Callable[..., Tensor], args: tuple) -> float:
    """Time a kernel: the shortest of a few runs after a warm-up, infinity if it fails."""
    least_seconds = math.inf
    device = args[0].device
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
    """Progress of choosing kernels, reported to the user line by line.

    Args:
        tell: takes a line for people.
    """

    def __init__(self, tell: Callable[[str], None] = log.debug) -> None:
        self.report_line = tell
        self.seconds = 0.0

    @contextmanager
    def report_step(self, label: str) -> Generator[None]:
        """Report what is compiled, compared or timed within a ``with`` block, and add its
        duration."""
        self.report_line(f"choosing a kernel, {self.seconds:.0f} s ({label})")
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start_s


def first_line(error: Exception) -> str:
    """Shorten an error's message to its first line."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
