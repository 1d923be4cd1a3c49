"""From raw data to a LoRA that the server's nodes load, with this repository's own commands, small, on a CPU.

    python3 run.py bench train_e2e [--work FOLDER] [--save]

Every stage goes on where it stopped, so a second call is quick. What it does:
1. ``prepare`` on the real raw take (four exo cameras, two clips each, stand-in depth) where ../shared has it, and on 32
   synthetic takes; 2. ``cache``; 3. ``train`` a tiny Wan base on plain image-to-video of single synthetic views, then
the LoRA on it; 4. ``export`` and ``inspect``; 5. the LoRA in the ComfyUI server's nodes, sampled.

Figures are of held-out takes at fixed noise and noise levels. The VAE is a stand-in: random weights, only given Wan's
latent statistics; so the figures say that training works, and the decoded video shows nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.support.record import bench_parser, finish
from benchmarks.support.train_e2e import HEIGHT, WIDTH, calibrate_vae, sample_in_server, write_takes
from lab.small_model.lotus import save_text_embedding
from tools.setup.environment import this_environment

ROOT = Path(__file__).resolve().parent.parent
STANDIN_VAE = ROOT / "models" / "vae" / "egox_standin_wan_vae.safetensors"
TAKES, FRAMES, HELD_OUT = 32, 9, 0.25
BASE_STEPS, LORA_STEPS = 400, 500
SEED = 0
BARS = {"lora / base": 0.8, "lora / zero": 1.0, "other take / own": 1.05}


def command(*arguments: object) -> float:
    """Runs ``train_egox.py`` with these arguments; seconds. Raises RuntimeError where it fails."""
    started = time.monotonic()
    run = subprocess.run([sys.executable, str(ROOT / "train_egox.py"), *map(str, arguments)], cwd=ROOT,
                         env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise RuntimeError(f"train_egox.py {arguments[0]} ended with {run.returncode}")
    print(run.stdout.strip().splitlines()[-1], file=sys.stderr)
    return time.monotonic() - started


def settings(work: Path, task: str, steps: int) -> Path:
    """The YAML of one training."""
    lora = task == "egox_lora"
    values: dict[str, Any] = {
        "task": task, "base": str(work / ("base/base.safetensors" if lora else "untrained.safetensors")),
        "cache": str(work / "cache"), "output": str(work / ("lora" if lora else "base")), "steps": steps,
        "batch_size": 8, "seed": SEED,
        "memory": {"base_dtype": "float32", "compute_dtype": "float32", "gradient_checkpointing": False},
        "optimizer": {"learning_rate": 2e-3, "warmup_steps": 30, "weight_decay": 0.01},
        "checkpoint": {"every": 100, "keep": 1}, "validation": {"every": 100, "clips": 8}, "log": {"every": 10},
        "lora": {"rank": 32, "alpha": 32, "targets": ["attn1", "attn2", "ffn"]},
    }
    file = work / f"{task}.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def figures(config_file: Path, lora: Path) -> dict[str, float]:
    """The four losses on held-out takes."""
    from egox_core.train.config import load_config
    from egox_core.train.lora import read_lora
    from egox_core.train.model import make_trainable
    from egox_core.train.samples import CachedSamples
    from egox_core.train.validation import validation_loss

    config = load_config(config_file)
    trainable = make_trainable(config, torch.device("cpu"))
    samples = CachedSamples(config, "validation")
    items = samples.groups[0]
    # The LoRA's B is still zero: this is the base's loss.
    base = validation_loss(trainable.model, trainable.scope, samples, items, config.conditioning)
    trainable.put(read_lora(lora)[0], "LoRA")
    own = validation_loss(trainable.model, trainable.scope, samples, items, config.conditioning)
    other = validation_loss(trainable.model, trainable.scope, samples, items, config.conditioning, wrong_take=True)
    takes = {samples.reader.take_of(i.clip) for i in items}
    return {"held-out takes": len(takes), "held-out clips": len(items), "base": base.loss, "lora": own.loss,
            "zero": own.zero, "other take": other.loss, "lora / base": own.loss / base.loss,
            "lora / zero": own.loss / own.zero, "other take / own": other.loss / own.loss}


def run(work: Path, shared: Path) -> dict[str, Any]:
    """All stages; what was found, and the seconds of each."""
    work.mkdir(parents=True, exist_ok=True)
    environment = this_environment()
    seconds: dict[str, float] = {}
    raw: dict[str, Any] | str = "left out: no raw take in ../shared"
    source = shared / "data" / "egoexo4d_raw"
    if source.is_dir():
        seconds["prepare raw"] = command("prepare", source, work / "raw", "--frames", FRAMES, "--stride", 49,
                                         "--clips-per-camera", 2, "--size", "224x128", "--depth", "plane",
                                         "--validation", 0, "--test", 0)
        report = json.loads((work / "raw" / "report.json").read_text(encoding="utf-8"))
        raw = {"clips": report["clips"], "depth": report["depth"], "skipped": len(report["skipped"])}
    started = time.monotonic()
    write_takes(work / "takes", TAKES)
    seconds["synthetic takes"] = time.monotonic() - started
    seconds["prepare synthetic"] = command(
        "prepare", work / "takes", work / "set", "--frames", FRAMES, "--stride", 4, "--size",
        f"{WIDTH}x{HEIGHT}", "--prior", "clean", "--validation", HELD_OUT, "--test", 0)
    if not (work / "vae.safetensors").is_file():
        from egox_core.data.manifest import read_manifest

        held_out = (work / "set" / "splits" / "validation.txt").read_text(encoding="utf-8").split()
        records = [r for r in read_manifest(work / "set" / "manifest.jsonl") if r.clip not in held_out]
        calibrate_vae(STANDIN_VAE, work / "vae.safetensors", work / "set", records[:12])
    if not (work / "text.safetensors").is_file():
        save_text_embedding(environment, work / "text.safetensors")
    seconds["cache"] = command(
        "cache", work / "set" / "manifest.jsonl", work / "cache", "--vae", work / "vae.safetensors", "--text",
        work / "text.safetensors", "--image-embedding", "none", "--views", "--dtype", "float32")
    if not (work / "untrained.safetensors").is_file():
        from egox_core.wan.transformer import save_untrained

        save_untrained(work / "untrained.safetensors", SEED, num_attention_heads=2, attention_head_dim=64, num_layers=4,
                       text_dim=1024, freq_dim=256, ffn_dim=512)
    seconds["train base"] = command("train", "--config", settings(work, "base_i2v", BASE_STEPS))
    config = settings(work, "egox_lora", LORA_STEPS)
    seconds["train LoRA"] = command("train", "--config", config)
    losses = figures(config, work / "lora" / "lora.safetensors")
    command("export", work / "lora", work / "native.safetensors", "--form", "native")
    command("inspect", work / "lora" / "lora.safetensors")
    held_out = (work / "set" / "splits" / "validation.txt").read_text(encoding="utf-8").split()
    started = time.monotonic()
    server = sample_in_server(
        environment, work, {"base": work / "base" / "base.safetensors", "vae": work / "vae.safetensors",
                            "lora": work / "lora" / "lora.safetensors"},
        work / "set" / "clips" / held_out[0], frames=FRAMES, size=HEIGHT, steps=4)
    seconds["server"] = time.monotonic() - started
    passed = (losses["lora / base"] <= BARS["lora / base"] and losses["lora / zero"] < BARS["lora / zero"]
              and losses["other take / own"] >= BARS["other take / own"]
              and server["difference_of_strength_1_and_0"] > 0.5)
    return {"raw": raw, "figures": {k: round(v, 4) for k, v in losses.items()}, "server": server, "bars": BARS,
            "steps": {"base": BASE_STEPS, "lora": LORA_STEPS}, "passed": passed,
            "seconds": {k: round(v, 1) for k, v in seconds.items()}}


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / ".egox" / "train_e2e",
                        help="folder for everything it makes")
    args = parser.parse_args()
    missing = [name for name in ("accelerate", "peft", "pydantic", "yaml") if importlib.util.find_spec(name) is None]
    if missing:
        print(f'not installed: {", ".join(missing)}; pip install -e "{ROOT}[train]"',
              file=sys.stderr)
        return 2
    result = run(args.work, ROOT.parent / "shared")
    losses = result["figures"]
    lines = [f"raw take: {result['raw']}",
             f"held out: {losses['held-out clips']} clips of {losses['held-out takes']} takes; loss: "
             f"base {losses['base']}, LoRA {losses['lora']}, predicting zero {losses['zero']}, "
             f"LoRA with another take's exo and prior {losses['other take']}",
             f"LoRA / base {losses['lora / base']} (bar <= 0.8), LoRA / zero {losses['lora / zero']} (bar < 1), "
             f"other / own {losses['other take / own']} (bar >= 1.05)",
             f"server: {result['server']}", f"seconds: {result['seconds']}", "passed" if result["passed"] else "FAILED"]
    return finish("train_e2e", result, args, "\n".join(lines), result["passed"])


if __name__ == "__main__":
    raise SystemExit(main())
