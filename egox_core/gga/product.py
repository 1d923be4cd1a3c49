"""Compute guided attention in one Triton kernel, with the geometric weight as a second matrix
product.

exp(score + log g) = exp(score) g, with g as a matrix product.

The weight g = 1 + λ cos of query and key is a matrix product of depth 16 on tensor cores, of
columns that are made once for a geometry: directions, and a 1, each in two float16 parts (22 bits;
two of bfloat16 would have 16). There is no logarithm, no row of bias, and the running maximum is
that of the plain scores. The paper's factor for keys with geometry is a factor of their columns.
Powers of two keep columns within float16, and shares below 2^15: of 2^-29 of that they keep all
digits.

Gradients are those of :mod:`.product_gradient`. ``TRITON_INTERPRET=1`` runs it on a CPU, for tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..types import GgaGeometry
from . import kernel_table
from .bias import LOG_FLOOR
from .options import GgaOptions
from .rows import BiasRows

DEPTH, KEY_BLOCKS = 16, 128
"""Columns; keys are padded to a multiple that every tile divides."""
LARGEST = 14
"""Exponent of a column's largest number; float16 ends below 2^16."""
TILES = {  # (16 bits, channels of a head): card -> queries, keys, warps, in flight, apart
    (True, 128): {
        (8, 0): (64, 32, 4, 2, False),
        (9, 0): (128, 64, 8, 3, True),
        (12, 0): (64, 32, 4, 2, False),
    },
    (True, 64): {
        (8, 0): (64, 64, 4, 2, False),
        (9, 0): (128, 64, 8, 3, True),
        (12, 0): (64, 64, 4, 2, False),
    },
    (False, 128): {(8, 0): (32, 16, 8, 1, False)},
    (False, 64): {(8, 0): (32, 32, 8, 1, False)},
}
"""Blocks of the kernel, those of the highest card that isn't above the one at hand. ``apart``: keys
that fill a block have a loop of their own without masks, which spills registers below 9.0 and on
12.0. Measured on 9.0 alone, all compiled (``benchmarks/results/product_cubins.md``)."""

JOINED_COST = 1.05
"""Time of blocks that lie across two frames, which need columns of both, in that of blocks within
one, which a frame of 784 queries fills to seven eighths."""


def weight_columns(
    geometry: GgaGeometry, options: GgaOptions, dtype: torch.dtype
) -> tuple[Tensor, ...]:  # [t, h * w_ego, 16], [t + 1, 16, tokens and padding]
    """Compute query and key columns whose product is the geometric attention weight, and cache
    them."""
    column_dtype = torch.float32 if dtype == torch.float32 else torch.float16
    key = options.mode, options.lambda_g, column_dtype
    if key not in geometry.made:
        scale, factor = _weight_factors(options)
        query_scale, key_scale = (
            math.ldexp(1.0, LARGEST - exponent) for exponent in _column_exponents(options)
        )
        queries = pad(geometry.query_dirs.double() * scale, (0, 1), value=1 + LOG_FLOOR)
        keys = pad(geometry.key_dirs.double(), (0, 1), value=1.0)
        keys *= torch.where(geometry.key_trust > 0, factor, 1.0)[:, None]
        (query_part, query_rest), (key_part, key_rest) = (
            _split_rounding(queries * query_scale, column_dtype),
            _split_rounding(keys * key_scale, column_dtype),
        )
        geometry.made[key] = (
            torch.cat((query_part, query_part, query_rest, query_rest), dim=-1),
            pad(
                torch.cat((key_part, key_rest, key_part, key_rest), dim=-1).transpose(1, 2),
                (0, -keys.shape[1] % KEY_BLOCKS, 0, 0, 0, 1),  # a block's second frame may be none
            ).contiguous(),
        )
    return geometry.made[key]


def _weight_factors(options: GgaOptions) -> tuple[float, float]:
    """Look up by guidance mode how strongly the cosine and known geometry change the weight."""
    is_released = options.mode == "released"
    return (options.lambda_g, 1.0) if is_released else (1.0, options.lambda_g)


def _column_exponents(options: GgaOptions) -> tuple[int, int]:
    """Choose powers of two that scale query and key columns into float16's range."""
    scale, factor = _weight_factors(options)
    return math.frexp(max(scale, 1.0))[1], math.frexp(max(factor, 1.0))[1]


