"""Trainings as real processes: killed, asked to stop, and spread over two of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from egox_core.train.checkpoints import checkpoint_folders
from egox_core.train.config import parse_config
from egox_core.train.loop import train

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true",
               "PYTHONPATH": str(ROOT)}


def start(config: Path, *launcher: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *launcher, str(ROOT / "train_egox.py"), "train", "--config", str(config)],
                            env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


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


def write(folder: Path, name: str, values: dict) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**values, "output": str(folder / name)}), encoding="utf-8")
    return file


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_killed_then_asked_to_stop_then_finished_equals_never_stopped(workplace, tiny):
    values = tiny.settings(workplace, steps=160, checkpoint={"every": 5, "keep": 2})
    config = write(workplace, "broken", values)
    output = workplace / "broken"
    first = start(config)
    wait_for_step(first, output, 12)
    first.send_signal(signal.SIGKILL)
    assert first.wait(30) == -signal.SIGKILL
    reached = len((output / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    assert reached < 160, "it finished before it could be killed: make the run longer"

    second = start(config)
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


def launch_two(config: Path) -> str:
    """The output of a two-process run on the CPU (gloo); accelerate's own launcher starts CPU processes by MPI only."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(config, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port))
    text = process.communicate(timeout=240)[0]
    assert process.returncode == 0, text[-4000:]
    return text


def losses(output: Path) -> list[float]:
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_two_processes_give_the_curve_of_one_with_the_same_global_batch(workplace, tiny):
    values = tiny.settings(workplace, steps=12)
    launch_two(write(workplace, "two", {**values, "batch_size": 2}))
    train(parse_config({**values, "batch_size": 4, "output": str(workplace / "one")}))
    train(parse_config({**values, "batch_size": 2, "steps": 1, "output": str(workplace / "half")}))
    one, two = losses(workplace / "one"), losses(workplace / "two")
    assert len(one) == len(two) == 12 and one[0] != losses(workplace / "half")[0]
    # The same samples, noise and levels; sums are taken in another order.
    assert max(abs(a - b) / a for a, b in zip(one, two, strict=True)) < 1e-3


@pytest.mark.slow
def test_spread_weights_train_to_the_same_lora(workplace, tiny):
    """FSDP2 on gloo: two processes that hold half the weights each end where one process ends."""
    config = write(workplace, "spread", {**tiny.settings(workplace), "optimizer": {"learning_rate": 1e-3}})
    worker = str(Path(__file__).with_name("fsdp2_worker.py"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for launcher, name, count in (([], "one", 1), (["-m", "torch.distributed.run", "--nproc_per_node", "2",
                                                     "--master_port", str(port)], "two", 2)):
        done = subprocess.run([sys.executable, *launcher, worker, str(config), str(workplace / name), str(count)],
                              env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    one, two = (load_file(workplace / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        # Adam divides by the gradient's own size, so sums in another order show at full step size where it is tiny.
        torch.testing.assert_close(two[name], tensor, atol=2e-4, rtol=1e-3)
