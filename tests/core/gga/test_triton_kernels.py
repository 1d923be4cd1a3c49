"""Both Triton kernels: numbers in the interpreter, what proves them, refusals.

    TRITON_INTERPRET=1 python -m tests.core.gga.test_triton_kernels     the numbers alone

The interpreter is chosen when Triton is imported, so the numbers have a process of their own.
Errors are in units of a head's largest value, the twin is float64; odd sizes, strides, empty heads,
all modes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import normalize

from egox_core.gga import backends, flash
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.bias import reference_attention
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.options import GgaOptions
from egox_core.gga.rows import BiasRows
from egox_core.gga.triton_rows import agrees, load_kernel, self_check
from egox_core.safe_files import read_json
from tests.paths import ROOT
from tests.refusals import refuses

LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Of a head's largest value."""
MODES = [("released", x) for x in (0.5, 1.0, 3.0, 1000.0)] + [
    ("paper", 0.5),
    ("paper", 1000.0),
    ("power", 0.5),
    ("power", 20.0),
]
SHAPES = [  # t, h, w_exo, w_ego in tokens; heads, dim of a head; samples
    ((2, 3, 5, 3), 2, 64, 2),
    ((1, 1, 1, 1), 1, 128, 1),
    ((2, 5, 9, 17), 1, 80, 1),
    ((3, 6, 9, 5), 2, 72, 1),
]


def case(grid, heads, dim, batch, dtype, holes=False):
    """q, k, v with rows apart, the second head of v empty; some directions opposite, some equal."""
    t, h, w_exo, w_ego = grid
    draw = torch.Generator().manual_seed(0)

    def unit(*shape):
        return (
            normalize(torch.randn(*shape, 3, generator=draw), dim=-1)
            .repeat_interleave(2, -3)
            .repeat_interleave(2, -2)
        )

    exo, ego = unit(t, t, h, w_exo), unit(t, h, w_ego)
    exo[..., ::2, :2, :] = -ego[:, None, :1, :1]
    trust = torch.rand(t, 2 * h, 2 * w_exo, generator=draw) if holes else None
    if holes:
        trust[:, :2, :2] = 0
    geometry = tokens_from_latents(exo, ego, trust)
    width = heads * dim
    q, k, v = (
        torch.randn(batch, geometry.tokens, 2 * width + 3, generator=draw)[..., :width].to(dtype)
        for _ in range(3)
    )
    v[..., dim : 2 * dim] = 0
    return q, k, v, heads, geometry


def worst(ours, twin, heads):
    error, largest = (
        x.unflatten(-1, (heads, -1)).abs().amax((0, 1, 3)) for x in (ours.double() - twin, twin)
    )
    return float((error / largest.clamp_min(1e-30)).max())


def mend_interpreter() -> None:
    """Two faults of Triton's interpreter (3.6): numpy from 2.4 on makes no number of an array of
    one, and tl.dot multiplies the bits of bfloat16 instead of its values."""
    import numpy as np
    from triton.runtime import interpreter

    patch, dot = interpreter._patch_lang_tensor, interpreter.InterpreterBuilder.create_dot

    def patch_for_new_numpy(tensor, *rest):
        patch(tensor, *rest)
        tensor.__index__ = lambda self: self.handle.data.item()

    def dot_of_values(builder, a, b, *rest):
        for x in (a, b):
            if x.data.dtype == np.uint16:
                assert str(x.dtype.scalar) == "bf16"
        values = (
            interpreter.TensorHandle(
                (x.data.astype(np.uint32) << 16).view(np.float32), interpreter.tl.float32
            )
            if x.data.dtype == np.uint16
            else x
            for x in (a, b)
        )
        return dot(builder, *values, *rest)

    interpreter._patch_lang_tensor = patch_for_new_numpy
    interpreter.InterpreterBuilder.create_dot = dot_of_values


