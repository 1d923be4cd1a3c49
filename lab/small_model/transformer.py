"""The base and the LoRA, both trained by ``train_egox.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import train_egox
from egox_core.safe_files import atomic_write
from egox_train.train.export import export
from egox_train.wan.transformer import save_untrained

from .settings import DemoTraining, Schedule, TransformerSettings

ARMS: Mapping[str, Mapping[str, Any]] = {"full": {}, "exo_alone": {"exo": "alone"}}
"""Arms of the ablation, as changes to the training's ``conditioning``; DemoTraining.arms names
those to train."""


def untrained(file: Path, form: TransformerSettings) -> None:
    """Writes the base before its first step: Wan's own class and start."""
    if not file.is_file():
        save_untrained(
            file,
            form.seed,
            num_attention_heads=form.heads,
            attention_head_dim=form.head_dim,
            text_dim=form.text_dim,
            freq_dim=256,
            ffn_dim=form.ffn,
            num_layers=form.layers,
        )


def train(folder: Path, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Record of one run of the trainer; None where a signal stopped it (the same call goes on)."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "asked.yaml"
    config.write_text(yaml.safe_dump({**values, "output": str(folder)}), encoding="utf-8")
    if code := train_egox.main(["train", "--config", str(config)]):
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


def base_values(start: Path, form: TransformerSettings, cache: Path) -> dict[str, Any]:
    """Config that trains all weights of ``start`` on single views, as plain image-to-video."""
    return {
        **_values(form.base, cache, form.seed),
        "task": "base_i2v",
        "base": str(start),
        "memory": _memory(form, "float32"),
    }


def lora_values(
    base: Path,
    training: DemoTraining,
    schedule: Schedule,
    cache: Path,
    changes: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Config of an EgoX LoRA on ``base``; ``changes`` are those of its conditioning."""
    form = training.transformer
    return {
        **_values(schedule, cache, seed),
        "task": "egox_lora",
        "base": str(base),
        "conditioning": {
            "mode": "released",
            "image_embedding": "none",
            "rays": training.clips.rays,
            "lambda_g": form.lambda_g,
            **changes,
        },
        "lora": {"rank": form.rank, "alpha": form.rank, "targets": ["attn1", "attn2", "ffn"]},
        "memory": _memory(form, "bfloat16"),
    }


def _memory(form: TransformerSettings, base_dtype: str) -> dict[str, Any]:
    return {
        "base_dtype": base_dtype,
        "compute_dtype": "bfloat16",
        "gradient_checkpointing": False,
        "compile": form.compile,
    }


def _values(schedule: Schedule, cache: Path, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "cache": str(cache),
        "steps": schedule.steps,
        "batch_size": schedule.batch,
        "timesteps": {"shift": schedule.shift},
        "optimizer": {
            "name": schedule.optimizer,
            "learning_rate": schedule.learning_rate,
            "warmup_steps": 100,
            "weight_decay": 0.01,
            "final_factor": schedule.final_factor,
        },
        "ema_decay": 0.995,
        "checkpoint": {"every": 100, "keep": 1},
        "validation": {"every": 250, "clips": 16},
        "log": {"every": 10},
    }


def ship_base(run: Path, target: Path, record: Mapping[str, Any]) -> None:
    """Writes the base in float16, in ComfyUI's naming."""
    source = run / "base.safetensors"
    with safe_open(source, "pt") as stream:
        metadata = dict(stream.metadata())
    weights = {k: v.half() for k, v in load_file(source).items()}
    with atomic_write(target) as temporary:
        save_file(weights, temporary, metadata={**metadata, "egox.stage": json.dumps(dict(record))})


def ship_lora(run: Path, target: Path) -> None:
    """Writes the LoRA in float16, in the naming that stock loaders take too."""
    export(run / "lora.safetensors", target, "native", dtype=torch.float16)
