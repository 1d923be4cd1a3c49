"""Compute attention without a bias by torch's own kernel, or by cuDNN's where that is faster."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from .bias import keeps_graph
from .kernel_check import Choosing
from .kernel_table import KERNELS, MEASURED, card_of

PlainAttention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""plain(q [B, n, heads * d], k [B, N, heads * d], v, heads) -> [B, n, heads * d]: the host's own
attention."""
ALIGNED_BYTES = 16


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
    :data:`.kernel_table.MEASURED` cards; there cuDNN's is taken. On other cards both are timed once
    per kind of call, but where gradients are needed: a resumed run is to take the same.

    Args:
        own: the attention function that is used elsewhere.
        choosing: reports which one is used.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        is_unmeasured = card_of(q.device) not in MEASURED
        refusal = KERNELS["cudnn"].refusal(q.device, q.dtype, q.shape[-1] // heads)
        if refusal or (is_unmeasured and keeps_graph(q, k, v)):
            return own(q, k, v, heads)
        kernels = {"cudnn": _cudnn, "torch": own}
        choice = choosing.choose(
            "unguided attention",
            (q.device, q.dtype, len(q), k.shape[1], q.shape[2], heads),
            kernels,
            own,
            (q.detach(), k.detach(), v.detach(), heads),
            timed=kernels if is_unmeasured else (),
        )
        takes_cudnn = choice is not None and choice.names[:1] == ["cudnn"]
        return (_cudnn if takes_cudnn else own)(q, k, v, heads)

    return attend


def _cudnn(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return plain_attention(q, k, v, heads)
