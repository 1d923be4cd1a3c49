"""Kernels for biased attention of some ego queries, behind one signature, and the choice among them.

``run(q [B, n, heads * d], k [B, N, heads * d], v, heads, bias_rows, queries) -> [B, n, heads * d]``, where
``bias_rows(queries)`` gives the bias [n, N] of those ego queries (a slice).

``sdpa`` lets torch pick a kernel; ``cudnn`` and ``efficient`` name one. ``flex`` is torch's FlexAttention: it computes
the bias inside its own kernel, in float32, and never stores it; compiled on a GPU (half a minute at the first call),
elsewhere uncompiled, which is for tests only. ``auto`` is ``sdpa`` on a CPU; on a GPU the candidates that run are timed
once on the tensors at hand, and the fastest is kept for that shape.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ..errors import EgoXInputError
from .bias import bias_from_cosine
from .rows import BiasRows

BiasedAttention = Callable[..., Tensor]
log = logging.getLogger(__name__)


def flex_rows(
    q: Tensor,  # [B, n, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
    bias_rows: BiasRows,
    queries: slice,
) -> Tensor:  # [B, n, heads * d]
    """Biased attention of these ego queries by FlexAttention.

    Raises:
        ImportError: this torch has no FlexAttention.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    attention = _flex_attention(q.device.type == "cuda")
    return attention(q, k, v, score_mod=score_mod(bias_rows, queries)).transpose(1, 2).flatten(2)


def score_mod(bias_rows: BiasRows, queries: slice) -> Callable[..., Tensor]:
    """The function that FlexAttention calls for a score, with the directions bound to it."""
    geometry, options = bias_rows.geometry, bias_rows.options
    directions, keys = geometry.query_dirs.flatten(0, 1)[queries], geometry.key_dirs
    per_frame, first = bias_rows.per_frame, queries.start
    has_geometry = geometry.key_trust > 0
    trust = geometry.key_trust if options.soft_trust and not geometry.all_or_nothing else None

    def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        frame = (query + first) // per_frame
        cos = (directions[query, 0] * keys[frame, key, 0] + directions[query, 1] * keys[frame, key, 1]
               + directions[query, 2] * keys[frame, key, 2])
        return score + bias_from_cosine(cos, has_geometry[key], options, None if trust is None else trust[key])

    return biased


@functools.cache
def _flex_attention(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention


def _sdpa(q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice) -> Tensor:
    bias = bias_rows(queries)[None, None]
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


def _with_kernel(kernel: SDPBackend) -> BiasedAttention:
    def run(*args) -> Tensor:
        with sdpa_kernel(kernel):
            return _sdpa(*args)

    return run


BACKENDS: Mapping[str, BiasedAttention] = {
    "sdpa": _sdpa,
    "cudnn": _with_kernel(SDPBackend.CUDNN_ATTENTION),
    "efficient": _with_kernel(SDPBackend.EFFICIENT_ATTENTION),
    "flex": flex_rows,
}

GPU_CANDIDATES = ("cudnn", "efficient")
"""What ``auto`` times on a GPU. ``flex`` is by name only: compiling it would hold up every first run."""
TIMED_RUNS = 3
TIMED_QUERIES = 512  # as many rows as a chunk has at the released size; their bias is 29 MB
_fastest_of: dict[tuple, str] = {}


def backend_choices(device: torch.device) -> tuple[str, ...]:
    """Names that make sense on this device; whether a kernel takes the tensors at hand shows when it is called."""
    return GPU_CANDIDATES if device.type == "cuda" else ("sdpa",)


def choose_backend(
    name: str,
    q: Tensor,  # [B, n, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
    bias_rows: BiasRows,
) -> BiasedAttention:
    """The kernel of this name, or with ``auto`` the fastest that runs here.

    Raises:
        EgoXInputError: unknown name.
    """
    if name == "auto":
        name = _fastest(q, k, v, heads, bias_rows) if q.is_cuda else "sdpa"
    if name not in BACKENDS:
        raise EgoXInputError("attention backend", got=repr(name),
                             expected=f"auto, reference or one of {', '.join(BACKENDS)}", fix="use auto")
    return BACKENDS[name]


def _fastest(q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows) -> str:
    """Times the GPU candidates on some of the queries; remembered by device and shape."""
    key = (torch.cuda.get_device_name(q.device), q.dtype, tuple(q.shape), heads, bias_rows.geometry.grid)
    if key not in _fastest_of:
        queries = slice(0, min(TIMED_QUERIES, bias_rows.per_frame))
        args = (q[:, : queries.stop].detach(), k.detach(), v.detach(), heads, bias_rows, queries)
        times = {name: _seconds(BACKENDS[name], args, q.device) for name in backend_choices(q.device)}
        times = {name: seconds for name, seconds in times.items() if seconds is not None}
        _fastest_of[key] = min(times, key=times.get) if times else "sdpa"
        log.info("EgoX: attention backend %s of %s", _fastest_of[key],
                 {n: f"{s * 1e3:.2f} ms" for n, s in times.items()})
    return _fastest_of[key]


def _seconds(run: BiasedAttention, args: tuple, device: torch.device) -> float | None:
    """Best of a few runs after a warm-up, or None where the kernel doesn't take these tensors."""
    best = None
    try:
        with torch.no_grad():
            for _ in range(1 + TIMED_RUNS):
                torch.cuda.synchronize(device)
                start = time.perf_counter()
                run(*args)
                torch.cuda.synchronize(device)
                elapsed = time.perf_counter() - start
                best = elapsed if best is None else min(best, elapsed)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        log.debug("EgoX: attention kernel refused: %s", error)
        return None
    return best
