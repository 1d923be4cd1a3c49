"""From raw data to a LoRA, with this repository's own commands, small, on a CPU.

    python3 run.py bench train_e2e [--work FOLDER] [--save]

To be run again after a change of data preparation, cache or trainer. ``prepare`` on the real raw
take where ../shared has it and on drawn takes, ``cache`` by the demo's VAE, ``train`` of a tiny Wan
base on plain image-to-video of single views, then of the LoRA on it, ``export``, ``inspect``,
``generate``. Every stage goes on where it stopped.

Figures are losses of held-out takes at fixed noise and noise levels: of the LoRA, of its base, of
predicting zero, and of the LoRA given another take's exo and prior. The released form's tensors must
all be found by the reader that the nodes use, and strength 0 must draw another video.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from benchmarks.support.record import bench_parser, finish
from egox_core.errors import needs_package
from egox_core.file_names import META
from egox_core.video.reader import decode_frames, probe_video
from egox_core.wan.lora_keys import convert_lora
from egox_core.wan.transformer import save_untrained
from lab.drawn import SyntheticSpec, make_take, write_take

ROOT = Path(__file__).resolve().parent.parent
RAW = ROOT.parent / "shared" / "data" / "egoexo4d_raw"
VAE = ROOT / "models" / "demo" / "vae" / "egox_demo_vae.safetensors"
TAKES, FRAMES, HEIGHT, WIDTH, TEXT_DIM = 24, 9, 64, 112, 64
STEPS = {"base_i2v": 300, "egox_lora": 300}
MOST = {"lora / base": 0.8, "lora / zero": 1.0, "own / other take": 0.95}
LEAST_CHANGE = 0.5
"""Of 255, between strengths 1 and 0."""


def command(*arguments: object) -> float:
    """Run ``train_egox.py``; seconds."""
    started = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "train_egox.py"), *map(str, arguments)], cwd=ROOT, check=True,
                   env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=sys.stderr)
    return round(time.monotonic() - started, 1)


def settings(work: Path, task: str) -> Path:
    """Write the YAML of one training."""
    base = "base/base.safetensors" if task == "egox_lora" else "untrained.safetensors"
    values: dict[str, Any] = {
        "task": task, "base": str(work / base), "cache": str(work / "cache"),
        "output": str(work / ("lora" if task == "egox_lora" else "base")), "steps": STEPS[task], "batch_size": 8,
        "memory": {"base_dtype": "float32", "compute_dtype": "float32", "gradient_checkpointing": False},
        "optimizer": {"learning_rate": 2e-3, "warmup_steps": 30, "weight_decay": 0.01},
        "checkpoint": {"every": 100, "keep": 1}, "validation": {"every": 0},
        "lora": {"rank": 32, "alpha": 32, "targets": ["attn1", "attn2", "ffn"]},
    }
    file = work / f"{task}.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def held_out(config_file: Path, lora: Path) -> dict[str, float]:
    """The four losses and their ratios."""
    from egox_core.train.config import load_config
    from egox_core.train.lora import read_lora
    from egox_core.train.model import make_trainable
    from egox_core.train.samples import CachedSamples
    from egox_core.train.validation import validation_loss

    config = load_config(config_file)
    trainable = make_trainable(config, torch.device("cpu"))
    samples = CachedSamples(config, "validation")

    def loss(wrong_take: bool = False):
        return validation_loss(trainable.model, trainable.scope, samples, samples.groups[0], config.conditioning,
                               wrong_take=wrong_take)

    base = loss()  # the LoRA's B is still zero
    trainable.put(read_lora(lora)[0], "LoRA")
    own, other = loss(), loss(wrong_take=True)
    return {"clips": len(samples.groups[0]), "base": base.loss, "lora": own.loss, "zero": own.zero,
            "other take": other.loss, "lora / base": own.loss / base.loss, "lora / zero": own.loss / own.zero,
            "own / other take": own.loss / other.loss}


def read(video: Path) -> np.ndarray:
    info = probe_video(video)
    return np.stack([picture for _, picture in decode_frames(video, info, list(range(info.frame_count)))])


def run(work: Path) -> dict[str, Any]:
    """All stages: figures, and the seconds of each."""
    work.mkdir(parents=True, exist_ok=True)
    seconds, lora = {}, work / "lora" / "lora.safetensors"
    if RAW.is_dir():
        seconds["prepare raw"] = command(
            "prepare", RAW, work / "raw", "--frames", FRAMES, "--stride", 49, "--clips-per-camera", 2,
            "--size", "224x128", "--depth", "plane", "--validation", 0, "--test", 0)
    for seed in range(TAKES):
        if not (work / "takes" / f"drawn_{seed:03d}" / META).is_file():  # written last
            spec = SyntheticSpec(seed=seed, frames=17, exo_width=WIDTH, exo_height=HEIGHT, ego_size=HEIGHT,
                                 texture="plain", clutter="calm", edge_samples=1)
            write_take(make_take(spec), work / "takes" / f"drawn_{seed:03d}")
    seconds["prepare"] = command("prepare", work / "takes", work / "set", "--frames", FRAMES, "--stride", 4, "--size",
                                 f"{WIDTH}x{HEIGHT}", "--prior", "clean", "--validation", 0.25, "--test", 0)
    seconds["cache"] = command("cache", work / "set" / "manifest.jsonl", work / "cache", "--vae", VAE, "--text",
                               f"zeros:4x{TEXT_DIM}", "--image-embedding", "none", "--views", "--dtype", "float32")
    if not (work / "untrained.safetensors").is_file():
        save_untrained(work / "untrained.safetensors", 0, num_attention_heads=2, attention_head_dim=64, num_layers=4,
                       text_dim=TEXT_DIM, freq_dim=256, ffn_dim=512)
    for task in STEPS:
        seconds[task] = command("train", "--config", settings(work, task))
    figures = held_out(work / "egox_lora.yaml", lora)
    command("export", work / "lora", work / "native.safetensors", "--form", "native")
    command("inspect", lora)
    videos = []
    for strength in (1, 0):
        out = work / f"generated_{strength}"
        seconds[f"generate at {strength}"] = command(
            "generate", work / "cache", out, "--base", work / "base" / "base.safetensors", "--vae", VAE,
            "--lora", lora, "--strength", strength, "--steps", 4)
        videos.append(np.stack([read(file) for file in sorted(out.glob("*.mp4"))]).astype(float))
    figures["strengths apart"] = float(np.abs(videos[0] - videos[1]).mean())
    loaded = convert_lora(load_file(lora))
    failed = [f"{name} {figures[name]:.3f}, bar {most}" for name, most in MOST.items() if not figures[name] <= most]
    failed += [] if loaded.matched and not loaded.unmatched else [f"{len(loaded.unmatched)} tensors unmatched"]
    failed += [] if figures["strengths apart"] >= LEAST_CHANGE else ["strength 0 draws the same video"]
    return {"figures": {name: round(value, 4) for name, value in figures.items()}, "tensors": loaded.matched,
            "steps": STEPS, "seconds": seconds, "failed": failed}


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / ".egox" / "train_e2e", help="for all that it makes")
    args = parser.parse_args()
    with needs_package("accelerate", "bench train_e2e", expected="the train extra"):
        import accelerate  # noqa: F401
    result = run(args.work)
    lines = [f"{name:>18}: {json.dumps(value)}" for name, value in result.items()]
    return finish("train_e2e", result, args, "\n".join(lines), not result["failed"])


if __name__ == "__main__":
    raise SystemExit(main())
