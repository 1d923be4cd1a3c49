"""Build the configurations of the small model's trainings, and write the shipped files."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from egox_core.safe_files import atomic_write
from egox_train.train.export import export

from .settings import DemoTraining, Stage


def base_values(start: Path, training: DemoTraining) -> dict[str, Any]:
    """Build the configuration that trains all weights of the small base model."""
    return {
        **_values(training, training.base, "float32"),
        "task": "base_i2v",
        "base": str(start),
        "conditioning": {"position_scale": training.position_scale},
    }


def lora_values(base: Path, start: Path, training: DemoTraining) -> dict[str, Any]:
    """Build the configuration that trains the small model's LoRA on ``base``."""
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


def _values(training: DemoTraining, stage: Stage, base_dtype: str) -> dict[str, Any]:
    return {
        "seed": training.seed,
        "timesteps": {"shift": training.shift, "uniform_share": training.uniform_share},
        "optimizer": {
            "name": stage.optimizer,
            "learning_rate": stage.learning_rate,
            "weight_decay": 0.01,
        },
        "ema_decay": training.ema_decay,
        "memory": {
            "base_dtype": base_dtype,
            "compute_dtype": "bfloat16",
            "gradient_checkpointing": False,
        },
    }


def ship_base(run: Path, target: Path) -> None:
    """Write the base model in float16 with ComfyUI's names."""
    base_file = run / "base.safetensors"
    with safe_open(base_file, "pt") as stream:
        metadata = dict(stream.metadata())
    weights = {k: v.half() for k, v in load_file(base_file).items()}
    with atomic_write(target) as temporary_file:
        save_file(weights, temporary_file, metadata=metadata)


def ship_lora(run: Path, target: Path) -> None:
    """Write the LoRA in float16 with names that the stock loaders accept."""
    export(run / "lora.safetensors", target, "native", dtype=torch.float16)
