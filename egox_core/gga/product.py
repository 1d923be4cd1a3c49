"""Guided attention as one Triton kernel: exp(score + log g) = exp(score) g, and g is a product.

The weight g = 1 + λ cos of query and key is a matrix product of depth 16 on tensor cores, of columns
that are made once for a geometry: directions, and a 1, each in two float16 parts (22 bits; two of
bfloat16 would have 16). There is no logarithm, no row of bias, and the running maximum is that of
the plain scores. The paper's factor for keys with geometry is a factor of their columns. Powers of
two keep columns within float16, and shares below 2^15: of 2^-29 of that they keep all digits.

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
one: those of a frame of 784 queries are filled to seven eighths. In float32 they spill registers."""


def columns(
    geometry: GgaGeometry, options: GgaOptions, dtype: torch.dtype
) -> tuple[Tensor, ...]:  # [t, h * w_ego, 16], [t + 1, 16, tokens and padding]
    """Compute the two parts of all weights, times 2^(2 LARGEST) and less by :func:`_powers`, and
    keep them with the geometry."""
    kind = torch.float32 if dtype == torch.float32 else torch.float16
    key = options.mode, options.lambda_g, kind
    if key not in geometry.made:
        scale, factor = _strengths(options)
        of_query, of_key = (math.ldexp(1.0, LARGEST - power) for power in _powers(options))
        queries = pad(geometry.query_dirs.double() * scale, (0, 1), value=1 + LOG_FLOOR)
        keys = pad(geometry.key_dirs.double(), (0, 1), value=1.0)
        keys *= torch.where(geometry.key_trust > 0, factor, 1.0)[:, None]
        (q, q_rest), (k, k_rest) = _halves(queries * of_query, kind), _halves(keys * of_key, kind)
        geometry.made[key] = (
            torch.cat((q, q, q_rest, q_rest), dim=-1),
            pad(
                torch.cat((k, k_rest, k, k_rest), dim=-1).transpose(1, 2),
                (0, -keys.shape[1] % KEY_BLOCKS, 0, 0, 0, 1),  # a block's second frame may be none
            ).contiguous(),
        )
    return geometry.made[key]


def _strengths(options: GgaOptions) -> tuple[float, float]:
    """Compute the strengths of the cosine, and of keys with geometry."""
    released = options.mode == "released"
    return (options.lambda_g, 1.0) if released else (1.0, options.lambda_g)


def _powers(options: GgaOptions) -> tuple[int, int]:
    """Compute exponents of the largest numbers of a query's and a key's columns, at least 0."""
    scale, factor = _strengths(options)
    return math.frexp(max(scale, 1.0))[1], math.frexp(max(factor, 1.0))[1]


def _halves(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    coarse = x.to(kind)
    return coarse, (x - coarse).to(kind)


def weight_inputs(
    bias_rows: BiasRows, dtype: torch.dtype
) -> tuple[Tensor, Tensor, tuple[float, float, float], bool]:
    """Prepare what a kernel computes the geometry's weights from.

    These are the columns of queries and keys, then slope and offset below cosine 0 and the
    floor in their unit, and whether there is such a slope.
    """
    options, (scale, factor) = bias_rows.options, _strengths(bias_rows.options)
    unit = math.ldexp(1.0, 2 * LARGEST - sum(_powers(options)))
    above, floor = (1 + LOG_FLOOR) * (1 - 1 / scale) * unit, LOG_FLOOR * min(factor, 1.0) * unit
    of_queries, of_keys = columns(bias_rows.geometry, options, dtype)
    return of_queries, of_keys, (1 / scale, above, floor), scale > 1


def constants(sizes: Sequence[int], dim: int, steep: bool) -> dict[str, int]:
    """Name the numbers that a kernel is compiled for.

    ``sizes``: queries, keys, warps, in flight.
    """
    names = "block_queries", "block_keys", "num_warps", "in_flight"
    fixed = {"steep": steep, "dim": dim, "block_dim": _padded(dim), "depth": DEPTH}
    return fixed | dict(zip(names, sizes, strict=True))


def _padded(dim: int) -> int:
    """Round a head's channels up to those of a block."""
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
    """Compute the attention of these ego queries in one launch, within :mod:`.kernel_table`.

    ``sums`` gets the logarithms of the queries' sums, which :mod:`.product_gradient` needs.

    Raises:
        ImportError: no Triton.
    """
    kernel = product_kernel()
    width, per_frame = bias_rows.geometry.grid[3], bias_rows.per_frame
    tokens, dim = k.shape[1], q.shape[-1] // heads
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    of_queries, of_keys, numbers, steep = weight_inputs(bias_rows, q.dtype)
    *sizes, apart = tile(TILES, kernel_table.card_of(q.device), q.dtype, dim)
    block_queries, block_keys, *_ = sizes
    first, last = queries.start // per_frame, (queries.stop - 1) // per_frame
    base, span, spans, frames = first * per_frame, per_frame, last - first + 1, 1
    blocks, count = -(-per_frame // block_queries), queries.stop - queries.start
    waste = blocks * spans * block_queries > JOINED_COST * count
    if waste and per_frame >= block_queries and q.dtype != torch.float32:
        base, span, spans, frames = queries.start, count, 1, 2
        blocks = -(-count // block_queries)
    # A second GPU's tensors must not be launched on the first.
    with torch.cuda.device_of(q):
        kernel[(spans * blocks, heads, q.shape[0])](
            q,
            k,
            v,
            out,
            sums,
            of_queries,
            of_keys,
            *_strides(q, width),
            *k.stride()[:2],
            *v.stride()[:2],
            *_strides(out, width),
            queries.start,
            queries.stop,
            width,
            per_frame,
            base,
            span,
            blocks,
            tokens,
            tokens // block_keys * block_keys if apart else 0,
            of_keys.stride(1),
            *((0, 0) if sums is None else (sums.stride(2), sums.stride(1))),
            dim**-0.5 / math.log(2),
            float(LARGEST),
            *numbers,
            apart=apart,
            frames=frames,
            **constants(sizes, dim, steep),
        )
    return out


def product_kernel() -> Any:
    """Import the kernel itself, for which Triton must be installed.

    Raises:
        ImportError: no Triton.
    """
    from .triton_kernels import guided_product_kernel

    return guided_product_kernel


def tile(
    tiles: Mapping, card: kernel_table.Card | None, dtype: torch.dtype, dim: int
) -> tuple[Any, ...]:
    """Choose a line of :data:`TILES` or its like."""
    card = card or (8, 0)
    of_cards = tiles[dtype != torch.float32, max(64, _padded(dim))]
    return of_cards[max(listed_card for listed_card in of_cards if listed_card <= card)]


def _strides(x: Tensor, width: int) -> tuple[int, int, int]:
    """List the strides of samples, image rows and tokens, of ``[B, n, D]`` too."""
    return x.stride(0), x.stride(1) * (width if x.ndim == 3 else 1), x.stride(-2)
