"""Gradients of guided attention by product: nothing of a query is held but its result and the
logarithm of its sum of shares.

Equal runs give equal bits. The plain twin is autograd through :func:`.backends.math_rows`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from . import kernel_table
from .product import constants, guided_product, tile, weight_inputs
from .rows import BiasRows

QUERY_BLOCKS = 128
"""Queries of a frame are padded to a multiple that every tile divides."""
Tile = tuple[int, int, int, int]
"""Queries, keys, warps, in flight."""
TILES: dict[tuple[bool, int], dict[kernel_table.Card, tuple[Tile, Tile]]] = {
    # (16 bits, channels of a head): card -> of queries' gradients, of keys' and values'
    (True, 128): {
        (8, 0): ((64, 32, 4, 2), (32, 64, 8, 2)),
        (9, 0): ((128, 64, 8, 2), (64, 128, 8, 2)),
        (12, 0): ((64, 32, 4, 2), (32, 64, 8, 2)),
    },
    (True, 64): {
        (8, 0): ((64, 64, 4, 2), (32, 64, 4, 2)),
        (9, 0): ((128, 64, 8, 2), (64, 128, 8, 2)),
        (12, 0): ((64, 64, 4, 2), (32, 64, 4, 2)),
    },
    (False, 128): {(8, 0): ((32, 16, 8, 1), (16, 32, 8, 1))},
    (False, 64): {(8, 0): ((32, 32, 8, 1), (32, 32, 8, 1))},
}
"""Blocks, those of the highest card that isn't above the one at hand; compiled for all, as those of
:data:`.product.TILES`."""


def keeps_graph(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """True where the result has to be differentiated."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))


def differentiable_product(
    q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice
) -> Tensor:  # as q
    """:func:`.product.guided_product`, with gradients of q, k and v where one is asked for.

    Raises:
        ImportError: no Triton.
    """
    run = _Product.apply if keeps_graph(q, k, v) else guided_product
    return run(q, k, v, heads, bias_rows, queries)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice
    ) -> Tensor:
        per_frame = bias_rows.per_frame
        frames = (queries.stop - 1) // per_frame - queries.start // per_frame + 1
        shape = q.shape[0], heads, frames, per_frame + -per_frame % QUERY_BLOCKS
        sums = torch.full(shape, torch.inf, dtype=torch.float32, device=q.device)
        out = guided_product(q, k, v, heads, bias_rows, queries, sums)
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.inputs = bias_rows, queries
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(ctx.saved_tensors, grad, *ctx.inputs), None, None, None


def _gradients(
    saved: Sequence[Tensor], grad: Tensor, bias_rows: BiasRows, queries: slice
) -> tuple[Tensor, Tensor, Tensor]:  # of q, k and v
    q, k, v, out, sums = saved
    of_query, of_keys = gradient_kernels()
    (batch, heads, frames, _), tokens, per_frame = sums.shape, k.shape[1], bias_rows.per_frame
    dim, shape = q.shape[-1] // heads, q.shape
    # Without gaps: a copy is little beside the kernels.
    q, out, grad = (x.flatten(1, -2).contiguous() for x in (q, out, grad))
    k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (k, v))
    before = queries.start % per_frame
    dots = grad.to(torch.float32, copy=True).mul_(out).unflatten(-1, (heads, dim)).sum(-1)
    dots = pad(dots.mT, (before, frames * per_frame - before - q.shape[1]))
    dots = pad(dots.unflatten(-1, (frames, -1)), (0, sums.shape[-1] - per_frame))
    dots = dots.contiguous()  # where nothing was padded it is none yet
    q_grad, k_grad, v_grad = (x.new_empty(x.shape) for x in (q, k, v))
    query_columns, key_columns, limits, steep = weight_inputs(bias_rows, q.dtype)
    strides = *k.stride()[:2], *v.stride()[:2]
    span = queries.start, queries.stop, per_frame, queries.start // per_frame
    numbers = tokens, key_columns.stride(1), sums.stride(2), sums.stride(1)
    numbers += dim**-0.5 / math.log(2), *limits, dim**-0.5
    sizes, sizes_of_keys = tile(TILES, kernel_table.card_of(q.device), q.dtype, dim)
    blocks, blocks_of_keys = (-(-per_frame // queries) for queries, *_ in (sizes, sizes_of_keys))
    key_blocks = -(-tokens // sizes_of_keys[1])
    with torch.cuda.device_of(q):
        of_query[frames * blocks, heads, batch](
            *(q, k, v, grad, sums, dots, q_grad, query_columns, key_columns, *strides, *span),
            *(blocks, *numbers),
            **constants(sizes, dim, steep),
        )
        of_keys[key_blocks, heads, batch](
            *(
                q,
                k,
                v,
                grad,
                sums,
                dots,
                k_grad,
                v_grad,
                query_columns,
                key_columns,
                *strides,
                *span,
            ),
            *(blocks_of_keys, frames * blocks_of_keys, *numbers),
            **constants(sizes_of_keys, dim, steep),
        )
    return q_grad.view(shape), k_grad, v_grad


def gradient_kernels() -> tuple[Any, Any]:
    """Of queries, and of keys with values.

    Raises:
        ImportError: no Triton.
    """
    from . import triton_gradient

    return triton_gradient.query_gradient_kernel, triton_gradient.key_gradients_kernel
