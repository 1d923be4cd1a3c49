"""Trainings as real processes: killed, asked to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egox_core.train.checkpoints import checkpoint_folders
from egox_core.train.config import parse_config
from egox_core.train.loop import train


def wait_for_step(process: subprocess.Popen, output: Path, step: int, limit_s: float = 120) -> None:
    """Until the run's log has that step."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        file = output / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        if len(lines) >= step:
            return
        if process.poll() is not None:
            pytest.fail(f"the training ended by itself:\n{process.stdout.read()}")
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"no step {step} within {limit_s} s:\n{process.stdout.read()}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_killed_then_asked_to_stop_then_finished_equals_never_stopped(workplace, tiny, launching):
    values = tiny.settings(workplace, steps=160, checkpoint={"every": 5, "keep": 2})
    config = launching.write(workplace, "broken", values)
    output = workplace / "broken"
    first = launching.start(config)
    wait_for_step(first, output, 12)
    first.send_signal(signal.SIGKILL)
    assert first.wait(30) == -signal.SIGKILL
    reached = len((output / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    assert reached < 160, "it finished before it could be killed: make the run longer"

    second = launching.start(config)
    wait_for_step(second, output, reached + 8)
    second.send_signal(signal.SIGTERM)
    text = second.communicate(timeout=60)[0]
    assert second.returncode == 0, text
    saved = json.loads((checkpoint_folders(output)[-1] / "state.json").read_text(encoding="utf-8"))["step"]
    assert "stopped and saved" in text and reached <= saved < 160

    torch.set_num_threads(1)
    train(parse_config({**values, "output": str(output)}))
    train(parse_config({**values, "output": str(workplace / "whole")}))
    for name in ("trainable.safetensors",):
        ours, expected = (load_file(checkpoint_folders(f)[-1] / name) for f in (output, workplace / "whole"))
        assert all(torch.equal(ours[k], expected[k]) for k in expected)
    assert (output / "metrics.jsonl").read_text("utf-8") == (workplace / "whole" / "metrics.jsonl").read_text("utf-8")
