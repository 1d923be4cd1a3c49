"""Guided attention as one Triton kernel: bias comes from 3-vectors inside, no row of it is stored.

Inference only. ``TRITON_INTERPRET=1`` runs it on a CPU, for tests.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .bias import LOG_FLOOR
from .rows import BiasRows, linear_part

BLOCK_QUERIES, BLOCK_KEYS, WARPS = 64, 32, 4
"""A frame of the released size is 784 queries, so 6 % of its last block idles; twice as many
queries a block would idle 12 %. 64 keys at once spill registers at head size 128
(``benchmarks/results/triton_cubins.md``)."""
PROVEN_ON: frozenset[tuple[int, int]] = frozenset()
"""Compute capabilities for which ``benchmarks/results`` has a run of it: there ``auto`` tries it.
Elsewhere it must be named, since a wrong address would end the server."""


def guided_flash(
    q: Tensor,  # [B, n, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
    bias_rows: BiasRows,  # for its geometry and options; no row is made
    queries: slice,
) -> Tensor:  # [B, n, heads * d]
    """Attention of these ego queries with the bias computed inside; a kernel as in
    :mod:`.backends`.

    Raises:
        ImportError: no Triton.
        NotImplementedError: gradients are wanted; a type other than float32, bfloat16 and float16.
    """
    from .triton_kernels import guided_flash_kernel, stages

    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        raise NotImplementedError("it has no backward pass")
    if q.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise NotImplementedError(f"it takes no {q.dtype}")
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    geometry, options = bias_rows.geometry, bias_rows.options
    gain, offset = linear_part(geometry, options)
    dim, tokens, per_frame = q.shape[-1] // heads, k.shape[1], bias_rows.per_frame
    first, last = queries.start // per_frame, (queries.stop - 1) // per_frame
    blocks = -(-per_frame // BLOCK_QUERIES)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    query_dirs, key_dirs = geometry.query_dirs.contiguous(), geometry.key_dirs.contiguous()
    major, minor = torch.cuda.get_device_capability(q.device) if q.is_cuda else (0, 0)
    in_flight = stages(10 * major + minor, gain is not None or offset is not None)
    # A second GPU's tensors must not be launched on the first.
    with torch.cuda.device_of(q):
        guided_flash_kernel[((last - first + 1) * blocks, q.shape[0] * heads)](
            q,
            k,
            v,
            out,
            query_dirs,
            key_dirs,
            query_dirs if gain is None else gain,
            query_dirs if offset is None else offset,
            *q.stride()[:2],
            *k.stride()[:2],
            *v.stride()[:2],
            *out.stride()[:2],
            queries.start,
            queries.stop,
            per_frame,
            first,
            blocks,
            heads,
            dim,
            tokens,
            dim**-0.5 / math.log(2),
            bias_rows.scale,
            1 + LOG_FLOOR,
            steep=bias_rows.scale > 1,
            has_gain=gain is not None,
            has_offset=offset is not None,
            block_queries=BLOCK_QUERIES,
            block_keys=BLOCK_KEYS,
            block_dim=max(16, 1 << (dim - 1).bit_length()),
            num_warps=WARPS,
            num_stages=in_flight,
        )
    return out
