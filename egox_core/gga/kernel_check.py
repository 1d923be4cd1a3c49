"""Choose kernels by comparing their results with a reference, and time them where no table says
which is the fastest."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Generator, Hashable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import is_oom
from ..finite import all_finite
from .kernel_table import KERNELS, Limits

AGREEMENT = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
FINE_AGREEMENT = 2e-3
"""Largest difference of a kernel from the twin, as a share of a head's largest value. Rounding to
the type allows it; float32 may be multiplied as TF32 where the host says so."""
WRONG = "gives wrong numbers here"
TIMED_RUNS = 3
MATH_WORDS = "the mathematical form, in pieces that the scores' bytes set (slow: no kernel is left)"
log = logging.getLogger(__name__)
_cached_choices: dict[Hashable, Choice] = {}


@dataclass
class Choice:
    """Kernels that can compute one attention call, fastest first, and why others were refused."""

    names: list[str]
    refused: dict[str, str] = field(default_factory=dict)
    lost: bool = False  # one of them for another reason than the table's

    @property
    def needs_bias_rows(self) -> bool:
        """True if the kernel in use needs the bias rows of its queries in memory."""
        return not self.names or KERNELS.get(self.names[0], Limits()).needs_bias_rows

    def refuse(self, name: str, reason: str) -> None:
        """Stop using a kernel, until :func:`forget_lost`."""
        self.refused[name], self.lost = reason, True
        self.names = [other_name for other_name in self.names if other_name != name]

    def words(self) -> str:
        """Describe the kernel in use, and why other kernels are refused."""
        refusal_text = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        return (self.names[0] if self.names else MATH_WORDS) + (
            f" (not {refusal_text})" if refusal_text else ""
        )


def forget_lost() -> None:
    """Allow kernels that failed or gave wrong numbers to be tried again."""
    for key in [key for key, choice in _cached_choices.items() if choice.lost]:
        del _cached_choices[key]


class Choosing:
    """Choice of kernels, reported to the user line by line.

    Args:
        tell: takes a line for people.
    """

    def __init__(self, tell: Callable[[str], None] = log.debug) -> None:
        self.report_line = tell
        self.seconds = 0.0

    def choose(
        self,
        subject: str,
        key: Hashable,
        kernels: Mapping[str, Callable[..., Tensor]],
        reference: Callable[..., Tensor],
        # Arguments of the kernels: q, k, v, heads and what else these kernels take.
        args: tuple,
        *,
        timed: Collection[str] = (),
        refused: Mapping[str, str] | None = None,
    ) -> Choice | None:
        """Choose among kernels by comparing each with the reference, and cache the choice.

        Untimed kernels come first, in their order. None, which isn't cached, means that a number
        isn't finite, so that nothing can be compared.
        """
        if (subject, key) in _cached_choices:
            return _cached_choices[subject, key]
        with torch.no_grad():
            exact_result = reference(*args)
            if not all_finite(*args[:3], exact_result):  # by no kernel's fault
                return None
            choice = Choice(names=list(kernels), refused=dict(refused or {}))
            kernel_seconds = {}
            for name, run in kernels.items():
                with self.report_step(name):
                    fault, kernel_seconds[name] = _try_kernel(
                        run, args, exact_result, name in timed
                    )
                if fault:
                    choice.refuse(name, fault)
        choice.names.sort(key=kernel_seconds.__getitem__)
        is_settled = choice.names and WRONG not in choice.refused.values()
        (log.info if is_settled else log.warning)("EgoX: %s by %s", subject, choice.words())
        self.report_line(f"{subject} by {choice.words()}")
        return _cached_choices.setdefault((subject, key), choice)

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


def _try_kernel(
    run: Callable[..., Tensor], args: tuple, reference: Tensor, is_timed: bool
) -> tuple[str, float]:
    """Describe why a kernel can't be used ("" if it runs and agrees with the reference), and time
    it."""
    try:
        if not agrees(run(*args), reference, args[3]):
            return WRONG, math.inf
        return "", best_seconds(run, args) if is_timed else 0.0
    except Exception as error:  # compilers of kernels raise anything
        if is_oom(error):
            raise
        return f"is not available: {first_line(error)}", math.inf


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


def best_seconds(run: Callable[..., Tensor], args: tuple) -> float:
    """Time a kernel: the shortest of a few runs after a warm-up."""
    run_seconds = []
    for _ in range(1 + TIMED_RUNS):
        _wait(args[0].device)
        start = time.perf_counter()
        run(*args)
        _wait(args[0].device)
        run_seconds.append(time.perf_counter() - start)
    return min(run_seconds[1:])


def first_line(error: Exception) -> str:
    """Shorten an error's message to its first line."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
