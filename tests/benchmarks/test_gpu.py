"""``bench gpu`` without a GPU: the whole path at a small size, its watchdog, and that a wrong kernel is told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.support import gpu_attention, gpu_row
from benchmarks.support.gpu_model import RandomWan, Storage, block_bytes
from benchmarks.support.gpu_row import Row, anonymous, why
from egox_core.wan.step_memory import ModelSize, block_weights
from tools.rigs.wan_shapes import SIZES

REPO_ROOT = Path(__file__).resolve().parent.parent.parent
CPU = torch.device("cpu")
TORCH_ALONE = """
import importlib.abc, sys
ALLOWED = set(sys.argv[1].split())

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ALLOWED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from benchmarks.support import gpu_worker
import benchmarks.gpu
sys.argv = ["worker", sys.argv[2]]
sys.exit(gpu_worker.main())
"""
OTHERS = "diffusers peft transformers accelerate safetensors yaml pydantic psutil PIL av imageio scipy comfy torchao"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: this is the run without one")
def test_the_whole_path_runs_small_and_says_what_needs_a_gpu(host_root, monkeypatch):
    monkeypatch.setenv("EGOX_HOST_DIR", str(host_root))
    start = time.monotonic()
    run = subprocess.run([sys.executable, "-m", "benchmarks.gpu", "--json"], cwd=REPO_ROOT, capture_output=True,
                         text=True)
    assert time.monotonic() - start < 240
    result = json.loads(run.stdout)
    assert run.returncode == 0 and result["passed"] and not result["not_run"], gpu.table(result)
    rows = {row["what"]: row for row in result["rows"]}
    assert {part for part in result["part_seconds"]} == {
        part for group in gpu.plan("small", False, True) for part in group.parts}
    for dtype in ("bf16", "fp16"):
        for batch in (1, 2):
            assert rows[f"guided by auto, {dtype}, batch {batch}"]["held"] is True
            assert rows[f"guided by cudnn, {dtype}, batch {batch}"]["measured"] == "needs a GPU"
    assert rows["forward in plain torch, bf16, offload forced, 24 GB cap"]["held"] is True
    assert rows["forward through the host, fp8: result and memory"]["held"] is True
    assert any(name.startswith("training step, fp8") and row["held"] for name, row in rows.items())
    text = gpu.table(result)
    assert all(what in text for what in gpu.NEEDS_A_GPU) and "Held:" in text
    assert str(REPO_ROOT) not in text and str(Path.home()) not in run.stdout


def test_torch_and_numpy_are_enough():
    """In a Python where nothing else that the repository uses can be imported."""
    given = {"size": "small", "parts": ["device", "torch bf16", "train fp8"], "matrix_rate": None, "keep": "",
             "least_s": dict.fromkeys(["device", "torch bf16", "train fp8"], 0), "left_s": 200, "host": None}
    run = subprocess.run([sys.executable, "-c", TORCH_ALONE, OTHERS, json.dumps(given)], cwd=REPO_ROOT,
                         capture_output=True, text=True)
    said = [json.loads(line.removeprefix(gpu.SAYS)) for line in run.stdout.splitlines() if line.startswith(gpu.SAYS)]
    rows = [one["row"] for one in said if one["kind"] == "row"]
    assert run.returncode == 0 and rows, run.stderr
    assert {row["what"] for row in rows} >= {"device", "training step, fp8, plain torch",
                                             "forward in plain torch, bf16: 50 steps with CFG"}
    assert all(row["held"] is not False for row in rows)


FAKE_WORKER = """
import json, sys, time
given = json.loads(sys.argv[1])
def say(kind, **what): print("EGOX_GPU " + json.dumps({"kind": kind, **what}), flush=True)
for part in given["parts"]:
    say("start", part=part)
    say("row", part=part, row={"what": part, "measured": "1", "bar": "", "held": True, "numbers": {}})
    if part == "hangs": time.sleep(600)
    if part == "dies": sys.exit("no memory in " + __import__("os").getcwd() + "/x")
    say("end", part=part, seconds=1.0)
    if part == "loses": sys.exit(3)
