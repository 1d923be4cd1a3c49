"""Test ``bench gpu`` on the CPU: all of its steps at a small size, and its messages."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmarks.support import gpu_run
from benchmarks.support.gpu_row import Row, anonymise, error_line
from egox_core.safe_files import read_json
from tests.paths import ROOT

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: this is the run without one")
def test_benchmark_runs_small_and_names_what_needs_a_gpu(host_root, monkeypatch):
    monkeypatch.setenv("EGOX_HOST_DIR", str(host_root))
    completed = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--small", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    benchmark_result = json.loads(completed.stdout)
    assert (
        completed.returncode == 0 and benchmark_result["passed"] and not benchmark_result["not_run"]
    ), gpu_run.table(benchmark_result)
    rows = {row["what"]: row for row in benchmark_result["rows"]}
    assert "exactly on cpu" in rows["CFG step, bf16, exo kept"]["measured"]
    for dtype in ("bf16", "fp16"):
        for batch in (1, 2):
            assert rows[f"guided by auto, {dtype}, batch {batch}"]["held"] is True
            refused_row = rows[f"guided by cudnn, {dtype}, batch {batch}"]
            assert refused_row["held"] is None and "needs an NVIDIA card" in refused_row["measured"]
    host_row = rows["CFG step, bf16, result and memory"]
    assert host_row["held"] is True and host_row["measured"].startswith("dynamic memory")
    assert "failed" not in str(rows)
    assert rows["CFG step, fp8, 16 GB, guided"]["numbers"]["attention_share"] > 0
    assert rows["egox_fast, 24 GB, stand-in weights"]["held"] is True
    assert len(rows["egox_demo on the server"]["numbers"]["seconds"]) == 2
    for base in ("bf16", "24 GB", "16 GB"):
        assert rows[f"training step, {base}"]["numbers"]["seconds"] > 0
    table_text = gpu_run.table(benchmark_result)
    assert gpu_run.NO_GPU_NOTE in table_text and "Held:" in table_text
    assert str(ROOT) not in table_text and str(Path.home()) not in completed.stdout


def test_missing_packages_are_reported_before_importing_torch(tmp_path):
    script = (
        "import sys, pathlib; from benchmarks import gpu; "
        "host, _ = gpu.first_look(pathlib.Path(sys.argv[1])); "
        "assert 'torch' not in sys.modules and host is None"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("EGOX_HOST_DIR", "COMFYUI_DIR")}
    completed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment | {"COMFYUI_DIR": str(ROOT)},
    )
    assert completed.returncode == 0, completed.stderr
    assert (
        f"{ROOT} is not a ComfyUI" in completed.stderr
        and "the demo, whose text" in completed.stderr
    )
    written_report = read_json(tmp_path / "gpu.json")
    assert (
        written_report["machine"]["disk_gb"] > 0 and written_report["machine"]["main_memory_gb"] > 0
    )
    assert written_report["running"] == "imports" and str(ROOT) not in str(written_report)
    assert "not installed: ComfyUI" in " ".join(written_report["left_out"])


def test_step_over_its_time_is_ended_and_other_results_kept():
    report = gpu_run.Report()

    def endless():
        yield Row(what="first", measured="x")
        while True:  # one wait, where it can be woken
            threading.Event().wait(60 if hasattr(signal, "pthread_kill") else 0.01)

    handler_before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as behind nohup
    start_time = time.monotonic()
    report.run("endless", endless, seconds=0.5)
    assert time.monotonic() - start_time < 10
    assert signal.signal(signal.SIGINT, handler_before) == signal.SIG_IGN
    report.run("next", lambda: [Row(what="last", measured="y")], seconds=30)
    assert [row.what for _, row in report.rows] == ["first", "endless", "last"]
    assert "its share of the time" in report.rows[1][1].measured


def test_report_identifies_no_machine(monkeypatch):
    monkeypatch.setattr("benchmarks.support.gpu_row._user", lambda: "somebody")
    anonymous_text = anonymise(
        f"{ROOT}/benchmarks/x.py of somebody in {Path.home()}/y and /opt/site/torch/nn.py, a/b"
    )
    assert (
        "somebody" not in anonymous_text
        and "/opt" not in anonymous_text
        and str(ROOT) not in anonymous_text
        and anonymous_text.endswith("a/b")
    )
    assert (
        error_line(ValueError("one\ntwo")) == "ValueError: one"
        and Row(what="a", measured="b").held is None
    )
