"""Kernels for biased attention of some ego queries, behind one signature, and the choice among them.

``run(q [B, n, heads * d], k [B, N, heads * d], v, heads, bias_rows, queries) -> [B, n, heads * d]``, where
``bias_rows(queries)`` gives the bias [n, N] of those ego queries (a slice).

``sdpa`` lets torch pick a kernel; ``cudnn`` and ``efficient`` name one. ``flex`` is torch's FlexAttention: it computes
the bias inside its own kernel, in float32, and never stores it; compiled on a GPU (half a minute at the first call),
elsewhere uncompiled, which is for tests only. ``auto`` compares the device's candidates once with the plain twin on the
tensors at hand, times those that agree, keeps the fastest for that shape, and takes the next where one fails later. A
kernel that is named is run as it is: whoever names one measures it.
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
from torch.utils.checkpoint import checkpoint

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
AGREEMENT = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
FINE_AGREEMENT = 2e-3
"""Of the output's largest value: what a kernel may differ from the twin. Rounding to the type allows it; float32 may be
multiplied as TF32 where the host says so."""
SCORE_BYTES, SCORE_COPIES = 32 * 2**20, 4
"""Working memory of the mathematical form, and so of the comparison: bias, scores, sum and softmax in float32."""
MATH_WORDS = "the mathematical form (slow: no kernel is left)"
_usable_of: dict[tuple, list[str]] = {}


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
    recompute: bool = False,  # for training: hold nothing for backward, run the kernel again there
) -> BiasedAttention:
    """The kernel of this name as it is; with ``auto`` the fastest that gives the twin's numbers, and what follows it.

    Raises:
        EgoXInputError: unknown name.
    """
    if name == "auto":
        return Fallback(_usable(q, k, v, heads, bias_rows), recompute)
    if name not in BACKENDS:
        raise EgoXInputError("attention backend", got=repr(name),
                             expected=f"auto, reference or one of {', '.join(BACKENDS)}", fix="use auto")
    return _recomputed(BACKENDS[name]) if recompute else BACKENDS[name]


class Fallback:
    """Runs the first kernel of a list; one that raises leaves the list for good, and the next takes the same queries.

    Once the list is empty, the mathematical form does the work. Memory that runs out is raised: no kernel's fault.
    """

    def __init__(self, names: list[str], recompute: bool) -> None:
        self.names = names
        # Inside, not around: backward ends a repeated forward by an exception, which is no failure of a kernel.
        self.wrap = _recomputed if recompute else lambda kernel: kernel

    def __call__(self, *args) -> Tensor:  # as any BiasedAttention
        while self.names:
            try:
                return self.wrap(BACKENDS[self.names[0]])(*args)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001  (compilers of kernels raise anything)
                log.warning("EgoX: attention kernel %s failed (%s); %s from here on", self.names[0], error,
                            self.names[1] if len(self.names) > 1 else MATH_WORDS)
                del self.names[0]
        return self.wrap(math_rows)(*args)


def _recomputed(kernel: BiasedAttention) -> BiasedAttention:
    return functools.partial(checkpoint, kernel, use_reentrant=False, preserve_rng_state=False)


def math_rows(
    q: Tensor,  # [B, n, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
    bias_rows: BiasRows,
    queries: slice,
) -> Tensor:  # [B, n, heads * d]
    """Biased attention written out, a few queries of one head at a time: the scores' bytes set how many."""
    step = max(1, SCORE_BYTES // (SCORE_COPIES * 4 * q.shape[0] * k.shape[1]))
    d = q.shape[-1] // heads
    parts = []
    for start in range(0, q.shape[1], step):
        stop = min(start + step, q.shape[1])
        bias = bias_rows(slice(queries.start + start, queries.start + stop))
        parts.append(torch.cat([_softmax_attention(q[:, start:stop, head], k[..., head], v[..., head], bias)
                                for head in (slice(i * d, (i + 1) * d) for i in range(heads))], dim=-1))
    return torch.cat(parts, dim=1)


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:  # [B, n, d], [B, N, d], -, [n, N]
    exact = torch.promote_types(q.dtype, torch.float32)
    scores = (q.to(exact) * q.shape[-1] ** -0.5) @ k.to(exact).transpose(1, 2) + bias
    return (scores.softmax(-1) @ v.to(exact)).to(q.dtype)


def _usable(q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows) -> list[str]:
    """Candidates that agree with the twin on some of the queries, fastest first; remembered by device and shape."""
    device = q.device
    where = torch.cuda.get_device_name(device) if q.is_cuda else device.type
    key = (where, q.dtype, tuple(q.shape), heads, bias_rows.geometry.grid)
    if key not in _usable_of:
        queries = slice(0, min(TIMED_QUERIES, bias_rows.per_frame))
        with torch.no_grad():
            args = (q[:, : queries.stop].detach(), k.detach(), v.detach(), heads, bias_rows, queries)
            twin = _twin(*args)
            names = [name for name in backend_choices(device) if _agrees(name, args, twin)]
        if len(names) > 1:
            times = {name: _seconds(BACKENDS[name], args, device) for name in names}
            names = sorted((name for name in names if times[name] is not None), key=times.get)
        log.info("EgoX: attention by %s", names[0] if names else MATH_WORDS)
        _usable_of[key] = names
    return _usable_of[key]


def _twin(q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice) -> Tensor:
    """The same queries in float32 with torch's own bias rows, which no fused kernel made."""
    rows = BiasRows(bias_rows.geometry, bias_rows.options, torch.float32, reuse=True, fused=False)
    return math_rows(q, k, v, heads, rows, queries)


def _agrees(name: str, args: tuple, twin: Tensor) -> bool:  # [B, n, heads * d]
    """Whether a kernel runs on these tensors and gives the twin's numbers."""
    try:
        error = (BACKENDS[name](*args) - twin).abs().max()
        # Written so that NaN does not agree.
        agrees = bool(error <= AGREEMENT.get(twin.dtype, FINE_AGREEMENT) * twin.abs().max())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (compilers of kernels raise anything)
        log.info("EgoX: attention kernel %s is not available here: %s", name, error)
        return False
    if not agrees:
        log.warning("EgoX: attention kernel %s gives wrong numbers here and is not used", name)
    return agrees


def _seconds(run: BiasedAttention, args: tuple, device: torch.device) -> float | None:
    """Best of a few runs after a warm-up, or None where the kernel doesn't take these tensors."""
    best = None
    try:
        with torch.no_grad():
            for _ in range(1 + TIMED_RUNS):
                _wait(device)
                start = time.perf_counter()
                run(*args)
                _wait(device)
                elapsed = time.perf_counter() - start
                best = elapsed if best is None else min(best, elapsed)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (compilers of kernels raise anything)
        log.info("EgoX: attention kernel refused: %s", error)
        return None
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
