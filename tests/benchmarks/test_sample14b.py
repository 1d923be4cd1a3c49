"""The full-size benchmark in small: its schemes are what they claim to be, and a worker reports what it measured."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import sample14b
from benchmarks.support import sample14b_worker as worker
from tools.rigs import wan_shapes
from tools.rigs.model_rig import core


def test_the_released_scheme_is_ours_written_out(pack):
    with torch.inference_mode():
        model = worker.random_model("small", "float32")
        plain, ours, released = (worker.sample(patched, wan_shapes.CLIPS["small"], 2)
                                 for patched in worker.patched_models(pack, model, wan_shapes.CLIPS["small"]).values())
    # 1e-5: two forwards of two layers in float32, attention summed in another order.
    assert (ours - released).abs().max() <= 1e-5 * plain.std()
    assert (ours - plain).abs().max() >= 1e-4 * plain.std()


@pytest.mark.slow
def test_a_worker_measures_all_schemes(host_root, monkeypatch):
    monkeypatch.setenv("EGOX_HOST_DIR", str(host_root))
    result = sample14b.run_worker("small", "float8", None, 1)
    assert "failed" not in result, result
    assert set(result["schemes"]) == set(sample14b.SCHEMES)
    assert all(scheme["finite"] and scheme["seconds"] > 0 for scheme in result["schemes"].values())
    judged = sample14b.judge(result, 1e9)
    assert judged["geometry_ratio"] > 0 and judged["to_flop_limit"] > 0
    assert result["decode_seconds"]["ego"] < result["decode_seconds"]["both"]


def test_a_worker_that_fails_is_a_result(monkeypatch):
    failing = [sys.executable, "-c", "raise SystemExit('no')"]
    monkeypatch.setattr(sample14b, "worker_command", lambda *given: failing)
    result = sample14b.run_worker("small", "float32", None, 1)
    assert result["failed"] == "no"
    assert "no" in sample14b.table({"size": "small", "tokens": 1, "flops": 1.0, "runs": [result]})


def test_flops_of_the_full_size(pack):
    """Counted by torch on the whole 14B on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode

    model = wan_shapes.wan_model("14b", "meta", torch.bfloat16, torch.bfloat16).diffusion_model
    plain = core(pack, "gga.attention").plain_attention

    def attention(func, q, k, v, heads, mask=None, **kwargs):
        return plain(q, k, v, heads)

    meta = {"device": "meta", "dtype": torch.bfloat16}
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 36, 13, 56, 154, **meta), torch.empty(1, device="meta"),
              torch.empty(1, 512, 4096, **meta), torch.empty(1, 257, 1280, **meta),
              transformer_options={"optimized_attention_override": attention})
    assert wan_shapes.CLIPS["14b"].tokens == 28028
    assert wan_shapes.forward_flops("14b", 28028) == pytest.approx(counter.get_total_flops(), rel=0.005)
