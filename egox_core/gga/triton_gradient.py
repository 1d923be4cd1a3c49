"""Triton kernels of the backward pass of :mod:`.product`; imported only where Triton is.

Shares are made again from scores, weights and the forward's sums. Weights carry no gradient. One
kernel goes over all keys for some queries, one over all queries for some keys, so that each result
is written once, by one program: no atomics, and a run that is repeated is equal to the bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_kernels import product_weights


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
    k_batch,
    k_token,
    v_batch,
    v_token,
    start,
    stop,
    per_frame,
    first_frame,
    blocks,
    tokens,
    columns_stride,
    sums_frame,
    sums_head,
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
    """Gradient of a block of one frame's ego queries, one head and one sample.

    ``q``, ``grad`` and ``q_grad`` hold queries ``start`` to ``stop`` as [B, n, heads * dim] without
    gaps. ``sums`` are as the forward left them, ``dots`` alike: result times gradient.
    """
    frame = first_frame + tl.program_id(0) // blocks
    row = tl.program_id(0) % blocks * block_queries + tl.arange(0, block_queries)
    query = frame * per_frame + row
    row_in = (row < per_frame) & (query >= start) & (query < stop)
    head, heads, sample = tl.program_id(1), tl.num_programs(1), tl.program_id(2).to(tl.int64)
    channel, key, column = tl.arange(0, block_dim), tl.arange(0, block_keys), tl.arange(0, depth)
    channel_in = channel < dim
    inside = row_in[:, None] & channel_in[None, :]

    line = sample * (stop - start) + query - start
    here = line[:, None] * (heads * dim) + head * dim + channel[None, :]
    of_row = (sample * heads + head) * sums_head + (frame - first_frame) * sums_frame + row
    queries = tl.load(q + here, mask=inside, other=0.0)
    grads = tl.load(grad + here, mask=inside, other=0.0)
    dot = tl.load(dots + of_row, mask=row_in, other=0.0)
    sum_ = tl.load(sums + of_row, mask=row_in, other=float("inf"))
    columns = tl.load(
        query_columns + query[:, None] * depth + column[None, :], mask=row_in[:, None], other=0.0
    )
    k += sample * k_batch + head * dim
    v += sample * v_batch + head * dim
    key_columns += frame.to(tl.int64) * depth * columns_stride
    of_k = key[:, None] * k_token + channel[None, :]
    of_v = key[:, None] * v_token + channel[None, :]
    of_columns = column[:, None] * columns_stride + key[None, :]
    total = tl.zeros([block_queries, block_dim], tl.float32)
    for first in tl.range(0, tokens, block_keys, num_stages=in_flight):
        key_in = key < tokens - first
        cut = key_in[:, None] & channel_in[None, :]
        keys = tl.load(k + of_k, mask=cut, other=0.0)
        values = tl.load(v + of_v, mask=cut, other=0.0)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
        weights = product_weights(
            columns, tl.load(key_columns + of_columns), slope, above, floor, steep
        )
        scores = tl.where(key_in[None, :], scores * score_scale - sum_[:, None], float("-inf"))
        change = tl.dot(grads, tl.trans(values), input_precision="ieee") - dot[:, None]
        change *= tl.exp2(scores) * weights
        total = tl.dot(change.to(keys.dtype), keys, total, input_precision="ieee")
        k += block_keys * k_token
        v += block_keys * v_token
        key_columns += block_keys
    tl.store(q_grad + here, (total * scale).to(q_grad.dtype.element_ty), mask=inside)


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
    k_batch,
    k_token,
    v_batch,
    v_token,
    start,
    stop,
    per_frame,
    first_frame,
    blocks,
    all_blocks,
    tokens,
    columns_stride,
    sums_frame,
    sums_head,
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
    """Gradients of a block of keys and values, one head and one sample; scores are transposed.

    ``k_grad`` and ``v_grad`` are [B, tokens, heads * dim] without gaps, others as before. What is
    read past a frame's end counts nothing: its ``sums`` are infinite.
    """
    first_key, key = tl.program_id(0) * block_keys, tl.arange(0, block_keys)
    head, heads, sample = tl.program_id(1), tl.num_programs(1), tl.program_id(2).to(tl.int64)
    row, channel = tl.arange(0, block_queries), tl.arange(0, block_dim)
    column, channel_in = tl.arange(0, depth), channel < dim
    inside = (key < tokens - first_key)[:, None] & channel_in[None, :]
    k += sample * k_batch + first_key.to(tl.int64) * k_token + head * dim
    v += sample * v_batch + first_key.to(tl.int64) * v_token + head * dim
    keys = tl.load(k + key[:, None] * k_token + channel[None, :], inside, 0.0)
    values = tl.load(v + key[:, None] * v_token + channel[None, :], inside, 0.0)
    across = channel[None, :] + head * dim
    q += sample * (stop - start) * heads * dim
    grad += sample * (stop - start) * heads * dim
    sums += (sample * heads + head) * sums_head
    dots += (sample * heads + head) * sums_head
    of_queries = row[:, None] * (heads * dim) + across
    of_columns = first_key + key[:, None] + column[None, :] * columns_stride
    key_total = tl.zeros([block_keys, block_dim], tl.float32)
    value_total = tl.zeros([block_keys, block_dim], tl.float32)
    for block in tl.range(0, all_blocks, num_stages=in_flight):
        frame, first = block // blocks, block % blocks * block_queries
        query = (first_frame + frame) * per_frame + first
        row_in = (row >= start - query) & (row < stop - query)
        cut = row_in[:, None] & channel_in[None, :]
        line = (query - start).to(tl.int64) * heads * dim
        queries = tl.load(q + line + of_queries, mask=cut, other=0.0)
        grads = tl.load(grad + line + of_queries, mask=cut, other=0.0)
        sum_ = tl.load(sums + frame * sums_frame + first + row)
        dot = tl.load(dots + frame * sums_frame + first + row)
        columns = tl.load(
            query_columns + (query + row)[None, :] * depth + column[:, None],
            mask=row_in[None, :],
            other=0.0,
        )
        of_frame = (first_frame + frame).to(tl.int64) * depth * columns_stride
        weights = product_weights(
            tl.load(key_columns + of_frame + of_columns), columns, slope, above, floor, steep
        )
        scores = tl.dot(keys, tl.trans(queries), input_precision="ieee")
        shares = tl.exp2(scores * score_scale - sum_[None, :]) * weights
        value_total = tl.dot(shares.to(grads.dtype), grads, value_total, input_precision="ieee")
        change = tl.dot(values, tl.trans(grads), input_precision="ieee") - dot[None, :]
        change *= shares
        key_total = tl.dot(change.to(queries.dtype), queries, key_total, input_precision="ieee")
    line = (sample * tokens + first_key) * heads * dim
    here = line + key[:, None] * (heads * dim) + across
    tl.store(k_grad + here, (key_total * scale).to(k_grad.dtype.element_ty), mask=inside)
    tl.store(v_grad + here, value_total.to(v_grad.dtype.element_ty), mask=inside)
