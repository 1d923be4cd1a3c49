"""Compute attention without a bias by torch's own kernel, or by cuDNN's where that is faster."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ..finite import all_finite
from .bias import keeps_graph
from .kernel_check import Choosing, best_seconds, kernel_fault
from .kernel_table import KERNELS, KernelRequest, card_of, name_of

PlainAttention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""plain(q [B, n, heads * d], k [B, N, heads * d], v, heads) -> [B, n, heads * d]: the host's own
attention."""
FASTER_ON = ((9, 0),)
"""Cards where cuDNN took less time, backward too: 38 ms where flash attention takes 63."""
ALIGNED_BYTES = 16
_takes_cudnn: dict[tuple, bool] = {}


def plain_attention(
    q: Tensor,  # [B, n, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
    bias: Tensor | None = None,  # [n, N]
) -> Tensor:  # [B, n, heads * d]
    """Compute attention with torch's scaled_dot_product_attention, on merged heads."""
    q, k, v = (aligned(x).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    attention_mask = None if bias is None else bias[None, None]
    return (
        scaled_dot_product_attention(q, k, v, attn_mask=attention_mask).transpose(1, 2).flatten(2)
    )


def aligned(x: Tensor) -> Tensor:
    """Copy a CUDA tensor whose rows aren't aligned to 16 bytes, and return any other as it is.

    There cuDNN, which torch takes by itself, gives wrong numbers without a word (torch 2.11),
    and others refuse.
    """
    offset_and_strides = (x.storage_offset(), *x.stride()[:-1])
    is_aligned = not x.is_cuda or all(
        element_count * x.element_size() % ALIGNED_BYTES == 0
        for element_count in offset_and_strides
    )
    return x if is_aligned else x.contiguous()


def or_cudnn(own: PlainAttention, choosing: Choosing) -> PlainAttention:
    """Wrap an attention function so that cuDNN's kernel is used where it is correct and faster.

    Hosts let torch take flash attention first, which takes 1.8 times as long on
    :data:`FASTER_ON`; there cuDNN's is taken. On other cards both are timed once per kind of call,
    but where gradients are needed: a resumed run is to take the same.

    Args:
        own: the attention function that is used elsewhere.
        choosing: reports which one is used.
    """
    default_attention = own

    def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        card = card_of(q.device)
        request = KernelRequest(device=q.device, dtype=q.dtype, head_size=q.shape[-1] // heads)
        is_unmeasured = card not in FASTER_ON
        if KERNELS["cudnn"].refusal(request) or (is_unmeasured and keeps_graph(q, k, v)):
            return default_attention(q, k, v, heads)
        key = name_of(q.device), q.dtype, len(q), k.shape[1], q.shape[2], heads
        if key not in _takes_cudnn:
            attention_args = q.detach(), k.detach(), v.detach(), heads
            with choosing.report_step("unguided queries"):
                default_result = default_attention(*attention_args)
                if not all_finite(
                    *attention_args[:3], default_result
                ):  # by no kernel's fault: nothing can be compared
                    return default_attention(q, k, v, heads)
                is_faster = not is_unmeasured or best_seconds(
                    _cudnn, attention_args
                ) < best_seconds(default_attention, attention_args)
                _takes_cudnn[key] = is_faster and not kernel_fault(
                    _cudnn, attention_args, default_result, heads
                )
            choosing.report_line(
                f"unguided attention by {'cudnn' if _takes_cudnn[key] else 'torch'}"
            )
        return (_cudnn if _takes_cudnn[key] else default_attention)(q, k, v, heads)

    return attend


def _cudnn(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return plain_attention(q, k, v, heads)
