"""Test training processes that are killed or asked to stop."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from egox_core.safe_files import read_json
from egox_train.train.checkpoints import checkpoint_folders
from tests.paths import ROOT
from tests.train.tiny_cache import read_log

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
HAS_TENSORBOARD = bool(importlib.util.find_spec("tensorboard"))


def wait_for_step(process: subprocess.Popen, output: Path, step: int) -> None:
    """Wait until a training run has logged a given step."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        log_file = output / "metrics.jsonl"
        log_lines = log_file.read_text("utf-8").splitlines() if log_file.is_file() else []
        if len(log_lines) >= step:
            return
        if process.poll() is not None:
            pytest.fail(f"the training ended by itself:\n{process.stdout.read()}")
        time.sleep(0.02)
    process.terminate()
    pytest.fail(f"no step {step} within 400 s:\n{process.stdout.read()}")


def logged_steps(output: Path) -> list[int]:
    return [line["step"] for line in read_log(output)]


def saved_step(output: Path) -> int:
    return read_json(checkpoint_folders(output)[-1] / "state.json")["step"]


def tensorboard_steps(output: Path) -> list[int]:
    """Read the steps that TensorBoard's files contain."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "log"))
    events.Reload()
    return [event.step for event in events.Scalars("loss")]


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("kind", ["accelerate", "torchrun"])
def test_stopped_launcher_saves_and_can_be_resumed(
    training_folder, tiny_training, training_processes, kind
):
    """Check that stopped and killed trainings can be resumed, and log each step once."""
    training_settings = tiny_training.make_settings(
        training_folder,
        steps=4000,
        batch_size=1,
        checkpoint={"every": 1000, "keep": 2},
        log={"every": 1, "trackers": ["tensorboard"] if HAS_TENSORBOARD else []},
    )
    config = training_processes.write_config(training_folder, "run", training_settings)
    output = training_folder / "run"

    def start_run() -> subprocess.Popen:
        return training_processes.start(
            config,
            str(ROOT / "train_egox.py"),
            "launch",
            sys.executable,
            *training_processes.launcher_arguments(kind, 2),
        )

    first_run = start_run()
    wait_for_step(first_run, output, 5)
    first_run.send_signal(signal.SIGTERM)
    printed_text = first_run.communicate(timeout=240)[0]
    assert first_run.returncode == 0, printed_text[-3000:]
    last_saved_step = saved_step(output)
    assert "stopped and saved" in printed_text and logged_steps(output) == list(
        range(1, last_saved_step + 1)
    )

    second_run = start_run()
    wait_for_step(second_run, output, last_saved_step + 5)
    (launcher,) = child_processes(second_run.pid)
    for worker in child_processes(launcher):
        os.kill(worker, signal.SIGKILL)  # nothing is saved
    assert second_run.wait(60) != 0
    assert saved_step(output) == last_saved_step and logged_steps(output)[-1] >= last_saved_step + 5

    final_step = last_saved_step + 8
    training_processes.write_config(
        training_folder, "run", {**training_settings, "steps": final_step}
    )
    third_run = start_run()
    assert third_run.wait(400) == 0, third_run.stdout.read()
    assert logged_steps(output) == list(range(1, final_step + 1))
    assert not HAS_TENSORBOARD or tensorboard_steps(output) == list(range(1, final_step + 1))


def child_processes(process: int) -> list[int]:
    return [child.pid for child in psutil.Process(process).children()]


@pytest.mark.slow
@posix_only
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_batch_script_saves_and_requeues_the_job(
    training_folder, tiny_training, training_processes, tmp_path
):
    """Check that the SLURM script saves a checkpoint and requeues the job."""
    tool_folder = tmp_path / "tools"
    tool_folder.mkdir()
    for name, text in (
        ("python", f'exec "{sys.executable}" "$@"'),
        ("scontrol", f'echo "$@" > "{tmp_path}/asked"'),
        ("accelerate", f'shift; exec "{sys.executable}" -m accelerate.commands.launch "$@"'),
    ):
        (tool_folder / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (tool_folder / name).chmod(0o755)
    training_settings = tiny_training.make_settings(
        training_folder, steps=4000, checkpoint={"every": 1000, "keep": 2}
    )
    config = training_processes.write_config(training_folder, "run", training_settings)
    output = training_folder / "run"
    process = subprocess.Popen(
        ["bash", "configs/slurm_8gpu.sbatch", str(config), "configs/accelerate_one_gpu.yaml"],
        text=True,
        env={
            **training_processes.ENVIRONMENT,
            "PATH": f"{tool_folder}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_ID": "17",
            "SLURM_SUBMIT_DIR": str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for_step(process, output, 5)
    process.send_signal(signal.SIGUSR1)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "stopped and saved" in text, text[-3000:]
    assert saved_step(output) == logged_steps(output)[-1]
    assert (tmp_path / "asked").read_text("utf-8").split() == ["requeue", "17"]
