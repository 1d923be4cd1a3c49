"""Choose the number type that a device computes in."""

import logging
import time
from functools import cache
from typing import Literal

import torch
from torch.nn.functional import linear

from .options import ComputeType

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENS, WIDTH, ROUNDS = 512, 1024, 5
"""Size of the timed product, half a gigaflop or some ms, and how often it is repeated."""
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
    it (``benchmarks/results/cpu_types.md``)."""
    seconds = dict.fromkeys(DTYPES.values(), float("inf"))
    for _ in range(ROUNDS):
        for dtype in seconds:
            rows = torch.ones(TOKENS, WIDTH, dtype=dtype)
            weight = torch.ones(WIDTH, WIDTH, dtype=dtype)
            start_s = time.perf_counter()
            linear(rows, weight)
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start_s)
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    faster_type = "bfloat16" if ratio < 1 else "float32"
    logger.info(
        "computing in %s: a product in bfloat16 takes %.2g times as long as in float32 on this CPU",
        faster_type,
        ratio,
    )
    return faster_type
