"""Compute gradients of guided attention without storing the attention matrix.

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
from .bias import keeps_graph
from .product import (
    TILES as FORWARD,
    block_sizes_for,
    guided_product,
    kernel_constants,
    product_kernel,
    weight_inputs,
)
from .rows import BiasRows

QUERY_BLOCKS = 128
"""Queries of a frame are padded to a multiple that every tile divides."""
OLDER, NEWER = ((64, 32, 4, 2), (32, 64, 8, 2)), ((128, 64, 8, 3), (32, 128, 8, 3))
HALF = {(8, 0): OLDER, (9, 0): NEWER, (12, 0): OLDER}
TILES = {
    (True, 128): HALF,
    (True, 64): HALF,
    (False, 128): {(8, 0): ((32, 16, 8, 1), (32, 16, 8, 1))},
    (False, 64): {(8, 0): ((32, 32, 8, 1), (32, 16, 8, 1))},
}
"""As :data:`.product.TILES`, of the kernel for queries and of that for keys and values: queries,
keys, warps, in flight."""


def differentiable_product(
    q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice
) -> Tensor:  # as q
    """Compute :func:`.product.guided_product`, differentiable in q, k and v.

    Raises:
        ImportError: no Triton.
    """
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    compute_product = _Product.apply if keeps_graph(q, k, v) else guided_product
    return compute_product(q, k, v, heads, bias_rows, queries)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice
    ) -> Tensor:
        per_frame = bias_rows.per_frame
        frames = (queries.stop - 1) // per_frame - queries.start // per_frame + 1
        sums_shape = q.shape[0], heads, frames, per_frame + -per_frame % QUERY_BLOCKS
        sums = torch.full(sums_shape, torch.inf, dtype=torch.float32, device=q.device)
        result = guided_product(q, k, v, heads, bias_rows, queries, sums)
        ctx.save_for_backward(q, k, v, result, sums)
        ctx.inputs = bias_rows, queries
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(ctx.saved_tensors, grad, *ctx.inputs), None, None, None


def _gradients(
    saved_tensors: Sequence[Tensor], grad: Tensor, bias_rows: BiasRows, queries: slice
) -> tuple[Tensor, Tensor, Tensor]:  # of q, k and v
    q, k, v, result, sums = saved_tensors
    query_kernel, keys_kernel = gradient_kernels()
    (batch, heads, frames, padded), per_frame = sums.shape, bias_rows.per_frame
    token_count = k.shape[1]
    head_size = q.shape[-1] // heads
    first_frame, queries_before = divmod(queries.start, per_frame)
    count = queries.stop - queries.start

    def by_frame(tensor: Tensor) -> Tensor:  # [B, n, D] -> [B, frames * padded, D] without gaps
        tensor = pad(
            tensor.contiguous(), (0, 0, queries_before, frames * per_frame - queries_before - count)
        )
        return pad(tensor.unflatten(1, (frames, -1)), (0, 0, 0, padded - per_frame)).flatten(1, 2)

    dots = grad.to(torch.float32, copy=True).mul_(result).unflatten(-1, (heads, head_size)).sum(-1)
    dots = by_frame(dots.flatten(1, -2)).mT.contiguous()
    query_rows, grad = (by_frame(tensor.flatten(1, -2)) for tensor in (q, grad))
    q_grad, k_grad, v_grad = (tensor.new_empty(tensor.shape) for tensor in (query_rows, k, v))
    kernel_tensors = query_rows, k.contiguous(), v.contiguous(), grad, sums, dots
    query_columns, key_columns, limits, steep = weight_inputs(bias_rows, q.dtype)
    columns = (
        pad(query_columns[first_frame:], (0, 0, 0, padded - per_frame)),
        key_columns[first_frame:],
    )
    kernel_scalars = (
        token_count,
        key_columns.stride(1),
        head_size**-0.5 / math.log(2),
        *limits,
        head_size**-0.5,
    )
    (sizes, blocks), (sizes_of_keys, blocks_of_keys) = (
        (sizes, (padded, frames * padded, -(-per_frame // sizes[0])))
        for sizes in block_sizes_for(TILES, kernel_table.card_of(q.device), q.dtype, head_size)
    )
    with torch.cuda.device_of(q):
        query_kernel[frames * blocks[2], heads, batch](
            *(*kernel_tensors, q_grad, *columns, *blocks, *kernel_scalars),
            **kernel_constants(sizes, head_size, steep),
        )
        keys_kernel[-(-token_count // sizes_of_keys[1]), heads, batch](
            *(*kernel_tensors, k_grad, v_grad, *columns, *blocks_of_keys, *kernel_scalars),
            **kernel_constants(sizes_of_keys, head_size, steep),
        )
    q_grad = q_grad.unflatten(1, (frames, padded))[:, :, :per_frame].flatten(1, 2)
    return q_grad[:, queries_before : queries_before + count].reshape(q.shape), k_grad, v_grad


def gradient_kernels() -> tuple[Any, Any]:
    """Import the Triton kernels for the gradients of queries, and of keys and values.

    Raises:
        ImportError: no Triton.
    """
    from . import triton_gradient

    return triton_gradient.query_gradient_kernel, triton_gradient.key_gradients_kernel


def product_kernels(
    card: kernel_table.Card, dtype: torch.dtype, dim: int
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Collect all kernels of guided attention by their result's name, with their constants.

    Raises:
        ImportError: no Triton.
    """
    *sizes, apart = block_sizes_for(FORWARD, card, dtype, dim)
    kernels = {}
    for frames in (1,) if dtype == torch.float32 else (1, 2):
        fixed_constants = kernel_constants(sizes, dim, steep=True) | {
            "apart": apart,
            "frames": frames,
        }
        kernels[f"results, frames: {frames}"] = product_kernel(), fixed_constants | {"sums": None}
        kernels[f"results and sums, frames: {frames}"] = product_kernel(), fixed_constants
    backward_pairs = zip(gradient_kernels(), block_sizes_for(TILES, card, dtype, dim), strict=True)
    query_kernel, key_kernel = (
        (kernel, kernel_constants(sizes, dim, True)) for kernel, sizes in backward_pairs
    )
    return kernels | {"gradient of q": query_kernel, "gradients of k, v": key_kernel}
