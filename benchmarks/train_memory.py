"""Memory of training the 14B: predicted for every option, and measured for one where a GPU is at hand.

    python3 run.py bench train_memory [--save]
    python3 -m benchmarks.train_memory --measure bfloat16     (needs a GPU; random weights made on the device)

The measured step is real: gradient checkpointing, rank-256 LoRA, geometry-guided attention, one AdamW step.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

import torch

from benchmarks.support.memory_model import (
    ModelSize,
    TrainSetting,
    block_weights,
    canvas_tokens,
    estimate,
    estimate_alignment,
    lora_weights,
    other_weights,
)
from benchmarks.support.record import bench_parser, finish
from egox_core.types import Panels
from egox_core.wan.align import AlignSize

SETTINGS = {
    "bf16 base": TrainSetting(),
    "fp8 base": TrainSetting(base="float8"),
    "4-bit base": TrainSetting(base="int4"),
    "bf16, block offload": TrainSetting(block_offload=True),
    "bf16, checkpoints on the CPU": TrainSetting(checkpoint_offload=True),
    "fp8, checkpoints on the CPU": TrainSetting(base="float8", checkpoint_offload=True),
    "fp8, 8-bit Adam": TrainSetting(base="float8", optimizer="adamw8bit"),
    "fp8, Adafactor": TrainSetting(base="float8", optimizer="adafactor"),
    "bf16, EMA": TrainSetting(ema=True),
    "bf16, no checkpointing": TrainSetting(checkpointing=False),
    "bf16, FSDP2 or ZeRO-3 on 8": TrainSetting(shards=8),
}
ALIGN = AlignSize()
VIEWS = {"4 views, full": Panels(views=4), "2 views, full": Panels(views=2),
         "4 views, mosaic": Panels(views=4, layout="mosaic")}
"""Layouts of several exo views, trained with pose injection on a frozen alignment and without geometry."""
BASES = {"bf16": {}, "fp8, checkpoints on the CPU": {"base": "float8", "checkpoint_offload": True}}
TARGETS_GB = {"bf16 base": 80.0, "fp8 base": 48.0}


def predict() -> dict[str, dict[str, float]]:
    """GB (10^9) by part for every setting."""
    model = ModelSize()
    estimates = {name: estimate(model, setting) for name, setting in SETTINGS.items()}
    for name, panels in VIEWS.items():
        tokens = canvas_tokens(panels)
        for base, more in BASES.items():
            estimates[f"{name}; {base}"] = estimate(model, TrainSetting(
                tokens=tokens, ego_tokens_a_frame=0, pose_hidden=512, align=ALIGN, **more))
        estimates[f"{name}: the alignment"] = estimate_alignment(ALIGN, tokens)
    out = {}
    for name, memory in estimates.items():
        out[name] = {k: round(v / 1e9, 2) for k, v in asdict(memory).items()} | {"total": round(memory.total / 1e9, 1)}
    return out


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--measure", choices=("bfloat16", "float8", "int4"), help="run one real step (needs a GPU)")
    parser.add_argument("--small", action="store_true", help="with --measure: a tiny model, to try the script")
    args = parser.parse_args()
    model = ModelSize()
    predicted = predict()
    result = {"predicted_gb": predicted, "weights": {
        "blocks": model.layers * block_weights(model), "others": other_weights(model),
        "lora_rank_256": lora_weights(model, TrainSetting())}}
    lines = [f"{'setting':<46}{'base':>8}{'LoRA+grad+opt':>15}{'activations':>13}{'total GB':>10}"]
    for name, part in predicted.items():
        trained = part["lora"] + part["gradients"] + part["optimizer"] + part["ema"]
        active = part["checkpoints"] + part["block"] + part["ends"] + part["bias"]
        goal = f"   target < {TARGETS_GB[name]:.0f}" if name in TARGETS_GB else ""
        lines.append(f"{name:<46}{part['base']:>8.1f}{trained:>15.1f}{active:>13.1f}{part['total']:>10.1f}{goal}")
    lines.append("Predicted, not measured: 14B, rank 256, one clip a GPU; 28,028 tokens but for several views.")
    if args.measure:
        if not args.small and not torch.cuda.is_available():
            print("--measure needs a GPU (or --small)", file=sys.stderr)
            return 2
        from benchmarks.support.training_step import measure  # needs diffusers and PEFT; predicting doesn't

        result["measured"] = {args.measure: measure(args.measure, args.small)}
        lines.append(f"Measured, {args.measure}: {result['measured'][args.measure]}")
    return finish("train_memory", result, args, "\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
