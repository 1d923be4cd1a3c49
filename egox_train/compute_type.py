"""Choose the number type that a device computes in."""

import logging
import time
from functools import cache
from typing import Literal

import torch
from torch.nn.functional import linear

from .options import ComputeType

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENS, WIDTH = 512, 1024
"""Size of the timed product, a gigaflop or some ms."""
ROUND_S, ROUNDS = 0.15, 2
"""CPU seconds of products in a type at a time, ten ticks of Windows' clock, and how often."""
logger = logging.getLogger(__name__)


def compute_type(
    named_type: ComputeType, device: torch.device | str
) -> Literal["float32", "bfloat16"]:
    """Return the type that the user names, else bfloat16 on a GPU and the faster one on a CPU."""
    if named_type != "auto":
        return named_type
    return _faster_type() if torch.device(device).type == "cpu" else "bfloat16"


@cache
def _faster_type() -> Literal["float32", "bfloat16"]:
    """Time a product on the CPU in both types, and choose the one that takes less time.

    Its flags don't tell: a Xeon with AVX-512's instructions for bfloat16 takes 1.8 times as long in
    it (docs/training.md). One thread's own time is counted, which other work can't lengthen."""
    seconds = dict.fromkeys(DTYPES, float("inf"))  # of a product
    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in [*DTYPES] * ROUNDS:
            seconds[name] = min(seconds[name], _seconds_of_product(DTYPES[name]))
    finally:
        torch.set_num_threads(thread_count)
    ratio = seconds["bfloat16"] / seconds["float32"]
    faster_type = "bfloat16" if ratio < 1 else "float32"
    logger.info(
        "computing in %s: a product in bfloat16 takes %.2g times as long as in float32 on this CPU",
        faster_type,
        ratio,
    )
    return faster_type


def _seconds_of_product(dtype: torch.dtype) -> float:
    rows, weight = torch.ones(TOKENS, WIDTH, dtype=dtype), torch.ones(WIDTH, WIDTH, dtype=dtype)
    linear(rows, weight)  # the first one also compiles its kernel
    start_s, count = time.thread_time(), 0
    while (elapsed_s := time.thread_time() - start_s) < ROUND_S:
        linear(rows, weight)
        count += 1
    return elapsed_s / count
