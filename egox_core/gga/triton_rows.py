"""Bias rows as one Triton kernel, where Triton is installed; compared with torch when first used.

Several passes over float32 rows become one write in the model's dtype. Only a GPU gains from it;
Triton's interpreter runs it on a CPU for tests (``TRITON_INTERPRET=1``)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from .bias import LOG_FLOOR
from .kernel_check import short

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
    """Choice of the code that makes the rows for one device and kind of bias: the fused kernel while
    ``run`` is there, else torch."""

    run: FusedRows | None
    words: str  # for people; empty on a CPU, where there is nothing to choose
    right: bool = False  # compared with torch

    def drop(self, error: Exception) -> None:
        """The kernel failed: torch does the work from now on, in this and all later calls."""
        self.run, self.words = None, f"torch (Triton failed: {short(error)})"
        log.warning("EgoX: rows of the geometry's bias by %s", self.words)


@functools.cache
def fused_rows(device: torch.device, *kind: Hashable) -> FusedChoice:
    """The kernel, where it is installed and the device is a GPU; remembered for rows of this kind,
    of which the first are compared with torch's."""
    if device.type != "cuda":
        return FusedChoice(None, "")
    run = load_kernel()
    return FusedChoice(run, "Triton" if run else "torch (Triton is not installed)")


def agrees(ours: Tensor, torchs: Tensor) -> bool:
    """Check whether biases stand for the same weights, but for the rounding to ``ours``' dtype."""
    weights, expected = ours.double().exp(), torchs.double().exp()
    rounding = torch.finfo(ours.dtype).eps * (
        1 + torchs.double().abs()
    )  # of the bias, and so of log weight
    return bool(((weights - expected).abs() <= 1e-5 + rounding * expected).all())
