"""Start training processes on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.paths import ROOT
from tools.setup.server import find_free_port

ENVIRONMENT = {
    **os.environ,
    "CUDA_VISIBLE_DEVICES": "",
    "ACCELERATE_USE_CPU": "true",
    "PYTHONPATH": str(ROOT),
}
TRAIN_SCRIPT = ROOT / "train_egox.py"


def launcher_arguments(
    kind: str, processes: int, shipped: str = "accelerate_ddp.yaml"
) -> list[str]:
    """Build the command that starts a training by torchrun or accelerate."""
    if kind == "torchrun":
        launcher_module, count_option, port_option = (
            "torch.distributed.run",
            "--nproc_per_node",
            "--master_port",
        )
        config_option = []
    else:
        launcher_module, count_option, port_option = (
            "accelerate.commands.launch",
            "--num_processes",
            "--main_process_port",
        )
        config_option = ["--config_file", str(ROOT / "configs" / shipped)]
    return [
        "-m",
        launcher_module,
        *config_option,
        count_option,
        str(processes),
        port_option,
        str(find_free_port()),
    ]


def start(config: Path, *launcher_arguments: str, front: Path = TRAIN_SCRIPT) -> subprocess.Popen:
    """Start a training process with a configuration file."""
    return subprocess.Popen(
        [sys.executable, *launcher_arguments, str(front), "train", "--config", str(config)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_two_processes(shipped: str, config: Path, *, front: Path = TRAIN_SCRIPT) -> str:
    """Run two training processes by accelerate, and return their output."""
    process = start(config, *launcher_arguments("accelerate", 2, shipped), front=front)
    try:
        output = process.communicate(timeout=300)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output[-4000:]
    return output


def write_config(folder: Path, name: str, values: dict) -> Path:
    """Write a training configuration file."""
    config_file = folder / f"{name}.yaml"
    config_file.write_text(yaml.safe_dump({**values, "output": str(folder / name)}), "utf-8")
    return config_file


def read_losses(output: Path) -> list[float]:
    """Read the training losses from the log of a training run."""
    lines = (output / "metrics.jsonl").read_text("utf-8").splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]
