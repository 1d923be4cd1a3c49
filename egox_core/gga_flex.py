"""Biased attention by torch's FlexAttention: the bias is computed inside the kernel, in float32, and never stored.

Compiled on a GPU (half a minute at the first call); elsewhere torch runs it uncompiled, which is for tests only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from .gga_bias import LOG_FLOOR
from .gga_rows import BiasRows


def flex_rows(q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice) -> Tensor:
    """As :mod:`gga_backends` describes: [B, n, heads * d] of these ego queries.

    Raises:
        ImportError: this torch has no FlexAttention.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    attention = _flex_attention(q.device.type == "cuda")
    return attention(q, k, v, score_mod=score_mod(bias_rows, queries)).transpose(1, 2).flatten(2)


def score_mod(bias_rows: BiasRows, queries: slice) -> Callable[..., Tensor]:
    """The function that FlexAttention calls for a score, with the directions bound to it."""
    geometry = bias_rows.geometry
    directions = geometry.query_dirs.flatten(0, 1)[queries]
    keys = geometry.key_dirs
    # The kernel adds in float32; the shift for half precision stays all the same, the softmax doesn't see it.
    per_frame, first, scale, factor = bias_rows.per_frame, queries.start, bias_rows.scale, bias_rows.factor
    gain, offset = bias_rows.gain, bias_rows.offset

    def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        frame = (query + first) // per_frame
        cos = (directions[query, 0] * keys[frame, key, 0] + directions[query, 1] * keys[frame, key, 1]
               + directions[query, 2] * keys[frame, key, 2])
        cos = torch.where(cos > 0, cos * scale, cos) if scale > 1 else cos * scale
        bias = torch.log(((cos + 1) + LOG_FLOOR) * factor)
        if gain is not None:
            bias = bias * gain[key]
        if offset is not None:
            bias = bias + offset[key]
        return score + bias

    return biased


@functools.cache
def _flex_attention(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
