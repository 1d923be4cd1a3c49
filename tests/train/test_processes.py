"""Trainings as real processes: killed, asked to stop."""

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
from tests.train.tiny_cache import curve

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
TENSORBOARD = bool(importlib.util.find_spec("tensorboard"))


def wait_for_step(process: subprocess.Popen, output: Path, step: int) -> None:
    """Wait until the run's log has that step."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        file = output / "metrics.jsonl"
        lines = file.read_text("utf-8").splitlines() if file.is_file() else []
        if len(lines) >= step:
            return
        if process.poll() is not None:
            pytest.fail(f"the training ended by itself:\n{process.stdout.read()}")
        time.sleep(0.02)
    process.terminate()
    pytest.fail(f"no step {step} within 400 s:\n{process.stdout.read()}")


def steps_of(output: Path) -> list[int]:
    return [line["step"] for line in curve(output)]


def saved_step(output: Path) -> int:
    return read_json(checkpoint_folders(output)[-1] / "state.json")["step"]


def shown_steps(output: Path) -> list[int]:
    """Read the steps of the curve as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "log"))
    events.Reload()
    return [event.step for event in events.Scalars("loss")]


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("kind", ["accelerate", "torchrun"])
def test_a_launcher_that_is_asked_to_stop_saves_ends_with_0_and_goes_on(
    workplace, tiny, launching, kind
):
    """There are two processes. Afterwards one curve has every step once, also behind a run that was
    killed."""
    values = tiny.settings(
        workplace,
        steps=4000,
        batch_size=1,
        checkpoint={"every": 1000, "keep": 2},
        log={"every": 1, "trackers": ["tensorboard"] if TENSORBOARD else []},
    )
    config, output = launching.write(workplace, "run", values), workplace / "run"

    def begin() -> subprocess.Popen:
        return launching.start(
            config,
            str(ROOT / "train_egox.py"),
            "launch",
            sys.executable,
            *launching.launcher(kind, 2),
        )

    first = begin()
    wait_for_step(first, output, 5)
    first.send_signal(signal.SIGTERM)
    text = first.communicate(timeout=240)[0]
    assert first.returncode == 0, text[-3000:]
    reached = saved_step(output)
    assert "stopped and saved" in text and steps_of(output) == list(range(1, reached + 1))

    second = begin()
    wait_for_step(second, output, reached + 5)
    (launcher,) = children_of(second.pid)
    for worker in children_of(launcher):
        os.kill(worker, signal.SIGKILL)  # nothing is saved
    assert second.wait(60) != 0
    assert saved_step(output) == reached and steps_of(output)[-1] >= reached + 5

    end = reached + 8
    launching.write(workplace, "run", {**values, "steps": end})
    third = begin()
    assert third.wait(400) == 0, third.stdout.read()
    assert steps_of(output) == list(range(1, end + 1))
    assert not TENSORBOARD or shown_steps(output) == list(range(1, end + 1))


def children_of(process: int) -> list[int]:
    return [child.pid for child in psutil.Process(process).children()]


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux",
    reason="the kernel tells a process of its parent's death on Linux alone",
)
def test_a_launcher_that_dies_leaves_no_orphan(workplace, tiny, launching):
    """Plain accelerate, of one process, dies of SIGTERM without telling its child: which saves all
    the same."""
    values = tiny.settings(workplace, steps=4000, checkpoint={"every": 1000, "keep": 2})
    config, output = launching.write(workplace, "run", values), workplace / "run"
    process = launching.start(
        config, *launching.launcher("accelerate", 1, "accelerate_one_gpu.yaml")
    )
    wait_for_step(process, output, 5)
    (child,) = children_of(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == -signal.SIGTERM
    deadline = time.monotonic() + 120
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists() and saved_step(output) == steps_of(output)[-1]


@pytest.mark.slow
@POSIX
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_batch_script_saves_and_queues_again(workplace, tiny, launching, tmp_path):
    """As SLURM runs it, as far as a shell can: USR1 comes to the script, ``scontrol`` is a
    stand-in."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (
        ("python", f'exec "{sys.executable}" "$@"'),
        ("scontrol", f'echo "$@" > "{tmp_path}/asked"'),
        ("accelerate", f'shift; exec "{sys.executable}" -m accelerate.commands.launch "$@"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (tools / name).chmod(0o755)
    values = tiny.settings(workplace, steps=4000, checkpoint={"every": 1000, "keep": 2})
    config, output = launching.write(workplace, "run", values), workplace / "run"
    process = subprocess.Popen(
        ["bash", "configs/slurm_8gpu.sbatch", str(config), "configs/accelerate_one_gpu.yaml"],
        text=True,
        env={
            **launching.ENVIRONMENT,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
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
    assert saved_step(output) == steps_of(output)[-1]
    assert (tmp_path / "asked").read_text("utf-8").split() == ["requeue", "17"]
