"""Guided attention as one Triton kernel: numbers in the interpreter, cubins, refusals."""

import pytest
import torch

from benchmarks.support import interpreted
from benchmarks.support.interpreted import case
from egox_core.gga import backends, flash
from egox_core.gga.attention import gga_attention
from egox_core.gga.options import GgaOptions
from egox_core.gga.rows import BiasRows
from egox_core.safe_files import read_json
from tests.paths import ROOT
from tests.refusals import refuses

RESULTS = ROOT / "benchmarks/results"


def test_the_kernel_gives_the_twins_numbers():
    """In Triton's interpreter: 1e-5 of a head's largest value in float32, 2e-3 and 1e-2 in half."""
    pytest.importorskip("triton", reason="Triton is not installed here")
    found = interpreted.interpreted()
    assert len(found) == 3 * 3 + 3
    assert all(error <= bound for error, bound in found.values()), found
    assert found["flash kernel, in one call or many, float32"][0] == 0
    assert found["flash kernel, lambda 0, float32"][0] == 0


def test_auto_takes_the_kernel_only_where_a_result_proves_it(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    assert "triton" not in backends.backend_choices(device)
    monkeypatch.setattr(backends, "PROVEN_ON", frozenset({(8, 9)}))
    assert backends.backend_choices(device)[0] == "triton"
    results = [read_json(file) for file in RESULTS.glob("gpu_*.json")]
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
