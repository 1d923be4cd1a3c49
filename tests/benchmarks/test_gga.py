"""Measures of the bench of geometry-guided attention: working memory, here on small cases."""

from functools import partial

import torch

from benchmarks.support.attention_case import make_case
from benchmarks.support.record import peak_tensor_bytes
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.options import GgaOptions

HEADS, DIM = 4, 16


def test_working_memory_is_a_chunk_and_no_square():
    """Extra memory beside plain attention, in tensors: within the chunk, and no more for twice the
    frames."""
    cpu, chunk, extra = torch.device("cpu"), 64 * 2**10, []
    for frames in (6, 12):
        case = make_case((frames, 8, 14, 8), HEADS, DIM, torch.float32, cpu)
        guided = partial(gga_attention, *case.inputs, case.geometry, GgaOptions())
        guided()  # kernels are compared once
        plain = peak_tensor_bytes(partial(plain_attention, *case.inputs), cpu)
        extra.append(peak_tensor_bytes(partial(guided, chunk_bytes=chunk), cpu) - plain)
        assert extra[-1] <= 1.25 * chunk  # the kernel's own small outputs beside the chunk
    assert (
        extra[1] <= 1.25 * extra[0] and extra[1] < case.geometry.tokens**2
    )  # a dense float32 map: four times that
