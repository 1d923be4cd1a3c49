"""The base and the LoRA, both trained by ``train_egox.py``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from egox_core.safe_files import atomic_write
from egox_train.cli import front
from egox_train.train.export import export

from .settings import DemoTraining, Schedule


def train(folder: Path, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Record of one run of the trainer; None where a signal stopped it (the same call goes on)."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "asked.yaml"
    config.write_text(yaml.safe_dump({**values, "output": str(folder)}), encoding="utf-8")
    if code := front.main(["train", "--config", str(config)]):
        raise SystemExit(code)
    log = [
        json.loads(line)
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    if max(line["step"] for line in log) < values["steps"]:
        return None
    losses = [line["loss"] for line in log if "loss" in line]
    last = losses[-len(losses) // 10 :]
    return {
        "steps": values["steps"],
        "batch": values["batch_size"],
        "loss, last tenth": round(sum(last) / max(1, len(last)), 4),
        "validation": [line for line in log if any(key.startswith("validation") for key in line)][
            -1:
        ],
    }


def base_values(start: Path, training: DemoTraining) -> dict[str, Any]:
    """Config that trains all weights of ``start`` on the ego view alone: half of the clips as plain
    image-to-video, half with a prior's holes."""
    return {
        **_values(training, training.base, "float32"),
        "task": "base_i2v",
        "base": str(start),
        "conditioning": {"position_scale": training.position_scale},
    }


def lora_values(base: Path, start: Path, training: DemoTraining) -> dict[str, Any]:
    """Config of an EgoX LoRA on ``base``, from the LoRA ``start``."""
    return {
        **_values(training, training.lora, "bfloat16"),
        "task": "egox_lora",
        "base": str(base),
        "init_lora": str(start),
        "conditioning": {
            "mode": "released",
            "image_embedding": "none",
            "rays": training.clips.rays,
            "lambda_g": training.lambda_g,
            "exo": "alone",
            "position_scale": training.position_scale,
        },
        "lora": {
            "rank": training.rank,
            "alpha": training.rank,
            "targets": ["attn1", "attn2", "ffn"],
        },
    }


def _values(training: DemoTraining, schedule: Schedule, base_dtype: str) -> dict[str, Any]:
    return {
        "seed": training.seed,
        "steps": schedule.steps,
        "batch_size": schedule.batch,
        "timesteps": {"shift": training.shift, "uniform_share": training.uniform_share},
        "optimizer": {
            "name": schedule.optimizer,
            "learning_rate": schedule.learning_rate,
            "warmup_steps": 50,
            "weight_decay": 0.01,
            "final_factor": 0.05,
        },
        "ema_decay": 0.995,
        "memory": {
            "base_dtype": base_dtype,
            "compute_dtype": "bfloat16",
            "gradient_checkpointing": False,
            "compile": training.compile,
        },
        "checkpoint": {"every": 100, "minutes": 10, "keep": 1},
        "validation": {"every": 100, "clips": 8},
        "log": {"every": 5},
    }


def ship_base(run: Path, target: Path) -> None:
    """Writes the base in float16, in ComfyUI's naming."""
    source = run / "base.safetensors"
    with safe_open(source, "pt") as stream:
        metadata = dict(stream.metadata())
    weights = {k: v.half() for k, v in load_file(source).items()}
    with atomic_write(target) as temporary:
        save_file(weights, temporary, metadata=metadata)


def ship_lora(run: Path, target: Path) -> None:
    """Writes the LoRA in float16, in the naming that stock loaders take too."""
    export(run / "lora.safetensors", target, "native", dtype=torch.float16)
