"""Attention without a bias: torch's own, and cuDNN's where torch would take a slower one."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from .bias import keeps_graph
from .kernel_check import Choosing, agrees, best_seconds
from .kernel_table import KERNELS, Asked, card_of, name_of

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
    """Attention by torch's own kernels, on merged heads."""
    q, k, v = (aligned(x).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    mask = None if bias is None else bias[None, None]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def aligned(x: Tensor) -> Tensor:
    """``x`` with rows that begin at multiples of 16 bytes on a GPU, copied where they don't: there
    cuDNN, which torch takes by itself, gives wrong numbers without a word (torch 2.11), and others
    refuse."""
    places = (x.storage_offset(), *x.stride()[:-1])
    fits = not x.is_cuda or all(place * x.element_size() % ALIGNED_BYTES == 0 for place in places)
    return x if fits else x.contiguous()


def or_cudnn(own: PlainAttention, choosing: Choosing) -> PlainAttention:
    """``own``, by which torch chooses a kernel, or cuDNN's where it is as right and faster.

    Hosts let torch take flash attention first, which takes 1.8 times as long on 9.0. Both are timed
    once per kind of call, told and kept by ``choosing``. Where gradients are needed nothing is
    timed, so that a resumed run takes the same: cuDNN's on :data:`FASTER_ON`.
    """

    def run(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        asked = Asked(device=q.device, dtype=q.dtype, head_size=q.shape[-1] // heads)
        gradients = keeps_graph(q, k, v)
        if KERNELS["cudnn"].refusal(asked) or (gradients and card_of(q.device) not in FASTER_ON):
            return own(q, k, v, heads)
        key = "unguided", name_of(q.device), q.dtype, len(q), k.shape[1], q.shape[2], heads
        if (key, gradients) not in _takes_cudnn:
            runs = {"torch": own, "cudnn": _cudnn}
            args = q.detach(), k.detach(), v.detach(), heads
            name = "cudnn" if gradients else choosing.kept(key)
            if name not in runs:
                with choosing.told("unguided queries"):
                    name = min(runs, key=lambda name: best_seconds(runs[name], args))
                choosing.keep(key, name)
            right = name == "cudnn" and agrees(_cudnn(*args), own(*args), heads)
            _takes_cudnn[key, gradients] = right
            choosing.tell(f"unguided attention by {'cudnn' if right else 'torch'}")
        return (_cudnn if _takes_cudnn[key, gradients] else own)(q, k, v, heads)

    return run


def _cudnn(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return plain_attention(q, k, v, heads)
