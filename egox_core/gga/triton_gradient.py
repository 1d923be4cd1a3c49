"""Triton kernels for the gradients of :mod:`.product`.

Shares are made again from scores, weights and the forward's sums. Weights carry no gradient. One
kernel goes over all keys for some queries, one over all queries for some keys, so that each result
is written once, by one program: no atomics, and a run that is repeated is equal to the bit.

Queries come by frame, each padded to ``padded`` rows: ``q`` and ``grad`` [B, count, heads * dim],
``sums`` as the forward left them and ``dots`` (result times gradient) [B, heads, count]. Rows that
pad count nothing, since their sums are infinite. Keys and values are [B, tokens, heads * dim]; none
has gaps.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_kernels import load_block, product_weights


@triton.jit
def query_gradient_kernel(
    q,
    k,
    v,
    grad,
    sums,
    dots,
    q_grad,
    query_columns,
    key_columns,
    padded,
    count,
    blocks,
    tokens,
    columns_stride,
    score_scale,
    slope,
    above,
    floor,
    scale,
    steep: tl.constexpr,
    dim: tl.constexpr,
    block_dim: tl.constexpr,
    block_queries: tl.constexpr,
    block_keys: tl.constexpr,
    depth: tl.constexpr,
    in_flight: tl.constexpr,
):
    """Compute the gradient of a block of ego queries, for one frame, head and sample."""
    frame = tl.program_id(0) // blocks
    row = frame * padded + tl.program_id(0) % blocks * block_queries + tl.arange(0, block_queries)
    head, heads, sample = tl.program_id(1), tl.num_programs(1), tl.program_id(2).to(tl.int64)
    channel, key, column = tl.arange(0, block_dim), tl.arange(0, block_keys), tl.arange(0, depth)
    channel_mask, is_padded = channel < dim, dim < block_dim
    channel_offsets = head * dim + channel[None, :]
    query_offsets = (sample * count + row)[:, None] * (heads * dim) + channel_offsets
    queries = load_block(q + query_offsets, row, channel_mask, False, is_padded)
    grads = load_block(grad + query_offsets, row, channel_mask, False, is_padded)
    row_offset = (sample * heads + head) * count + row
    sum_, dot = tl.load(sums + row_offset)[:, None], tl.load(dots + row_offset)[:, None]
    columns = tl.load(query_columns + row[:, None] * depth + column[None, :])
    k += sample * tokens * heads * dim
    v += sample * tokens * heads * dim
    key_columns += frame.to(tl.int64) * depth * columns_stride
    key_offsets = key[:, None] * (heads * dim) + channel_offsets
    column_offsets = column[:, None] * columns_stride + key[None, :]
    total = tl.zeros([block_queries, block_dim], tl.float32)
    for first in tl.range(0, tokens, block_keys, num_stages=in_flight):
        key_mask = key < tokens - first
        keys = load_block(k + key_offsets, key_mask, channel_mask, True, True)
        values = load_block(v + key_offsets, key_mask, channel_mask, True, True)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
        weights = product_weights(
            columns, tl.load(key_columns + column_offsets), slope, above, floor, steep
        )
        scores = tl.where(key_mask[None, :], scores * score_scale - sum_, float("-inf"))
        change = tl.dot(grads, tl.trans(values), input_precision="ieee") - dot
        change *= tl.exp2(scores) * weights
        total = tl.dot(change.to(keys.dtype), keys, total, input_precision="ieee")
        k += block_keys * heads * dim
        v += block_keys * heads * dim
        key_columns += block_keys
    tl.store(
        q_grad + query_offsets, (total * scale).to(q_grad.dtype.element_ty), channel_mask[None, :]
    )


@triton.jit
def key_gradients_kernel(
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
    padded,
    count,
    blocks,
    tokens,
    columns_stride,
    score_scale,
    slope,
    above,
    floor,
    scale,
    steep: tl.constexpr,
    dim: tl.constexpr,
    block_dim: tl.constexpr,
    block_queries: tl.constexpr,
    block_keys: tl.constexpr,
    depth: tl.constexpr,
    in_flight: tl.constexpr,
):
    """Compute the gradients of a block of keys and values, for one head and one sample.

    The scores are transposed.
    """
    first_key, key = tl.program_id(0).to(tl.int64) * block_keys, tl.arange(0, block_keys)
    head, heads, sample = tl.program_id(1), tl.num_programs(1), tl.program_id(2).to(tl.int64)
    row, channel = tl.arange(0, block_queries), tl.arange(0, block_dim)
    column, channel_mask, is_padded = tl.arange(0, depth), channel < dim, dim < block_dim
    key_mask, channel_offsets = key < tokens - first_key, channel[None, :] + head * dim
    token_offset = (sample * tokens + first_key) * heads * dim
    key_offsets = key[:, None] * (heads * dim) + channel_offsets
    keys = load_block(k + token_offset + key_offsets, key_mask, channel_mask, True, True)
    values = load_block(v + token_offset + key_offsets, key_mask, channel_mask, True, True)
    q += sample * count * heads * dim
    grad += sample * count * heads * dim
    sums += (sample * heads + head) * count
    dots += (sample * heads + head) * count
    row_offsets = row[:, None] * (heads * dim) + channel_offsets
    key_columns += first_key
    key_total = tl.zeros([block_keys, block_dim], tl.float32)
    value_total = tl.zeros([block_keys, block_dim], tl.float32)
    for block in tl.range(0, count // padded * blocks, num_stages=in_flight):
        frame = block // blocks
        first = frame * padded + block % blocks * block_queries
        # In 32 bit, which fits a launch and spills nothing.
        query_offsets = first * heads * dim + row_offsets
        queries = load_block(q + query_offsets, row, channel_mask, False, is_padded)
        grads = load_block(grad + query_offsets, row, channel_mask, False, is_padded)
        sum_, dot = tl.load(sums + first + row)[None, :], tl.load(dots + first + row)[None, :]
        frame_offset = frame.to(tl.int64) * depth * columns_stride
        weights = product_weights(
            tl.load(key_columns + frame_offset + key[:, None] + column[None, :] * columns_stride),
            tl.load(query_columns + (first + row)[None, :] * depth + column[:, None]),
            slope,
            above,
            floor,
            steep,
        )
        scores = tl.dot(keys, tl.trans(queries), input_precision="ieee")
        shares = tl.exp2(scores * score_scale - sum_) * weights
        value_total = tl.dot(shares.to(grads.dtype), grads, value_total, input_precision="ieee")
        change = (tl.dot(values, tl.trans(grads), input_precision="ieee") - dot) * shares
        key_total = tl.dot(change.to(queries.dtype), queries, key_total, input_precision="ieee")
    inside = key_mask[:, None] & channel_mask[None, :]
    tl.store(
        k_grad + token_offset + key_offsets, (key_total * scale).to(k_grad.dtype.element_ty), inside
    )
    tl.store(v_grad + token_offset + key_offsets, value_total.to(v_grad.dtype.element_ty), inside)
