"""Guided attention as one Triton kernel: its numbers in the interpreter, its cubins, its refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from egox_core.errors import EgoXInputError
from egox_core.gga import backends, flash
from egox_core.gga.attention import gga_attention
from egox_core.gga.bias import reference_attention
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.options import GgaOptions
from egox_core.gga.rows import BiasRows

RESULTS = Path(__file__).resolve().parent.parent.parent.parent / "benchmarks/results"
LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Of a head's largest value."""
MODES = [("released", x) for x in (0.5, 1.0, 3.0, 1000.0)] + [
    ("paper", 0.5), ("paper", 1000.0), ("power", 0.5), ("power", 20.0)]
SHAPES = [  # t, h, w_exo, w_ego in tokens; heads, dim of a head; samples
    ((2, 3, 5, 3), 2, 64, 2), ((1, 1, 1, 1), 1, 128, 1), ((2, 5, 9, 17), 1, 80, 1),
    ((3, 6, 9, 5), 2, 72, 1)]


def case(grid, heads, dim, batch, dtype, holes=False):
    """q, k, v with rows apart and the second head of v empty; directions with opposite and equal ones."""
    t, h, w_exo, w_ego = grid
    draw = torch.Generator().manual_seed(0)

    def unit(*shape):
        return normalize(torch.randn(*shape, 3, generator=draw), dim=-1).repeat_interleave(
            2, -3).repeat_interleave(2, -2)

    exo, ego = unit(t, t, h, w_exo), unit(t, h, w_ego)
    exo[..., ::2, :2, :] = -ego[:, None, :1, :1]
    trust = torch.rand(t, 2 * h, 2 * w_exo, generator=draw) if holes else None
    if holes:
        trust[:, :2, :2] = 0
    geometry = tokens_from_latents(exo, ego, trust)
    width = heads * dim
    q, k, v = (torch.randn(batch, geometry.tokens, 2 * width + 3, generator=draw)[..., :width]
               .to(dtype) for _ in range(3))
    v[..., dim : 2 * dim] = 0
    return q, k, v, heads, geometry


def worst(ours, twin, heads):
    error, largest = (x.unflatten(-1, (heads, -1)).abs().amax((0, 1, 3))
                      for x in (ours.double() - twin, twin))
    return float((error / largest.clamp_min(1e-30)).max())


def interpreted() -> None:
    """Compare all cases; for a process whose Triton interprets."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_for_new_numpy(tensor, *rest):  # from 2.4 on no number comes of an array of one
        patch(tensor, *rest)
        tensor.__index__ = lambda self: self.handle.data.item()

    interpreter._patch_lang_tensor = patch_for_new_numpy
    for dtype, limit in LIMITS.items():
        for number, (mode, strength) in enumerate(MODES):
            for holes in (False, True):
                shape = SHAPES[(number + holes) % len(SHAPES)]
                q, k, v, heads, geometry = case(*shape, dtype, holes)
                options = GgaOptions(mode=mode, lambda_g=strength, soft_trust=holes)
                twin = reference_attention(q.double(), k.double(), v.double(), heads, geometry,
                                           options)
                ours = gga_attention(q, k, v, heads, geometry, options, backend="triton")
                assert ours.dtype == dtype and ours.isfinite().all()
                error = worst(ours, twin, heads)
                assert error <= limit, (dtype, mode, strength, shape, error)
    q, k, v, heads, geometry = case((3, 6, 9, 5), 2, 64, 1, torch.float32)
    options = GgaOptions()
    bias = BiasRows(geometry, options, q.dtype, reuse=False)
    for queries in (slice(1, 2), slice(29, 61), slice(60, 90)):  # frames have 30
        part = flash.guided_flash(q[:, : queries.stop - queries.start], k, v, heads, bias, queries)
        alike = backends.math_rows(q[:, : queries.stop - queries.start], k, v, heads, bias, queries)
        assert worst(part, alike.double(), heads) <= LIMITS[q.dtype], queries
    whole = gga_attention(q, k, v, heads, geometry, options, backend="triton")
    assert torch.equal(whole, gga_attention(q, k, v, heads, geometry, options, backend="triton",
                                            chunk_bytes=1))


def test_the_kernel_gives_the_twins_numbers(repo_root):
    """In Triton's interpreter, which is chosen before Triton is imported: a process of its own."""
    pytest.importorskip("triton", reason="Triton is not installed here")
    run = subprocess.run([sys.executable, "-W", "ignore", "-c",
                          "from tests.core.gga.test_flash import interpreted; interpreted()"],
                         cwd=repo_root, capture_output=True, text=True,
                         env={**os.environ, "TRITON_INTERPRET": "1"})
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize("card", [86, 90, 120])
def test_the_kernels_compile_for_cards_that_are_not_here(card):
    pytest.importorskip("triton", reason="Triton is not installed here")
    from benchmarks.triton_cubins import SHARED_OF, matrix

    rows = matrix((card,))
    assert len(rows) == 14
    for name, row in rows.items():
        found = row[f"sm_{card}"]
        assert isinstance(found, dict), (name, found)
        assert found["spilled"] == 0 and found["shared"] <= SHARED_OF[card] * 1024, (name, found)


def test_the_page_of_cubins_has_no_spills():
    results = json.loads((RESULTS / "triton_cubins.json").read_text(encoding="utf-8"))
    assert len(results) >= 8
    for version, rows in results.items():
        for name, row in rows.items():
            for card in ("sm_80", "sm_86", "sm_89", "sm_90"):
                assert isinstance(row[card], dict) and row[card]["spilled"] == 0, (version, name)


def test_auto_takes_the_kernel_only_where_a_result_proves_it(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    assert "triton" not in backends.backend_choices(device)
    monkeypatch.setattr(backends, "PROVEN_ON", frozenset({(8, 9)}))
    assert backends.backend_choices(device)[0] == "triton"
    results = [json.loads(file.read_text(encoding="utf-8")) for file in RESULTS.glob("gpu_*.json")]
    for capability in flash.PROVEN_ON:
        assert any(row["what"].startswith("guided by triton") and row["held"]
                   and tuple(row["numbers"]["capability"]) == capability
                   for result in results for row in result["rows"])


def test_training_and_odd_types_are_refused(monkeypatch):
    monkeypatch.setattr(backends, "_choice_of", {})
    q, k, v, heads, geometry = case((1, 2, 3, 2), 2, 16, 1, torch.float32)
    rows = BiasRows(geometry, GgaOptions(), q.dtype, reuse=False)
    pytest.importorskip("triton", reason="Triton is not installed here")
    with pytest.raises(NotImplementedError, match="no backward pass"):
        flash.guided_flash(q.requires_grad_(), k, v, heads, rows, slice(0, 4))
    with pytest.raises(NotImplementedError, match="float64"):
        flash.guided_flash(q.detach().double(), k, v, heads, rows, slice(0, 4))
    with pytest.raises(EgoXInputError, match="triton.*set backend to auto"):  # no GPU, no interpreter
        gga_attention(q.detach(), k, v, heads, geometry, GgaOptions(), backend="triton")


