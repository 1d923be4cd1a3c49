"""Compute rows of the attention bias on demand, a few at a time and in place."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu_

from ..types import GgaGeometry
from .bias import LOG_FLOOR
from .options import GgaOptions

ROW_ALIGNMENT = 16
"""GPU kernels copy a mask whose row stride is not a multiple of 8 elements (28,028 isn't); 16
covers every kernel."""
WORK_BYTES = {"cpu": 2**22, "cuda": 2**24}
"""Float32 scratch of a block: small enough for a cache over all passes (CPU: L3, CUDA: L2), large
enough for the start of each not to count. Smaller blocks on a CPU gain nothing and make threads of
a busy machine wait for each other."""


class BiasRows:
    """Attention bias of consecutive ego queries, computed when called.

    [rows, tokens] in the model's dtype, float32 until the last step.

    The cosine's clamp to -1...1 is left out: no direction is longer than 1, and the 1e-7 that
    rounding adds to the product leaves 1 + cos + 1e-6 above zero. An instance is cheap and doesn't
    wait for a GPU; each attention call has its own.

    In half precision all of a row is shifted so that the largest bias is about 0, where such
    numbers are finest; the softmax doesn't see it.

    Ego queries are counted over all frames: query = (frame * h + row) * w_ego + column.
    """

    def __init__(
        self,
        geometry: GgaGeometry,
        options: GgaOptions,
        dtype: torch.dtype,
        *,
        # One buffer is used for all calls; False while a gradient graph keeps the results.
        reuse: bool,
    ) -> None:
        self.geometry, self.options, self.dtype, self.reuse = geometry, options, dtype, reuse
        _, h, _, w_ego = geometry.grid
        self.per_frame = h * w_ego
        device = geometry.key_dirs.device
        self._buffer: Tensor | None = None
        self._work_rows = max(1, WORK_BYTES.get(device.type, 2**24) // (4 * geometry.tokens))
        self.scale = options.lambda_g if options.mode == "released" else 1.0
        self.shift = _largest_bias(options, dtype)
        # What is left after the logarithm is linear in it, key by key: gain * log + offset; None
        # where trivial.
        self.gain, self.offset = linear_part(geometry, options)
        # A shift of the logarithm itself is a factor inside it and costs nothing; of a scaled one
        # it joins the offset.
        self.factor = math.exp(-self.shift) if self.gain is None else 1.0
        if self.gain is not None and self.shift:
            self.offset = (0 if self.offset is None else self.offset) - torch.full_like(
                self.gain, self.shift
            )

    @property
    def bytes_a_row(self) -> int:
        """Bytes of one bias row."""
        in_place = self.dtype == torch.float32
        return self.geometry.tokens * (4 if in_place else torch.finfo(self.dtype).bits // 8)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the scratch memory that rows are computed in, 0 for float32."""
        in_place = self.dtype == torch.float32
        return 0 if in_place else 4 * self._work_rows * self.geometry.tokens

    def __call__(self, queries: slice) -> Tensor:  # [rows, tokens]
        """Compute the bias of these ego queries, valid until a next call reuses the buffer."""
        bias_buffer = self._rows(queries.stop - queries.start)
        start = queries.start
        while start < queries.stop:
            frame, first_query = divmod(start, self.per_frame)
            stop = min(queries.stop, start + self.per_frame - first_query)
            self._fill_frame(
                bias_buffer[start - queries.start : stop - queries.start],
                frame,
                slice(first_query, first_query + stop - start),
            )
            start = stop
        return bias_buffer

    def _fill_frame(self, bias: Tensor, frame: int, rows: slice) -> None:
        queries = self.geometry.query_dirs[frame, rows]
        keys = self.geometry.key_dirs[frame]
        scratch = None
        for start in range(0, len(bias), self._work_rows):
            block = bias[start : start + self._work_rows]
            if self.dtype == torch.float32:
                self._bias_block(queries[start : start + len(block)], keys, block)
                continue
            if scratch is None:
                scratch = torch.empty(
                    min(self._work_rows, len(bias)), keys.shape[0], device=keys.device
                )
            self._bias_block(queries[start : start + len(block)], keys, scratch[: len(block)])
            block.copy_(scratch[: len(block)])

    def _bias_block(
        self, queries: Tensor, keys: Tensor, bias: Tensor
    ) -> None:  # [n, 3], [N, 3], float32 [n, N]
        queries = queries * (self.scale * self.factor)
        (x, y, z) = keys.T
        # Not a matmul: hosts may allow TF32 there, whose 1e-3 would ruin the logarithm near cosine
        # -1.
        torch.mul(queries[:, :1], x, out=bias)
        bias.addcmul_(queries[:, 1:2], y).addcmul_(queries[:, 2:], z)
        if self.scale > 1:
            # max(c, scale c), which scales only positive cosines, is a leaky ReLU of scale c with
            # slope 1 / scale.
            leaky_relu_(bias, 1 / self.scale)
        bias.add_((1 + LOG_FLOOR) * self.factor).log_()
        if self.gain is not None:
            bias.mul_(self.gain)
        if self.offset is not None:
            bias.add_(self.offset)

    def _rows(self, rows: int) -> Tensor:
        """Return a buffer [rows, tokens] whose row stride is aligned for GPU kernels."""
        buffer = self._buffer
        if buffer is None or len(buffer) < rows:
            stride = -(-self.geometry.tokens // ROW_ALIGNMENT) * ROW_ALIGNMENT
            buffer = torch.empty(
                rows, stride, dtype=self.dtype, device=self.geometry.key_dirs.device
            )
            self._buffer = buffer if self.reuse else None
        return buffer[:rows, : self.geometry.tokens]


def _largest_bias(options: GgaOptions, dtype: torch.dtype) -> float:
    """Compute the largest possible bias, rounded to ``dtype``, which is subtracted from all rows.

    0 in float32 and better, where rows are the bias itself.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return 0.0
    largest = {
        "released": math.log(1 + options.lambda_g),
        "power": options.lambda_g * math.log(2),
        "paper": max(0.0, math.log(2 * max(options.lambda_g, 1e-6))),
    }[options.mode]
    return float(torch.tensor(largest).to(dtype))


def linear_part(geometry: GgaGeometry, options: GgaOptions) -> tuple[Tensor | None, Tensor | None]:
    """Convert each key's bias to a factor and an offset per token.

    Both are [tokens] and apply to the logarithmic bias, None for 1 and 0.

    Mode power's strength and trust multiply, mode paper's log lambda_g adds.

    Keys without geometry are not scaled by their trust of 0: their bias is nearly 0 as it is, and
    the twin keeps it."""
    has_geometry = geometry.key_trust > 0
    gain = offset = None
    if options.mode == "power":
        gain = torch.full_like(geometry.key_trust, options.lambda_g)
    elif options.mode == "paper":
        offset = has_geometry * math.log(options.lambda_g)
    if options.soft_trust and not geometry.all_or_nothing:
        trust = torch.where(has_geometry, geometry.key_trust, torch.ones_like(geometry.key_trust))
        gain = trust if gain is None else gain * trust
        offset = None if offset is None else offset * trust
    return gain, offset
