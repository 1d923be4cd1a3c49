"""Trainings as processes of their own, on the CPU: plain, or through accelerate's launcher with a
shipped file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.paths import ROOT
from tools.setup.server import free_port

ENVIRONMENT = {
    **os.environ,
    "CUDA_VISIBLE_DEVICES": "",
    "ACCELERATE_USE_CPU": "true",
    "PYTHONPATH": str(ROOT),
}
FRONT = ROOT / "train_egox.py"


def launcher(kind: str, processes: int) -> list[str]:
    """The arguments of a launcher, after Python's own."""
    if kind == "torchrun":
        return [
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            str(processes),
            "--master_port",
            str(free_port()),
        ]
    return [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(ROOT / "configs" / "accelerate_ddp.yaml"),
        "--num_processes",
        str(processes),
        "--main_process_port",
        str(free_port()),
    ]


def start(
    config: Path, *launcher: str, front: Path = FRONT, **environment: str
) -> subprocess.Popen:
    """A training that has just begun."""
    return subprocess.Popen(
        [sys.executable, *launcher, str(front), "train", "--config", str(config)],
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def launch(
    shipped: str,
    config: Path,
    processes: int,
    *,
    front: Path = FRONT,
    limit_s: float = 300,
    **environment: str,
) -> str:
    """Output of a run through ``accelerate launch --config_file configs/SHIPPED`` printed; it must have
    ended with 0."""
    process = start(
        config,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(ROOT / "configs" / shipped),
        "--num_processes",
        str(processes),
        "--main_process_port",
        str(free_port()),
        front=front,
        **environment,
    )
    try:
        text = process.communicate(timeout=limit_s)[0]
    finally:
        process.kill()
    assert process.returncode == 0, text[-4000:]
    return text


def write(folder: Path, name: str, values: dict) -> Path:
    """A configuration file whose output folder has the same name."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**values, "output": str(folder / name)}), "utf-8")
    return file


def losses(output: Path) -> list[float]:
    """The run's curve, without what was held out."""
    lines = (output / "metrics.jsonl").read_text("utf-8").splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]
