"""Bias rows as one Triton kernel, where Triton is installed; checked against torch when first used.

Several passes over float32 rows become one write in the model's dtype. Only a GPU gains from it;
Triton's interpreter runs it on a CPU for tests (``TRITON_INTERPRET=1``). :func:`self_check` holds
it to :func:`.bias.bias_from_cosine`."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .bias import LOG_FLOOR, bias_from_cosine
from .options import GgaOptions

FusedRows = Callable[[Tensor, Tensor, float, float, Tensor | None, Tensor | None, Tensor], None]
BLOCK_ROWS, BLOCK_KEYS = 16, 128
log = logging.getLogger(__name__)


@functools.cache
def load_kernel() -> FusedRows | None:
    """``run(queries [n, 3], keys [N, 3], scale, factor, gain [N], offset [N], out [n, N])``; None
    without Triton.

    All float32 but ``out``; gain and offset may be None. As :meth:`.rows.BiasRows._bias_block`.
    """
    try:
        import triton

        from .triton_kernels import bias_rows_kernel
    except ImportError:
        return None

    def run(
        queries: Tensor,
        keys: Tensor,
        scale: float,
        factor: float,
        gain: Tensor | None,
        offset: Tensor | None,
        out: Tensor,
    ) -> None:
        rows, tokens = out.shape
        grid = (triton.cdiv(tokens, BLOCK_KEYS), triton.cdiv(rows, BLOCK_ROWS))
        # A second GPU's tensors must not be launched on the first.
        with torch.cuda.device_of(out):
            bias_rows_kernel[grid](
                queries.contiguous(),
                keys.contiguous(),
                keys if gain is None else gain.contiguous(),
                keys if offset is None else offset.contiguous(),
                out,
                rows,
                tokens,
                out.stride(0),
                float(scale),
                float(factor),
                LOG_FLOOR,
                has_gain=gain is not None,
                has_offset=offset is not None,
                block_rows=BLOCK_ROWS,
                block_keys=BLOCK_KEYS,
            )

    return run


@dataclass
class FusedChoice:
    """Choice of the code that makes the rows for one device and dtype: the fused kernel while
    ``run`` is there, else torch."""

    run: FusedRows | None
    words: str  # for people; empty on a CPU, where there is nothing to choose

    def drop(self, error: Exception) -> None:
        """The kernel failed: torch does the work from now on, in this and all later calls."""
        self.run, self.words = (
            None,
            f"torch (Triton failed: {str(error).strip()[:120] or type(error).__name__})",
        )
        log.warning("EgoX: rows of the geometry's bias by %s", self.words)


@functools.cache
def fused_rows(device: torch.device, dtype: torch.dtype) -> FusedChoice:
    """The kernel, if it compiles for this device, stores this dtype and gives torch's numbers;
    remembered."""
    if device.type != "cuda":
        return FusedChoice(None, "")
    try:
        run = load_kernel()
        if run is None:
            return FusedChoice(None, "torch (Triton is not installed)")
        if agrees(*self_check(run, device, dtype)):
            return FusedChoice(run, "Triton")
        words = "torch (Triton gives other numbers on this GPU)"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (a compiler may fail in any way; torch then does the work)
        words = f"torch (Triton does not compile here: {str(error).strip()[:120] or type(error).__name__})"
    log.warning("EgoX: rows of the geometry's bias by %s", words)
    return FusedChoice(None, words)


def agrees(ours: Tensor, torchs: Tensor) -> bool:
    """Check whether biases stand for the same weights, but for the rounding to ``ours``' dtype."""
    weights, expected = ours.double().exp(), torchs.double().exp()
    rounding = torch.finfo(ours.dtype).eps * (
        1 + torchs.double().abs()
    )  # of the bias, and so of log weight
    return bool(((weights - expected).abs() <= 1e-5 + rounding * expected).all())


def self_check(
    run: FusedRows,
    device: torch.device,
    dtype: torch.dtype = torch.float32,  # in which the kernel stores
) -> tuple[Tensor, Tensor]:  # [cases * rows, keys] each, dtype and float32
    """The bias of a few random directions by the kernel and by torch."""
    generator = torch.Generator().manual_seed(0)
    queries, keys = (
        torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1).to(device)
        for n in (BLOCK_ROWS + 3, BLOCK_KEYS + 5)
    )
    cos = (queries[:, None] * keys).sum(-1)
    gain, offset = torch.rand(2, len(keys), generator=generator).to(device)
    ours, torchs = [], []
    for scale, factor, linear in (
        (0.5, 1.0, (None, None)),
        (3.0, 0.25, (None, None)),
        (1.0, 1.0, (gain, offset)),
    ):
        out = torch.empty(len(queries), len(keys) + 3, dtype=dtype, device=device)[:, : len(keys)]
        run(queries, keys, scale, factor, *linear, out)
        ours.append(out)
        # In mode released λ_g is the scale alone; which keys have geometry only matters to the
        # other modes.
        bias = bias_from_cosine(cos, cos > 0, GgaOptions(lambda_g=scale)) + math.log(factor)
        torchs.append(bias if linear[0] is None else bias * gain + offset)
    return torch.cat(ours), torch.cat(torchs)
