"""Attention without a bias: torch's own, and cuDNN's where torch would take a slower one."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from .kernel_check import agrees, best_seconds
from .kernel_table import KERNELS, Asked

PlainAttention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""plain(q [B, n, heads * d], k [B, N, heads * d], v, heads) -> [B, n, heads * d]: the host's own
attention."""
log = logging.getLogger(__name__)
_cudnn_is_faster: dict[tuple, bool] = {}


def plain_attention(
    q: Tensor,  # [B, n, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
) -> Tensor:  # [B, n, heads * d]
    """torch's own attention on merged heads."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def or_cudnn(own: PlainAttention) -> PlainAttention:
    """``own``, by which torch chooses a kernel, or cuDNN's where it is as right and faster.

    Hosts let torch take flash attention first, which takes 1.6 to 1.8 times as long on 9.0. Both
    are timed once per kind of call; a call that keeps a graph is ``own``'s.
    """

    def run(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        asked = Asked(device=q.device, dtype=q.dtype, head_size=q.shape[-1] // heads)
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
            return own(q, k, v, heads)
        if KERNELS["cudnn"].refusal(asked):
            return own(q, k, v, heads)
        key = q.device, q.dtype, len(q), k.shape[1], q.shape[2], heads
        if key not in _cudnn_is_faster:
            args = q, k, v, heads
            times = [best_seconds(kernel, args) for kernel in (own, _cudnn)]
            _cudnn_is_faster[key] = times[1] < times[0] and agrees(_cudnn(*args), own(*args), heads)
            log.info("EgoX: unguided queries by %s", "cudnn" if _cudnn_is_faster[key] else "torch")
        return (_cudnn if _cudnn_is_faster[key] else own)(q, k, v, heads)

    return run


def _cudnn(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return plain_attention(q, k, v, heads)
