"""Triton kernels of guided attention; imported only where Triton is.

The names of Triton stand at module level, where versions before 3.4 look them up. The formula of
:func:`.bias.bias_from_cosine` stands here twice more, because a kernel can't call torch.
"""

from __future__ import annotations

import triton
import triton.language as tl


def stages(card: int, linear: bool) -> int:
    """Blocks of keys that :func:`guided_flash_kernel` has on their way at once: two, but one where
    an older Triton would spill registers.

    ``card``: compute capability, 120 is 12.0; ``linear``: there is a gain or an offset.
    """
    version = tuple(map(int, triton.__version__.split(".")[:2]))
    return 1 if version < ((3, 5) if card >= 120 else (3, 2) if linear else (0, 0)) else 2


@triton.jit
def bias_rows_kernel(
    queries,
    keys,
    gain,
    offset,
    out,
    rows,
    tokens,
    row_stride,
    scale,
    factor,
    floor,
    has_gain: tl.constexpr,
    has_offset: tl.constexpr,
    block_rows: tl.constexpr,
    block_keys: tl.constexpr,
):
    """Rows of bias of one frame's queries, each written once in the type of ``out``."""
    row = tl.program_id(1) * block_rows + tl.arange(0, block_rows)
    key = tl.program_id(0) * block_keys + tl.arange(0, block_keys)
    row_in, key_in = row < rows, key < tokens
    qx = tl.load(queries + row * 3, mask=row_in, other=0.0)
    qy = tl.load(queries + row * 3 + 1, mask=row_in, other=0.0)
    qz = tl.load(queries + row * 3 + 2, mask=row_in, other=0.0)
    kx = tl.load(keys + key * 3, mask=key_in, other=0.0)
    ky = tl.load(keys + key * 3 + 1, mask=key_in, other=0.0)
    kz = tl.load(keys + key * 3 + 2, mask=key_in, other=0.0)
    cos = qx[:, None] * kx[None, :] + qy[:, None] * ky[None, :] + qz[:, None] * kz[None, :]
    scaled = cos * scale
    if scale > 1.0:
        scaled = tl.where(cos > 0, scaled, cos)
    bias = tl.log(((scaled + 1.0) + floor) * factor)
    if has_gain:
        bias = bias * tl.load(gain + key, mask=key_in, other=0.0)[None, :]
    if has_offset:
        bias = bias + tl.load(offset + key, mask=key_in, other=0.0)[None, :]
    place = out + row.to(tl.int64)[:, None] * row_stride + key[None, :]
    tl.store(place, bias.to(out.dtype.element_ty), mask=row_in[:, None] & key_in[None, :])


@triton.jit
def guided_flash_kernel(
    q,
    k,
    v,
    out,
    query_dirs,
    key_dirs,
    gain,
    offset,
    q_batch,
    q_token,
    k_batch,
    k_token,
    v_batch,
    v_token,
    out_batch,
    out_token,
    start,
    stop,
    per_frame,
    first_frame,
    blocks,
    heads,
    dim,
    tokens,
    score_scale,
    scale,
    one,
    steep: tl.constexpr,
    has_gain: tl.constexpr,
    has_offset: tl.constexpr,
    block_queries: tl.constexpr,
    block_keys: tl.constexpr,
    block_dim: tl.constexpr,
):
    """Attention of a block of one frame's ego queries and one head over all keys, with its bias.

    ``q``, ``out`` hold queries ``start`` to ``stop`` as ``[B, n, heads * dim]``. Scores and bias
    are in units of log 2. Keys past the end have a weight of log2(0).
    """
    log2_e: tl.constexpr = 1.4426950408889634
    frame = first_frame + tl.program_id(0) // blocks
    row = tl.program_id(0) % blocks * block_queries + tl.arange(0, block_queries)
    query = frame * per_frame + row
    row_in = (row < per_frame) & (query >= start) & (query < stop)
    head, sample = tl.program_id(1) % heads, (tl.program_id(1) // heads).to(tl.int64)
    channel = tl.arange(0, block_dim)
    channel_in = channel < dim
    key = tl.arange(0, block_keys)

    place = (query - start).to(tl.int64)[:, None]
    column = head * dim + channel[None, :]
    inside = row_in[:, None] & channel_in[None, :]
    queries = tl.load(q + sample * q_batch + place * q_token + column, mask=inside, other=0.0)
    dirs = query_dirs + query * 3
    qx = tl.load(dirs, mask=row_in, other=0.0)[:, None] * scale
    qy = tl.load(dirs + 1, mask=row_in, other=0.0)[:, None] * scale
    qz = tl.load(dirs + 2, mask=row_in, other=0.0)[:, None] * scale

    # Bases move in 64 bit; what is added within a block is small.
    k_base = k + sample * k_batch + head * dim
    v_base = v + sample * v_batch + head * dim
    key_dirs += frame.to(tl.int64) * tokens * 3
    largest = tl.full([block_queries], float("-inf"), tl.float32)
    total = tl.zeros([block_queries], tl.float32)
    mixed = tl.zeros([block_queries, block_dim], tl.float32)
    for first in range(0, tokens, block_keys):
        key_in = key < tokens - first
        keys = tl.load(
            k_base + key[None, :] * k_token + channel[:, None],
            mask=key_in[None, :] & channel_in[:, None],
            other=0.0,
        )
        scores = tl.dot(queries, keys, input_precision="ieee") * score_scale
        kx = tl.load(key_dirs + key * 3, mask=key_in, other=0.0)[None, :]
        ky = tl.load(key_dirs + key * 3 + 1, mask=key_in, other=0.0)[None, :]
        kz = tl.load(key_dirs + key * 3 + 2, mask=key_in, other=0.0)[None, :]
        ones = tl.where(key_in, one, 0.0)[None, :]
        weight = qx * kx + (qy * ky + (qz * kz + ones))
        if steep:  # below cosine 0 the strength is 1 again
            weight = tl.maximum(weight, weight * (1.0 / scale) + ones * (1.0 - 1.0 / scale))
        bias = tl.log2(weight)
        if has_gain:
            bias *= tl.load(gain + first + key, mask=key_in, other=1.0)[None, :]
        if has_offset:
            bias += tl.load(offset + first + key, mask=key_in, other=0.0)[None, :] * log2_e
        scores += bias
        new = tl.maximum(largest, tl.max(scores, 1))
        shares = tl.exp2(scores - new[:, None])
        kept = tl.exp2(largest - new)
        total = total * kept + tl.sum(shares, 1)
        values = tl.load(
            v_base + key[:, None] * v_token + channel[None, :],
            mask=key_in[:, None] & channel_in[None, :],
            other=0.0,
        )
        mixed = tl.dot(
            shares.to(values.dtype), values, mixed * kept[:, None], input_precision="ieee"
        )
        largest = new
        k_base += block_keys * k_token
        v_base += block_keys * v_token
        key_dirs += block_keys * 3
    mixed = mixed / total[:, None]
    tl.store(
        out + sample * out_batch + place * out_token + column,
        mixed.to(out.dtype.element_ty),
        mask=inside,
    )
