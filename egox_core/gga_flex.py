"""Biased attention by torch's FlexAttention: the bias is computed inside the kernel, in float32, and never stored.

Compiled on a GPU (half a minute at the first call); elsewhere torch runs it uncompiled, which is for tests only.
"""

from __future__ import annotations

import functools
import math
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
    geometry, options = bias_rows.geometry, bias_rows.options
    directions = geometry.query_dirs.flatten(0, 1)[queries]
    keys = geometry.key_dirs
    per_frame, first, lambda_g, mode = bias_rows.per_frame, queries.start, options.lambda_g, options.mode
    known = (geometry.key_trust > 0).float()
    trust = bias_rows.trust

    def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        frame = (query + first) // per_frame
        cos = (directions[query, 0] * keys[frame, key, 0] + directions[query, 1] * keys[frame, key, 1]
               + directions[query, 2] * keys[frame, key, 2])
        if mode == "released":
            cos = torch.where(cos > 0, cos * lambda_g, cos) if lambda_g > 1 else cos * lambda_g
        bias = torch.log((cos + 1) + LOG_FLOOR)
        if mode == "paper":
            bias = bias + known[key] * math.log(lambda_g)
        elif mode == "power":
            bias = bias * lambda_g
        if trust is not None:
            bias = bias * trust[key]
        return score + bias

    return biased


@functools.cache
def _flex_attention(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