"""


def test_a_part_that_hangs_or_dies_loses_nothing_but_itself(monkeypatch):
    monkeypatch.setattr(gpu, "worker_command", lambda given: [sys.executable, "-c", FAKE_WORKER, json.dumps(given)])
    monkeypatch.setattr(gpu, "least_seconds", lambda part, forward_s: 0.0)
    monkeypatch.setattr(gpu, "LIMIT_S", 3.0)
    report = gpu.measure("small", [gpu.Group(parts=("first", "hangs", "loses", "dies", "last"))], 5.0, show=False)
    assert [row.what for _, row in report.rows] == ["first", "hangs", "loses", "dies", "last"]
    assert report.not_run["hangs"] == "stopped: it took too long"
    assert report.not_run["dies"].startswith("its process ended: no memory in <pack>")
    assert set(report.seconds) == {"first", "loses", "last"}


def test_what_no_longer_fits_is_named(monkeypatch):
    monkeypatch.setattr(gpu, "worker_command", lambda given: [sys.executable, "-c", FAKE_WORKER, json.dumps(given)])
    monkeypatch.setattr(gpu, "least_seconds", lambda part, forward_s: 1e6 if part == "long" else 0.0)
    report = gpu.measure("14b", [gpu.Group(parts=("short",)), gpu.Group(parts=("long",))], 5.0, show=False)
    assert report.not_run == {"long": "the time was over"} and "short" in report.seconds


def test_a_wrong_kernel_and_one_that_refuses_are_told(monkeypatch):
    true = gpu_attention.gga_attention

    def attention(q, k, v, heads, geometry, options, backend):
        if backend == "sdpa":
            raise RuntimeError("not today")
        return 1.05 * true(q, k, v, heads, geometry, options, backend=backend)

    monkeypatch.setattr(gpu_attention, "gga_attention", attention)
    rows = {row.what: row for row in gpu_attention.kernel_rows(
        "small", CPU, ("auto", "sdpa"), batches=(1,), dtypes=("bf16",), rounds=1)}
    assert rows["guided by auto, bf16, batch 1"].held is False
    assert rows["guided by sdpa, bf16, batch 1"].held is False and "not today" in rows[
        "guided by sdpa, bf16, batch 1"].measured
    result = {"name": "x", "size": "small", "facts": {}, "not_run": {}, "needs_a_gpu": [],
              "rows": [row.as_dict() for row in rows.values()]}
    assert "Did not hold:\n- guided by auto" in gpu.table(result)


def test_the_plain_model_has_the_matrices_of_the_14b():
    storage = Storage(weights=torch.float8_e4m3fn, compute=torch.bfloat16, device=torch.device("meta"))
    model = RandomWan(SIZES["14b"], storage, held=1)
    weights = sum(t.numel() for name, t in model.blocks[0].named_buffers() if name.endswith("weight"))
    assert weights == block_weights(ModelSize()) == block_bytes("14b", torch.float8_e4m3fn)
    assert len(list(model.order())) == 40


def test_fewer_blocks_than_layers_are_gone_through_in_turn():
    storage = Storage(weights=torch.float32, compute=torch.float32, device=CPU)
    torch.manual_seed(0)
    model = RandomWan({**SIZES["small"], "num_layers": 5}, storage, held=2)
    assert [model.blocks[0] is block for block in model.order()] == [True, False, True, False, True]


def test_nothing_that_identifies_is_shown(monkeypatch):
    monkeypatch.setattr(gpu_row, "_user", lambda: "somebody")
    text = anonymous(f"{REPO_ROOT}/benchmarks/x.py of somebody in {Path.home()}/y and /opt/site/torch/nn.py, a/b")
    assert "somebody" not in text and "/opt" not in text and str(REPO_ROOT) not in text and text.endswith("a/b")
    assert why(ValueError("one\ntwo")) == "ValueError: one" and Row(what="a", measured="b").held is None
