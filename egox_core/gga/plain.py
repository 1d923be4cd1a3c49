"""Attention without a bias: torch's own, and cuDNN's where torch would take a slower one."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ..finite import all_finite
from .bias import keeps_graph
from .kernel_check import Choosing, best_seconds, fault_of
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
    """Compute attention by torch's own kernels, on merged heads."""
    q, k, v = (aligned(x).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    mask = None if bias is None else bias[None, None]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def aligned(x: Tensor) -> Tensor:
    """Copy ``x`` on a GPU if its rows don't begin at multiples of 16 bytes.

    There cuDNN, which torch takes by itself, gives wrong numbers without a word (torch 2.11),
    and others refuse.
    """
    places = (x.storage_offset(), *x.stride()[:-1])
    is_aligned = not x.is_cuda or all(
        place * x.element_size() % ALIGNED_BYTES == 0 for place in places
    )
    return x if is_aligned else x.contiguous()


def or_cudnn(own: PlainAttention, choosing: Choosing) -> PlainAttention:
    """Choose ``own``, by which torch chooses a kernel, or cuDNN's where it is as right and faster.

    Hosts let torch take flash attention first, which takes 1.8 times as long on
    :data:`FASTER_ON`; there cuDNN's is taken. On other cards both are timed once per kind of call,
    but where gradients are needed: a resumed run is to take the same.
    """

    def run(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        card = card_of(q.device)
        request = Asked(device=q.device, dtype=q.dtype, head_size=q.shape[-1] // heads)
        unlisted = card not in FASTER_ON
        if KERNELS["cudnn"].refusal(request) or (unlisted and keeps_graph(q, k, v)):
            return own(q, k, v, heads)
        key = name_of(q.device), q.dtype, len(q), k.shape[1], q.shape[2], heads
        if key not in _takes_cudnn:
            args = q.detach(), k.detach(), v.detach(), heads
            with choosing.told("unguided queries"):
                owns = own(*args)
                if not all_finite(*args[:3], owns):  # by no kernel's fault: nothing can be compared
                    return own(q, k, v, heads)
                fast = not unlisted or best_seconds(_cudnn, args) < best_seconds(own, args)
                _takes_cudnn[key] = fast and not fault_of(_cudnn, args, owns, heads)
            choosing.tell(f"unguided attention by {'cudnn' if _takes_cudnn[key] else 'torch'}")
        return (_cudnn if _takes_cudnn[key] else own)(q, k, v, heads)

    return run


def _cudnn(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return plain_attention(q, k, v, heads)
