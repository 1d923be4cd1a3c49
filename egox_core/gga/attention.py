"""Compute geometry-guided attention without the full tokens x tokens bias matrix, by one function
for every host.

Ego queries get a bias towards the exo tokens that are in their viewing direction (paper 3.2). Exo
queries take plain attention. The bias of a few rows at a time is computed from 3-vectors, used and
dropped: it costs the memory of a chunk. Training does the same with ``recompute``, so backward
holds no L x L map either. Reference twin: :func:`.bias.reference_attention`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..types import GgaGeometry
from .backends import KernelsUsed, choose_backend
from .bias import keeps_graph, reference_attention
from .exo_cache import ego_tokens
from .kernel_check import Choice
from .kernel_table import MEASURED, card_of
from .options import GgaOptions
from .plain import PlainAttention, or_cudnn, plain_attention
from .rows import BiasRows

CHUNK_BYTES = 58 * 2**20
"""Working memory of a chunk: its bias rows and scratch, queries and result of one sample; others'
come beside. It holds a frame of the released size, 784 rows, 44 MB of bfloat16 bias: on a GPU many
rows at once keep all its parts busy."""
CHUNK_QUERIES = 784
"""Ego queries of a chunk at most: enough for every kernel, and the bias of a chunk then grows with
the tokens, not with their square, on the way to the limit above."""
UNGUIDED_BYTES = 192 * 2**20
"""Working memory of a call without bias, for each sample of the batch: its queries and result.
Hosts with a sparse or quantised kernel prepare all keys anew in each call, so the calls are few:
two at 28,028 tokens of the 14B model."""
REFERENCE = Choice(names=["the dense reference"])


def gga_attention(
    # Normed and rotated [B, tokens or ego tokens, heads * d], as the host's attention gets
    # them.
    q: Tensor,
    k: Tensor,  # [B, tokens, heads * d]
    v: Tensor,  # [B, tokens, heads * d]
    heads: int,
    geometry: GgaGeometry,
    options: GgaOptions,
    *,
    plain: PlainAttention = plain_attention,
    # One of auto, steady, reference, sdpa, cudnn, triton.
    backend: str = "auto",
    # Limit of the working memory; None: CHUNK_BYTES guided, UNGUIDED_BYTES unguided.
    chunk_bytes: int | None = None,
    # For training: drops each chunk's bias after forward and computes it again in backward.
    recompute: bool = False,
    # Records what computed the guided part.
    used: KernelsUsed | None = None,
) -> Tensor:  # as q
    """Compute self-attention of the canvas or its ego tokens, with geometric bias on ego queries.

    ``plain`` computes all that carries no bias: everything when the options don't bias (then the
    result is its own, bit for bit), else exo queries. Differentiable in q, k, v. The geometry must
    be on q's device. ``recompute`` changes memory and time of the backward pass, no number.

    Raises:
        EgoXInputError: another number of tokens than the geometry's, unknown backend; one asked for
            by name that doesn't run here or gives wrong numbers.
    """
    if not options.biases:
        return plain(q, k, v, heads)
    used = used or KernelsUsed()
    if plain is plain_attention:
        plain = or_cudnn(plain, used)
    t, h, w_exo, w_ego = geometry.grid
    is_ego_only = q.shape[1] == t * h * w_ego and k.shape[1] == geometry.tokens
    if not is_ego_only:
        check_tokens(q, k, geometry)
    # Both halves are cut by image rows: all frames' rows together, since a row of tokens is exo
    # columns, then ego ones.
    q_rows = q.unflatten(1, (t * h, -1))
    if backend == "reference":
        used.add(REFERENCE)
        if is_ego_only:
            q = torch.cat((q_rows[:, :, :1].expand(-1, -1, w_exo, -1), q_rows), dim=2).flatten(1, 2)
        result = reference_attention(q, k, v, heads, geometry, options)
        return ego_tokens(result, geometry.grid, 1) if is_ego_only else result

    q_ego = q_rows if is_ego_only else q_rows[:, :, w_exo:]
    guided_attention, rows_per_chunk, choice = _guided_attention(
        q_ego, k, v, heads, geometry, options, backend, chunk_bytes, recompute, used
    )

    def exo_half(rows: slice) -> Tensor:  # [B, rows, w_exo, heads * d]
        exo_queries = q_rows[:, rows, :w_exo]
        return plain(exo_queries.flatten(1, 2), k, v, heads).view(exo_queries.shape)

    def ego_half(rows: slice) -> Tensor:  # [B, rows, w_ego, heads * d]
        return guided_attention(q_ego[:, rows], rows)

    ego_spans = _spans(t * h, rows_per_chunk)
    if is_ego_only:
        return torch.cat([ego_half(rows) for rows in ego_spans], dim=1).flatten(1, 2)
    token_bytes = _token_bytes(q)
    plain_bytes = UNGUIDED_BYTES * q.shape[0] if chunk_bytes is None else chunk_bytes
    half_jobs = (
        (exo_half, slice(0, w_exo), _spans(t * h, plain_bytes // (token_bytes * w_exo))),
        (ego_half, slice(w_exo, None), ego_spans),
    )
    if keeps_graph(q, k, v):
        # Joined, not written into one tensor: the backward of each write would copy the whole
        # gradient.
        return torch.cat(
            [
                torch.cat([attend_rows(rows) for rows in spans], dim=1)
                for attend_rows, _, spans in half_jobs
            ],
            dim=2,
        ).flatten(1, 2)
    result = torch.empty_like(q_rows)

    def fill(attend_rows: Callable[[slice], Tensor], columns: slice, spans: list[slice]) -> None:
        for rows in spans:
            result[:, rows, columns] = attend_rows(rows)

    exo_job, ego_job = half_jobs
    if card_of(q.device) not in MEASURED or choice.needs_bias_rows:
        fill(*exo_job)
        fill(*ego_job)
        return result.flatten(1, 2)
    # The last blocks of one kernel leave much of the card idle, which the other's blocks take.
    main_stream = torch.cuda.current_stream(q.device)
    side_stream = _second_stream(q.device)
    side_stream.wait_stream(main_stream)
    try:
        with torch.cuda.stream(side_stream):
            fill(*ego_job)
        fill(*exo_job)
    finally:  # after an error too, others may write over what that stream still reads
        main_stream.wait_stream(side_stream)
    return result.flatten(1, 2)


def _guided_attention(
    q: Tensor,  # [B, t * h, w_ego, heads * d], may be a view
    k: Tensor,
    v: Tensor,
    heads: int,
    geometry: GgaGeometry,
    options: GgaOptions,
    backend: str,
    chunk_bytes: int | None,
    recompute: bool,
    used: KernelsUsed,
) -> tuple[Callable[[Tensor, slice], Tensor], int, Choice]:
    """Build the function that computes guided attention in one call, from the chosen kernels.

    The function attend(queries [B, rows, w_ego, heads * d], image rows) keeps the queries'
    shape. After it come the image rows of a chunk at most, and the kernels.
    """
    keep_graph = keeps_graph(q, k, v)
    w_ego = geometry.grid[3]
    bias_rows = BiasRows(geometry, options, q.dtype, reuse=not keep_graph)
    free_bytes = (CHUNK_BYTES if chunk_bytes is None else chunk_bytes) - bias_rows.scratch_bytes
    row_bytes = _token_bytes(q[:1]) + bias_rows.bytes_a_row
    rows_per_chunk = max(1, min(CHUNK_QUERIES, free_bytes // row_bytes) // w_ego)
    recompute = recompute and keep_graph
    biased_attention, choice = choose_backend(backend, q, k, v, heads, bias_rows, recompute, used)
    if chunk_bytes is None and not choice.needs_bias_rows:
        rows_per_chunk = (
            UNGUIDED_BYTES * q.shape[0] // (_token_bytes(q) // 2) // w_ego
        )  # queries as they lie

    def attend(queries: Tensor, rows: slice) -> Tensor:
        return biased_attention(
            queries, k, v, heads, bias_rows, slice(rows.start * w_ego, rows.stop * w_ego)
        )

    return attend, rows_per_chunk, choice


@functools.cache
def _second_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a device's second CUDA stream, created once and then reused.

    Each stream reserves memory of its own."""
    return torch.cuda.Stream(device)


def _token_bytes(q: Tensor) -> int:
    """Count the bytes that the query and the attention result of one token take."""
    return 2 * q.shape[0] * q.shape[-1] * q.element_size()


def check_tokens(
    q: Tensor,  # [B, tokens, heads * d]
    k: Tensor,  # [B, tokens, heads * d]
    geometry: GgaGeometry,
) -> None:
    """Refuse a geometry whose number of tokens differs from that of the queries and keys.

    Raises:
        EgoXInputError: another number of tokens than the geometry's.
    """
    if q.shape[1] != geometry.tokens or k.shape[1] != geometry.tokens:
        raise EgoXInputError(
            "tokens of the attention",
            got=f"{q.shape[1]} queries and {k.shape[1]} keys",
            expected=f"{geometry.tokens}, a grid of {geometry.grid}",
            fix="use the geometry of this canvas: same frames, exo and ego size",
        )


def _spans(count: int, step: int) -> list[slice]:
    step = max(1, min(count, step))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
