"""The flash kernel in Triton's interpreter against the plain twin: odd sizes, strides, empty heads,
all modes.

    TRITON_INTERPRET=1 python -m benchmarks.support.interpreted     prints {what: [error, bound]}

Errors are in units of a head's largest value, the twin is float64. The interpreter is chosen when
Triton is imported, so this is a process of its own; ``run.py fidelity`` and a test start it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.nn.functional import normalize

from egox_core.gga import (
    BiasRows,
    GgaOptions,
    gga_attention,
    guided_flash,
    math_rows,
    plain_attention,
    reference_attention,
    tokens_from_latents,
)

ROOT = Path(__file__).resolve().parent.parent.parent
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


def errors() -> dict[str, tuple[float, float]]:
    """All cases; for a process whose Triton interprets."""
    mend_interpreter()
    found: dict[str, tuple[float, float]] = {}

    def add(what: str, error: float, dtype: torch.dtype) -> None:
        name = f"{what}, {str(dtype).removeprefix('torch.')}"
        found[name] = max(found.get(name, (0.0, 0.0)), (error, LIMITS[dtype]))

    for shift, dtype in enumerate(LIMITS):
        for number, (mode, strength) in enumerate(MODES):
            holes, shape = number % 2 == 1, SHAPES[(number // 2 + shift) % len(SHAPES)]
            q, k, v, heads, geometry = case(*shape, dtype, holes)
            options = GgaOptions(mode=mode, lambda_g=strength, soft_trust=holes)
            twin = reference_attention(q.double(), k.double(), v.double(), heads, geometry, options)
            ours = gga_attention(q, k, v, heads, geometry, options, backend="triton")
            add(f"flash kernel, {mode}", worst(ours, twin, heads), dtype)
    q, k, v, heads, geometry = case((3, 6, 9, 5), 2, 64, 1, torch.float32)
    options = GgaOptions()
    bias = BiasRows(geometry, options, q.dtype, reuse=False)
    for queries in (slice(1, 2), slice(29, 61), slice(60, 90)):  # frames have 30
        rows = q[:, : queries.stop - queries.start]
        part = guided_flash(rows, k, v, heads, bias, queries)
        alike = math_rows(rows, k, v, heads, bias, queries)
        add("flash kernel, parts of frames", worst(part, alike.double(), heads), q.dtype)
    whole, cut = (
        gga_attention(q, k, v, heads, geometry, options, backend="triton", **how).unflatten(
            1, (-1, sum(geometry.grid[2:]))
        )[:, :, geometry.grid[2] :]
        for how in ({}, {"chunk_bytes": 1})
    )
    add("flash kernel, in one call or many", worst(cut, whole.double(), heads), q.dtype)
    zero = gga_attention(q, k, v, heads, geometry, GgaOptions(lambda_g=0.0), backend="triton")
    plain = plain_attention(q, k, v, heads).double()
    add("flash kernel, lambda 0", worst(zero, plain, heads), q.dtype)
    return found


def interpreted() -> dict[str, tuple[float, float]]:
    """{what: (error, bound)} out of a process of its own."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.support.interpreted"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    return {what: tuple(pair) for what, pair in json.loads(run.stdout).items()}


if __name__ == "__main__":
    print(json.dumps(errors()))