def check_flash_kernel() -> None:
    def flash_attention(*inputs, **how):
        return gga_attention(*inputs, backend="triton", **how)

    for shift, (dtype, limit) in enumerate(LIMITS.items()):
        for number, (mode, strength) in enumerate(MODES):
            holes, shape = number % 2 == 1, SHAPES[(number // 2 + shift) % len(SHAPES)]
            q, k, v, heads, geometry = case(*shape, dtype, holes)
            options = GgaOptions(mode=mode, lambda_g=strength, soft_trust=holes)
            twin = reference_attention(q.double(), k.double(), v.double(), heads, geometry, options)
            error = worst(flash_attention(q, k, v, heads, geometry, options), twin, heads)
            assert error <= limit, (mode, strength, dtype, error)
    q, k, v, heads, geometry = inputs = case((3, 6, 9, 5), 2, 64, 1, torch.float32)
    bias = BiasRows(geometry, GgaOptions(), q.dtype, reuse=False)
    for queries in (slice(1, 2), slice(29, 61), slice(60, 90)):  # frames have 30
        rows = q[:, : queries.stop - queries.start]
        part = flash.guided_flash(rows, k, v, heads, bias, queries)
        alike = backends.math_rows(rows, k, v, heads, bias, queries)
        assert worst(part, alike.double(), heads) <= LIMITS[q.dtype], queries
    whole, cut = (
        flash_attention(*inputs, GgaOptions(), **how).unflatten(1, (-1, sum(geometry.grid[2:])))[
            :, :, geometry.grid[2] :
        ]
        for how in ({}, {"chunk_bytes": 1})
    )
    assert torch.equal(cut, whole), "in one call or many"
    unguided = flash_attention(*inputs, GgaOptions(lambda_g=0.0))
    assert torch.equal(unguided, plain_attention(q, k, v, heads)), "lambda 0"


def check_rows_kernel() -> None:
    for dtype in LIMITS:
        ours, torchs = self_check(load_kernel(), torch.device("cpu"), dtype)
        assert ours.dtype == dtype and agrees(ours, torchs), dtype
        assert not agrees(ours + 0.05, torchs)
        if dtype == torch.float32:
            assert (ours.exp() - torchs.exp()).abs().max() <= 1e-6


def test_the_kernels_give_the_twins_numbers():
    """In Triton's interpreter: 1e-5 of a head's largest value in float32, 2e-3 and 1e-2 in half."""
    pytest.importorskip(
        "triton", reason="Triton is not installed here; GPU machines without it use torch"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.core.gga.test_triton_kernels"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert run.returncode == 0, run.stderr


def test_auto_takes_the_kernel_only_where_a_result_proves_it(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    assert "triton" not in backends.backend_choices(device)
    monkeypatch.setattr(backends, "PROVEN_ON", frozenset({(8, 9)}))
    assert backends.backend_choices(device)[0] == "triton"
    results = [read_json(file) for file in (ROOT / "benchmarks/results").glob("gpu_*.json")]
    for capability in flash.PROVEN_ON:
        assert any(
            row["what"].startswith("guided by triton")
            and row["held"]
            and tuple(row["numbers"]["capability"]) == capability
            for result in results
            for row in result["rows"]
        )


def test_training_and_odd_types_are_refused(monkeypatch):
    monkeypatch.setattr(backends, "_choice_of", {})
    q, k, v, heads, geometry = case((1, 2, 3, 2), 2, 16, 1, torch.float32)
    rows = BiasRows(geometry, GgaOptions(), q.dtype, reuse=False)
    pytest.importorskip("triton", reason="Triton is not installed here")
    with pytest.raises(NotImplementedError, match="no backward pass"):
        flash.guided_flash(q.requires_grad_(), k, v, heads, rows, slice(0, 4))
    with pytest.raises(NotImplementedError, match="float64"):
        flash.guided_flash(q.detach().double(), k, v, heads, rows, slice(0, 4))
    # There is no GPU and no interpreter.
    with refuses("triton.*set backend to auto"):
        gga_attention(q.detach(), k, v, heads, geometry, GgaOptions(), backend="triton")


if __name__ == "__main__":
    check_rows_kernel()
    mend_interpreter()
    check_flash_kernel()