def _split_rounding(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    rounded_tensor = x.to(dtype)
    return rounded_tensor, (x - rounded_tensor).to(dtype)


def weight_inputs(
    bias_rows: BiasRows, dtype: torch.dtype
) -> tuple[Tensor, Tensor, tuple[float, float, float], bool]:
    """Prepare the arguments from which a kernel computes the geometric weights.

    These are the columns of queries and keys, then slope and offset below cosine 0 and the
    floor in their unit, and whether there is such a slope.
    """
    options = bias_rows.options
    (scale, factor) = _weight_factors(bias_rows.options)
    column_unit = math.ldexp(1.0, 2 * LARGEST - sum(_column_exponents(options)))
    slope_offset, floor = (
        (1 + LOG_FLOOR) * (1 - 1 / scale) * column_unit,
        LOG_FLOOR * min(factor, 1.0) * column_unit,
    )
    query_columns, key_columns = weight_columns(bias_rows.geometry, options, dtype)
    return query_columns, key_columns, (1 / scale, slope_offset, floor), scale > 1


def kernel_constants(sizes: Sequence[int], dim: int, steep: bool) -> dict[str, int]:
    """Collect the compile-time constants of a kernel.

    ``sizes``: queries, keys, warps, in flight.
    """
    constant_names = "block_queries", "block_keys", "num_warps", "in_flight"
    constant_values = {
        "steep": steep,
        "dim": dim,
        "block_dim": _padded_channels(dim),
        "depth": DEPTH,
    }
    return constant_values | dict(zip(constant_names, sizes, strict=True))


def _padded_channels(dim: int) -> int:
    """Round the number of a head's channels up to a power of two, at least 16."""
    return max(16, 1 << (dim - 1).bit_length())


def guided_product(
    q: Tensor,  # [B, n, heads * d] or, as the whole canvas has them, [B, rows, w_ego, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]; channels of all lie side by side
    heads: int,
    bias_rows: BiasRows,  # for its geometry and options; no row is made
    queries: slice,
    sums: Tensor | None = None,  # float32 [B, heads, frames of these queries, per frame or more]
) -> Tensor:  # as q
    """Compute guided attention of some ego queries in one kernel launch.

    ``sums`` gets the logarithms of the queries' sums, which :mod:`.product_gradient` needs.

    Raises:
        ImportError: no Triton.
    """
    kernel = product_kernel()
    width = bias_rows.geometry.grid[3]
    per_frame = bias_rows.per_frame
    token_count = k.shape[1]
    head_size = q.shape[-1] // heads
    result = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    query_columns, key_columns, weight_limits, steep = weight_inputs(bias_rows, q.dtype)
    *sizes, apart = block_sizes_for(TILES, kernel_table.card_of(q.device), q.dtype, head_size)
    block_queries, block_keys, *_ = sizes
    first_frame = queries.start // per_frame
    last_frame = (queries.stop - 1) // per_frame
    base = first_frame * per_frame
    span = per_frame
    spans = last_frame - first_frame + 1
    frames = 1
    blocks = -(-per_frame // block_queries)
    count = queries.stop - queries.start
    has_waste = blocks * spans * block_queries > JOINED_COST * count
    if has_waste and per_frame >= block_queries and q.dtype != torch.float32:
        base = queries.start
        span = count
        spans = 1
        frames = 2
        blocks = -(-count // block_queries)
    # A second GPU's tensors must not be launched on the first.
    with torch.cuda.device_of(q):
        kernel[(spans * blocks, heads, q.shape[0])](
            q,
            k,
            v,
            result,
            sums,
            query_columns,
            key_columns,
            *_strides(q, width),
            *k.stride()[:2],
            *v.stride()[:2],
            *_strides(result, width),
            queries.start,
            queries.stop,
            width,
            per_frame,
            base,
            span,
            blocks,
            token_count,
            token_count // block_keys * block_keys if apart else 0,
            key_columns.stride(1),
            *((0, 0) if sums is None else (sums.stride(2), sums.stride(1))),
            head_size**-0.5 / math.log(2),
            float(LARGEST),
            *weight_limits,
            apart=apart,
            frames=frames,
            **kernel_constants(sizes, head_size, steep),
        )
    return result


def product_kernel() -> Any:
    """Import the Triton kernel of guided attention.

    Raises:
        ImportError: no Triton.
    """
    from .triton_kernels import guided_product_kernel

    return guided_product_kernel


def block_sizes_for(
    tiles: Mapping, card: kernel_table.Card | None, dtype: torch.dtype, dim: int
) -> tuple[Any, ...]:
    """Look up the block sizes in a table such as :data:`TILES` for a GPU, dtype and head size."""
    card = card or (8, 0)
    sizes_by_card = tiles[dtype != torch.float32, max(64, _padded_channels(dim))]
    return sizes_by_card[max(listed_card for listed_card in sizes_by_card if listed_card <= card)]


def _strides(x: Tensor, width: int) -> tuple[int, int, int]:
    """List the strides of batch, image row and token, also for tensors [B, n, D]."""
    return x.stride(0), x.stride(1) * (width if x.ndim == 3 else 1), x.stride(-2)
