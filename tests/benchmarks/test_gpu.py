"""Test ``bench gpu`` on the CPU: all of its parts at a small size, and what it says of lacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.support.gpu_row import Row, error_line
from egox_core.safe_files import read_json
from tests.paths import ROOT


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
    result = json.loads(completed.stdout)
    table_text = gpu.table(result)
    assert completed.returncode == 0 and result["passed"] and not result["not_run"], table_text
    rows = {row["what"]: row for row in result["rows"]}
    assert "exactly on cpu" in rows["CFG step, bf16, exo kept"]["measured"]
    for dtype in ("bf16", "fp16"):
        for batch in (1, 2):
            assert rows[f"guided by auto, {dtype}, batch {batch}"]["held"] is True
            refused_row = rows[f"guided by cudnn, {dtype}, batch {batch}"]
            assert refused_row["held"] is None and "needs an NVIDIA card" in refused_row["measured"]
    host_row = rows["CFG step, bf16, result and memory"]
    assert host_row["held"] is True and host_row["measured"].startswith("dynamic memory")
    assert "failed" not in str(rows) and "not run:" not in str(rows)
    assert rows["CFG step, fp8, 16 GB, guided"]["numbers"]["attention_share"] > 0
    assert rows["egox_fast, 24 GB, stand-in weights"]["held"] is True
    for base in ("bf16", "24 GB", "16 GB"):
        assert rows[f"training step, {base}"]["numbers"]["seconds"] > 0
    assert gpu.NO_GPU_NOTE in table_text and "Held:" in table_text
    assert str(ROOT) not in table_text and str(Path.home()) not in completed.stdout


def test_what_is_missing_or_fails_is_a_row_and_the_page_names_no_folder(
    monkeypatch, tmp_path, capsys
):
    def failing_rows():
        yield Row(what="first", measured="x", numbers={"error": float("nan")})
        raise RuntimeError(f"{Path.home()}/somebody/x.cu broke\nand more")

    def unbuilt_rows():
        raise ImportError("No module named 'diffusers'")

    parts = {"kernels bf16": failing_rows, "train 24 GB": unbuilt_rows}
    monkeypatch.setattr(gpu, "list_parts", lambda *_: parts)
    monkeypatch.setenv("COMFYUI_DIR", str(ROOT))  # no ComfyUI
    monkeypatch.delenv("EGOX_HOST_DIR", raising=False)
    monkeypatch.setattr(sys, "argv", ["gpu", "--small", "--out", str(tmp_path)])
    thread_count = torch.get_num_threads()
    exit_code = gpu.main()
    torch.set_num_threads(thread_count)  # which the small size sets to 1
    assert exit_code == 1
    result = read_json(tmp_path / "gpu.json")
    measured = [(row["what"], row["measured"]) for row in result["rows"][1:]]
    assert measured == [
        ("first", "x"),
        ("kernels bf16", "failed: RuntimeError: .../x.cu broke"),
        ("train 24 GB", "not run: ImportError: No module named 'diffusers'"),
    ]
    assert result["rows"][1]["numbers"] == {"error": None} and not result["not_run"]
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert page.strip() == capsys.readouterr().out.strip() and "ComfyUI none" in page
    assert error_line(ValueError("of /opt/site/torch/nn.py, a/b")).endswith("of .../nn.py, a/b")
