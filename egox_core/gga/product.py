"""Guided attention as one Triton kernel: exp(score + log g) = exp(score) g, and g is a product.

The weight g = 1 + λ cos of query and key is a matrix product of depth 16 on tensor cores, of columns
that are made once for a geometry: directions, and a 1, each in two float16 parts (22 bits; two of
bfloat16 would have 16). There is no logarithm, no row of bias, and the running maximum is that of
the plain scores. The paper's factor for keys with geometry is a factor of their columns. Powers of
two keep columns within float16, and shares below 2^15: of 2^-29 of that they keep all digits.

Inference only. ``TRITON_INTERPRET=1`` runs it on a CPU, for tests.
"""

from __future__ import annotations

import math
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


def columns(
    geometry: GgaGeometry, options: GgaOptions, dtype: torch.dtype
) -> tuple[Tensor, ...]:  # [t, h * w_ego, 16], [t, 16, tokens and padding]
    """The two parts of all weights, times 2^(2 LARGEST) and less by :func:`_powers`; kept with the
    geometry."""
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
                (0, -keys.shape[1] % KEY_BLOCKS),
            ).contiguous(),
        )
    return geometry.made[key]


def _strengths(options: GgaOptions) -> tuple[float, float]:
    """Of the cosine, and of keys with geometry."""
    released = options.mode == "released"
    return (options.lambda_g, 1.0) if released else (1.0, options.lambda_g)


def _powers(options: GgaOptions) -> tuple[int, int]:
    """Exponents of the largest numbers of a query's and a key's columns, at least 0."""
    scale, factor = _strengths(options)
    return math.frexp(max(scale, 1.0))[1], math.frexp(max(factor, 1.0))[1]


def _halves(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    coarse = x.to(kind)
    return coarse, (x - coarse).to(kind)


def guided_product(
    q: Tensor,  # [B, n, heads * d] or, as the whole canvas has them, [B, rows, w_ego, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
    bias_rows: BiasRows,  # for its geometry and options; no row is made
    queries: slice,
) -> Tensor:  # as q
    """Attention of these ego queries, all in one launch; a kernel as in :mod:`.backends`, whose
    table says what it takes.

    Raises:
        ImportError: no Triton.
    """
    kernel = product_kernel()
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    geometry, options, per_frame = bias_rows.geometry, bias_rows.options, bias_rows.per_frame
    width, tokens, dim = geometry.grid[3], k.shape[1], q.shape[-1] // heads
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    of_queries, of_keys = columns(geometry, options, q.dtype)
    (scale, factor), unit = (
        _strengths(options),
        math.ldexp(1.0, 2 * LARGEST - sum(_powers(options))),
    )
    block_dim = max(16, 1 << (dim - 1).bit_length())
    block_queries, block_keys, warps, in_flight, apart = tile(
        kernel_table.card_of(q.device) or (8, 0), q.dtype, block_dim
    )
    first, last = queries.start // per_frame, (queries.stop - 1) // per_frame
    blocks = -(-per_frame // block_queries)
    # A second GPU's tensors must not be launched on the first.
    with torch.cuda.device_of(q):
        kernel[((last - first + 1) * blocks, heads, q.shape[0])](
            q,
            k,
            v,
            out,
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
            first,
            blocks,
            tokens,
            tokens // block_keys * block_keys if apart else 0,
            of_keys.stride(1),
            dim**-0.5 / math.log(2),
            float(LARGEST),
            1 / scale,
            (1 + LOG_FLOOR) * (1 - 1 / scale) * unit,
            LOG_FLOOR * min(factor, 1.0) * unit,
            steep=scale > 1,
            dim=dim,
            block_dim=block_dim,
            block_queries=block_queries,
            block_keys=block_keys,
            depth=DEPTH,
            in_flight=in_flight,
            apart=apart,
            num_warps=warps,
        )
    return out


def product_kernel() -> Any:
    """The kernel itself, which only an installed Triton can import.

    Raises:
        ImportError: no Triton.
    """
    from .triton_kernels import guided_product_kernel

    return guided_product_kernel


def tile(
    card: kernel_table.Card, dtype: torch.dtype, block_dim: int
) -> tuple[int, int, int, int, bool]:
    """A line of :data:`TILES`."""
    tiles = TILES[dtype != torch.float32, max(64, block_dim)]
    return tiles[max(known for known in tiles if known <= card)]


def _strides(x: Tensor, width: int) -> tuple[int, int, int]:
    """Of samples, image rows and tokens, of ``[B, n, D]`` too."""
    return x.stride(0), x.stride(1) * (width if x.ndim == 3 else 1), x.stride(-2)
