"""Triton kernels of geometry-guided attention.

The names of Triton stand at module level, where versions before 3.4 look them up. The formula of
:func:`.bias.bias_from_cosine` stands here twice more, because a kernel can't call torch.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_block(pointers, key_in, channel_in, cut: tl.constexpr, padded: tl.constexpr):
    """Load a block of keys or values, masked where it exceeds the tokens (``cut``) or the channels
    (``padded``)."""
    if cut:
        block = tl.load(pointers, mask=key_in[:, None] & channel_in[None, :], other=0.0)
    elif padded:
        block = tl.load(pointers, mask=channel_in[None, :], other=0.0)
    else:
        block = tl.load(pointers)
    return block


@triton.jit
def product_weights(columns, key_columns, slope, above, floor, steep: tl.constexpr):
    """Compute the geometric weights of queries and keys as a matrix product of their columns."""
    weights = tl.dot(columns, key_columns, input_precision="ieee")
    # Above strength 1, which is 1 again below cosine 0, the second line is at least the floor but
    # for the rounding of 22 bits, and that is smaller.
    return tl.maximum(weights, (weights * slope + above) if steep else floor)


@triton.jit
def _add_keys(
    queries,
    columns,
    k,
    v,
    key_columns,
    largest,
    total,
    mixed,
    key_in,
    channel_in,
    score_scale,
    shift,
    slope,
    above,
    floor,
    steep: tl.constexpr,
    cut: tl.constexpr,
    padded: tl.constexpr,
):
    """Add one block of keys to the running maximum, sum and result of the softmax."""
    keys = load_block(k, key_in, channel_in, cut, padded)
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
    weights = product_weights(columns, tl.load(key_columns), slope, above, floor, steep)
    if cut:
        scores = tl.where(key_in[None, :], scores, float("-inf"))
    new_largest = tl.maximum(largest, tl.max(scores, 1) * score_scale + shift)
    shares = tl.exp2(scores * score_scale - new_largest[:, None]) * weights
    old_share = tl.exp2(largest - new_largest)
    values = load_block(v, key_in, channel_in, cut, padded)
    mixed = tl.dot(
        shares.to(values.dtype), values, mixed * old_share[:, None], input_precision="ieee"
    )
    return new_largest, total * old_share + tl.sum(shares, 1), mixed


@triton.jit
def guided_product_kernel(
    q,
    k,
    v,
    out,
    sums,
    query_columns,
    key_columns,
    q_batch,
    q_row,
    q_token,
    k_batch,
    k_token,
    v_batch,
    v_token,
    out_batch,
    out_row,
    out_token,
    start,
    stop,
    width,
    per_frame,
    base,
    span,
    blocks,
    tokens,
    whole,
    columns_stride,
    sums_frame,
    sums_head,
    score_scale,
    shift,
    slope,
    above,
    floor,
    steep: tl.constexpr,
    dim: tl.constexpr,
    block_dim: tl.constexpr,
    block_queries: tl.constexpr,
    block_keys: tl.constexpr,
    depth: tl.constexpr,
    in_flight: tl.constexpr,
    apart: tl.constexpr,
    frames: tl.constexpr,
):
    """Compute guided attention of a block of ego queries, for one head and one sample.

    ``q`` and ``out`` hold queries ``start`` to ``stop`` as ``[B, rows, width, heads * dim]``,
    ``query_columns`` [t, per_frame, depth], ``key_columns`` [t and one, depth, stride]; keys before
    ``whole`` fill their blocks. From ``base`` on, each ``span`` queries are ``blocks`` blocks.
    Scores and ``shift`` are in units of log 2. ``sums``, where given, gets the logarithm of each
    query's sum of shares, apart by ``sums_frame`` and ``sums_head``.
    """
    first_query = base + tl.program_id(0) // blocks * span
    end = tl.minimum(first_query + span, stop)
    first_query += tl.program_id(0) % blocks * block_queries
    query = first_query + tl.arange(0, block_queries)
    row_mask = (query >= start) & (query < end)
    frame, first_frame = query // per_frame, first_query // per_frame
    head, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel, key = tl.arange(0, block_dim), tl.arange(0, block_keys)
    column, channel_mask = tl.arange(0, depth * frames), channel < dim

    query_row, query_column = (query - start) // width, (query - start) % width
    inside = row_mask[:, None] & channel_mask[None, :]
    channel_offsets = head * dim + channel[None, :]
    queries = tl.load(
        q
        + sample * q_batch
        + query_row.to(tl.int64)[:, None] * q_row
        + query_column[:, None] * q_token
        + channel_offsets,
        mask=inside,
        other=0.0,
    )
    # A query's columns meet those of the keys for its own frame; for the block's other they are 0.
    is_own_frame = (frame - first_frame)[:, None] == column[None, :] // depth
    columns = tl.load(
        query_columns + query[:, None] * depth + column[None, :] % depth,
        mask=row_mask[:, None] & is_own_frame,
        other=0.0,
    )
    # Bases move in 64 bit; what is added within a block is small.
    k += sample * k_batch + head * dim
    v += sample * v_batch + head * dim
    key_columns += first_frame.to(tl.int64) * depth * columns_stride
    k_offsets = key[:, None] * k_token + channel[None, :]
    v_offsets = key[:, None] * v_token + channel[None, :]
    column_offsets = column[:, None] * columns_stride + key[None, :]
    # Finite, or a row whose scores are all -inf would have a difference of infinities.
    largest = tl.full([block_queries], -1e30, tl.float32)
    total = tl.zeros([block_queries], tl.float32)
    mixed = tl.zeros([block_queries, block_dim], tl.float32)
    if apart:
        for _ in tl.range(0, whole, block_keys, num_stages=in_flight):
            largest, total, mixed = _add_keys(
                queries,
                columns,
                k + k_offsets,
                v + v_offsets,
                key_columns + column_offsets,
                largest,
                total,
                mixed,
                key,
                channel_mask,
                score_scale,
                shift,
                slope,
                above,
                floor,
                steep,
                False,
                dim < block_dim,
            )
            k += block_keys * k_token
            v += block_keys * v_token
            key_columns += block_keys
    for first in tl.range(whole, tokens, block_keys, num_stages=1 if apart else in_flight):
        key_mask = key < tokens - first
        largest, total, mixed = _add_keys(
            queries,
            columns,
            k + k_offsets,
            v + v_offsets,
            key_columns + column_offsets,
            largest,
            total,
            mixed,
            key_mask,
            channel_mask,
            score_scale,
            shift,
            slope,
            above,
            floor,
            steep,
            True,
            True,
        )
        k += block_keys * k_token
        v += block_keys * v_token
        key_columns += block_keys
    if sums is not None:
        tl.store(
            sums
            + (sample * tl.num_programs(1) + head) * sums_head
            + (frame - start // per_frame) * sums_frame
            + query % per_frame,
            tl.where(total > 0, largest + tl.log2(total), float("inf")),
            mask=row_mask,
        )
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(
        out
        + sample * out_batch
        + query_row.to(tl.int64)[:, None] * out_row
        + query_column[:, None] * out_token
        + channel_offsets,
        mixed.to(out.dtype.element_ty),
        mask=inside,
    )
