"""The base and the LoRA, both trained by ``train_egox.py``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import train_egox
from egox_core.safe_files import write_whole
from egox_core.train.export import export
from egox_core.wan.transformer import save_untrained
from tools.setup.at_work import wait_for_others

from .compute import cost, quick_attention_backward, yielding
from .files import WorkFiles
from .settings import BaseRound, DemoTraining, LoraRound, TransformerSettings, ViewsGate

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "no_gga": {"gga_mode": "off"},
    "no_prior": {"prior": "none"},
    "no_clean_latent": {"exo_clean": False},
}
"""The paper's Table 2, as changes to the training's ``conditioning``."""


NO_DEPTH = {"gga_mode": "off", "prior": "none"}
VIEW_ARMS: Mapping[str, Mapping[str, Any]] = {
    "no_pose": {"conditioning": NO_DEPTH, "views": {"counts": [1], "pose": "off"}},
    **{pose: {"conditioning": NO_DEPTH, "views": {"counts": [1], "pose": pose}}
       for pose in ("rays", "rays_each_block")},
}
"""The gate of the experiments on several exo views: of one view, what the rays are worth without any depth, given to
the first block or to each."""


def untrained(file: Path, settings: TransformerSettings) -> None:
    """The base before its first step: Wan's own class and start."""
    if not file.is_file():
        save_untrained(file, settings.seed, num_attention_heads=settings.heads, attention_head_dim=settings.head_dim,
                       text_dim=settings.text_dim, freq_dim=256, ffn_dim=settings.ffn, num_layers=settings.layers)


def train(files: WorkFiles, name: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """One run of the trainer; its record, or None where a signal stopped it (the same call goes on)."""
    folder = files.run(name)
    folder.mkdir(parents=True, exist_ok=True)
    config, clock = folder / "asked.yaml", folder / "seconds.json"
    config.write_text(yaml.safe_dump({**values, "output": str(folder)}), encoding="utf-8")
    spent, worked = json.loads(clock.read_text(encoding="utf-8")) if clock.is_file() else (0.0, 0.0)
    while True:
        wait_for_others()
        started, processor = time.monotonic(), time.process_time()
        compiled = values.get("memory", {}).get("compile", False)
        with quick_attention_backward() if compiled else nullcontext(), yielding() as yielded:
            code = train_egox.main(["train", "--config", str(config)])
        spent, worked = spent + time.monotonic() - started, worked + time.process_time() - processor
        clock.write_text(json.dumps((spent, worked)), encoding="utf-8")
        if code:
            raise SystemExit(code)
        if not yielded.is_set():
            break
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    step = max(line["step"] for line in log)
    if step < values["steps"]:
        return None
    losses = [line["loss"] for line in log if "loss" in line]
    device = "cuda" if torch.cuda.is_available() else "cpu"  # as the trainer chooses it
    return {"stage": name, "steps": step, **cost(spent, worked, device), "batch": values["batch_size"],
            "loss, last tenth": round(sum(losses[-len(losses) // 10:]) / max(1, len(losses[-len(losses) // 10:])), 4),
            "validation": [{k: v for k, v in line.items() if k == "step" or k.startswith("validation")}
                           for line in log if any(k.startswith("validation") for k in line)][-1:]}


def base_values(files: WorkFiles, training: DemoTraining, start: Path, part: BaseRound, seed: int) -> dict[str, Any]:
    """All weights, plain image-to-video on single views, from those of ``start``."""
    form = training.transformer
    return {**_common(seed), "task": "base_i2v", "base": str(start), "timesteps": {"shift": part.shift},
            "cache": str(files.cache("base")), "steps": part.steps, "batch_size": form.base_batch,
            "memory": {"base_dtype": "float32", "compute_dtype": "bfloat16", "gradient_checkpointing": False,
                       "compile": form.compile},
            "optimizer": _optimizer(form.base_rate, part.rates)}


def lora_values(files: WorkFiles, training: DemoTraining, changes: Mapping[str, Any], part: LoraRound,
                cache: Path, seed: int) -> dict[str, Any]:
    """The EgoX LoRA on the base that ships."""
    form = training.transformer
    conditioning = {"mode": "released", "image_embedding": "none", "rays": training.clips.rays,
                    "lambda_g": form.lambda_g, **changes}
    return {**_common(seed), "task": "egox_lora", "base": str(files.base), "cache": str(cache),
            "steps": part.steps, "batch_size": part.batch, "conditioning": conditioning,
            "timesteps": {"shift": part.shift},
            "lora": {"rank": part.rank, "alpha": part.rank, "targets": ["attn1", "attn2", "ffn"]},
            "memory": {"base_dtype": "bfloat16", "compute_dtype": "bfloat16", "gradient_checkpointing": False,
                       "compile": form.compile},
            "optimizer": {"name": part.optimizer, **_optimizer(form.lora_rate, part.rates)}}


def views_values(files: WorkFiles, training: DemoTraining, gate: ViewsGate, arm: Mapping[str, Any], cache: Path,
                 seed: int) -> dict[str, Any]:
    """An arm of the gate, on the base that ships."""
    views = {"pose_hidden": gate.pose_hidden, "pose_rate": gate.pose_rate, **arm["views"]}
    asked = lora_values(files, training, arm["conditioning"], gate.part, cache, seed)
    return {**asked, "task": "views", "views": views}


def _common(seed: int) -> dict[str, Any]:
    return {"seed": seed, "ema_decay": 0.995, "checkpoint": {"every": 100, "keep": 1},
            "validation": {"every": 250, "clips": 16}, "log": {"every": 10}}


def _optimizer(rate: float, shares: tuple[float, float]) -> dict[str, Any]:
    begin, end = shares
    return {"learning_rate": rate * begin, "warmup_steps": 100, "weight_decay": 0.01, "final_factor": end / begin}


def ship_base(run: Path, target: Path, record: Mapping[str, Any]) -> None:
    """The base in float16, in ComfyUI's naming."""
    source = run / "base.safetensors"
    with safe_open(source, "pt") as stream:
        metadata = dict(stream.metadata())
    weights = {k: v.half() for k, v in load_file(source).items()}
    with write_whole(target) as temporary:
        save_file(weights, temporary, metadata={**metadata, "egox.stage": json.dumps(dict(record))})


def ship_lora(run: Path, target: Path) -> None:
    """The LoRA in float16, in the naming that stock loaders take too."""
    export(run / "lora.safetensors", target, "native", dtype=torch.float16)
