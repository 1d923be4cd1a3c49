"""Geometry-guided attention without the L x L map: one function for every host.

Ego queries get a bias towards the exo tokens that lie in their viewing direction (paper 3.2). Exo queries take plain
attention. The bias of a few rows at a time is made from 3-vectors, used and dropped: it costs the memory of a chunk.
Reference twin: :func:`gga_bias.reference_attention`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu_, scaled_dot_product_attention

from .errors import EgoXInputError
from .gga_backends import choose_backend
from .gga_bias import LOG_FLOOR, reference_attention
from .gga_options import GgaOptions
from .types import GgaGeometry

PlainAttention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""plain(q [B, n, heads * d], k [B, N, heads * d], v, heads) -> [B, n, heads * d]: the host's own attention."""

CHUNK_BYTES = 24 * 2**20
"""Working memory of a chunk: the bias rows twice (float32 and the model's dtype), or a group's queries and result. Half
of what is allowed beside plain attention, since an allocator holds on to the previous chunk for a moment."""
ROW_ALIGNMENT = 16
"""GPU kernels copy a mask whose row stride is not a multiple of 8 elements (28,028 isn't); 16 covers every kernel."""


def plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """torch's own attention on merged heads: [B, n, heads * d] each."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def gga_attention(
    q: Tensor,  # [B, tokens, heads * d] normed and rotated, as the host's attention gets them
    k: Tensor,  # [B, tokens, heads * d]
    v: Tensor,  # [B, tokens, heads * d]
    heads: int,
    geometry: GgaGeometry,
    options: GgaOptions,
    *,
    plain: PlainAttention = plain_attention,
    backend: str = "auto",  # auto | reference | sdpa | cudnn | efficient | flex
    chunk_bytes: int = CHUNK_BYTES,
) -> Tensor:  # [B, tokens, heads * d]
    """Self-attention of the whole canvas with the geometric bias on ego queries.

    ``plain`` computes all that carries no bias: everything when the options don't bias (then the result is its own, bit
    for bit), else exo queries and unguided heads. Differentiable in q, k, v. The geometry must be on q's device.

    Raises:
        EgoXInputError: another number of tokens than the geometry's, unknown or unavailable backend.
    """
    first, end = options.head_range(heads)
    if not options.biases or first == end:
        return plain(q, k, v, heads)
    if q.shape[1] != geometry.tokens or k.shape[1] != geometry.tokens:
        raise EgoXInputError("tokens of the attention", got=f"{q.shape[1]} queries and {k.shape[1]} keys",
                             expected=f"{geometry.tokens}, a grid of {geometry.grid}",
                             fix="use the geometry of this canvas: same frames, exo and ego size")
    if backend == "reference":
        return reference_attention(q, k, v, heads, geometry, options)
    if (first, end) != (0, heads):
        return _split_heads(q, k, v, heads, geometry, options, plain, backend, chunk_bytes)

    t, h, w_exo, w_ego = geometry.grid
    keep_graph = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    bias_rows = BiasRows(geometry, options, q.dtype, reuse=not keep_graph)
    grid_q = q.unflatten(1, (t, h, w_exo + w_ego))
    out = torch.empty_like(q)
    grid_out = out.unflatten(1, (t, h, w_exo + w_ego))

    row_bytes = 2 * q.shape[0] * q.shape[2] * q.element_size()
    for frames in _spans(t, chunk_bytes // (row_bytes * h * w_exo)):
        exo = grid_q[:, frames, :, :w_exo]
        grid_out[:, frames, :, :w_exo] = plain(exo.flatten(1, 3), k, v, heads).view(exo.shape)
        del exo

    biased = choose_backend(backend, q, k, v, heads, geometry, options)
    bias_bytes = geometry.tokens * (4 + q.element_size())
    for f in range(t):
        for rows in _spans(h, chunk_bytes // ((bias_bytes + row_bytes) * w_ego)):
            ego = grid_q[:, f, rows, w_exo:]
            tokens = slice(rows.start * w_ego, rows.stop * w_ego)
            grid_out[:, f, rows, w_exo:] = biased(ego.flatten(1, 2), k, v, heads, bias_rows, f, tokens).view(ego.shape)
    return out


class BiasRows:
    """Makes the bias of some ego queries of one frame: [rows, tokens] in the model's dtype.

    The same numbers as :func:`gga_bias.bias_from_cosine`, in place and in float32 until the last step, since the
    logarithm near cosine -1 needs it.
    """

    def __init__(self, geometry: GgaGeometry, options: GgaOptions, dtype: torch.dtype, *, reuse: bool) -> None:
        self.geometry, self.options, self.dtype, self.reuse = geometry, options, dtype, reuse
        self._work: Tensor | None = None
        self._cast: Tensor | None = None
        device = geometry.key_dirs.device
        self._log_lambda = torch.zeros((), device=device)
        if options.mode == "paper":
            self._log_lambda = (geometry.key_trust > 0).float() * math.log(options.lambda_g)
        # Keys without geometry keep their (nearly zero) bias; scaling it by 0 would differ from the twin by 1e-6.
        self._trust = torch.where(geometry.key_trust > 0, geometry.key_trust, torch.ones((), device=device))
        self._scales_trust = options.soft_trust and bool((self._trust < 1).any())

    def __call__(self, frame: int, tokens: slice) -> Tensor:  # [rows, tokens]
        """Valid until the next call when buffers are reused."""
        queries = self.geometry.query_dirs[frame, tokens]
        keys, lambda_g, mode = self.geometry.key_dirs[frame], self.options.lambda_g, self.options.mode
        slope = 1.0
        if mode == "released":
            # max(c, lambda c) for lambda > 1 is a leaky ReLU of lambda c with slope 1 / lambda; the scale goes into q.
            queries = queries * lambda_g
            slope = 1 / lambda_g if lambda_g > 1 else 1.0
        bound = lambda_g if mode == "released" else 1.0
        cos = _outer_product(queries, keys, self._buffer("_work", len(queries), torch.float32)).clamp_(-bound, bound)
        if slope != 1.0:
            leaky_relu_(cos, slope)
        bias = cos.add_(1).add_(LOG_FLOOR).log_()
        if mode == "paper":
            bias.add_(self._log_lambda)
        elif mode == "power":
            bias.mul_(lambda_g)
        if self._scales_trust:
            bias.mul_(self._trust)
        if self.dtype == torch.float32:
            return bias
        return self._buffer("_cast", len(queries), self.dtype).copy_(bias)

    def _buffer(self, name: str, rows: int, dtype: torch.dtype) -> Tensor:
        """[rows, tokens] with an aligned row stride; the same memory each time unless a gradient still needs it."""
        held = getattr(self, name)
        if held is None or not self.reuse or len(held) < rows:
            stride = -(-self.geometry.tokens // ROW_ALIGNMENT) * ROW_ALIGNMENT
            held = torch.empty(rows, stride, dtype=dtype, device=self.geometry.key_dirs.device)
            setattr(self, name, held if self.reuse else None)
        return held[:rows, : self.geometry.tokens]


def _outer_product(queries: Tensor, keys: Tensor, out: Tensor) -> Tensor:  # [n, 3], [N, 3] -> out [n, N]
    # Not a matmul: hosts may allow TF32 there, whose 1e-3 would ruin the logarithm near cosine -1.
    x, y, z = keys.T
    torch.mul(queries[:, :1], x, out=out)
    return out.addcmul_(queries[:, 1:2], y).addcmul_(queries[:, 2:], z)


def _split_heads(q: Tensor, k: Tensor, v: Tensor, heads: int, geometry: GgaGeometry, options: GgaOptions,
                 plain: PlainAttention, backend: str, chunk_bytes: int) -> Tensor:
    first, end = options.head_range(heads)
    d = q.shape[-1] // heads
    inside = replace(options, first_head=0, end_head=None)
    out = torch.empty_like(q)
    for low, high, guided in ((0, first, False), (first, end, True), (end, heads, False)):
        if low == high:
            continue
        part = slice(low * d, high * d)
        q_part, k_part, v_part = (x[..., part].contiguous() for x in (q, k, v))
        out[..., part] = (gga_attention(q_part, k_part, v_part, high - low, geometry, inside, plain=plain,
                                        backend=backend, chunk_bytes=chunk_bytes) if guided
                          else plain(q_part, k_part, v_part, high - low))
    return out


def _spans(count: int, step: int) -> list[slice]:
    step = max(1, min(count, step))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
