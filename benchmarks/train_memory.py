"""Memory of training the 14B: predicted for every option, and measured for one where a GPU is at hand.

    python3 run.py bench train_memory [--save]
    python3 -m benchmarks.train_memory --measure bfloat16     (needs a GPU; random weights made on the device)

The measured step is real: gradient checkpointing, rank-256 LoRA, geometry-guided attention, one AdamW step.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict

import torch

from benchmarks.support.memory_model import (
    ModelSize,
    TrainSetting,
    block_weights,
    estimate,
    lora_weights,
    other_weights,
)
from benchmarks.support.record import add_arguments, finish

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
TARGETS_GB = {"bf16 base": 80.0, "fp8 base": 48.0}


def predict() -> dict[str, dict[str, float]]:
    """GB (10^9) by part for every setting."""
    model = ModelSize()
    out = {}
    for name, setting in SETTINGS.items():
        found = estimate(model, setting)
        out[name] = {k: round(v / 1e9, 2) for k, v in asdict(found).items()} | {"total": round(found.total / 1e9, 1)}
    return out


def measure(base: str, small: bool) -> dict[str, float]:
    """Peak memory and seconds of one optimizer step; ``small``: a few layers on whatever device there is."""
    from diffusers import WanTransformer3DModel

    from egox_core.gga.diffusers_processor import install_gga
    from egox_core.gga.options import GgaOptions
    from egox_core.train.config import LoraSettings
    from egox_core.train.lora import add_lora
    from egox_core.train.offload import store_base
    from egox_core.types import GgaGeometry
    from egox_core.wan.transformer import cast_base

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = ModelSize(dim=128, ffn_dim=256, layers=2, heads=2) if small else ModelSize()
    t, h, w_exo, w_ego = (2, 4, 6, 4) if small else (13, 28, 49, 28)
    with torch.device("meta"):
        model = WanTransformer3DModel(
            num_attention_heads=size.heads, attention_head_dim=size.dim // size.heads, in_channels=36, out_channels=16,
            text_dim=size.text_dim, freq_dim=size.freq_dim, ffn_dim=size.ffn_dim, num_layers=size.layers,
            image_dim=size.image_dim, added_kv_proj_dim=size.dim)
    model.rope = type(model.rope)(size.dim // size.heads, (1, 2, 2), 1024)
    for module in model.modules():  # layer by layer, so that the float32 whole never exists
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                value = torch.randn(parameter.shape, device=device, dtype=torch.bfloat16).mul_(0.02)
                setattr(module, name, torch.nn.Parameter(value, requires_grad=False))
    cast_base(model, torch.bfloat16).to(device)
    store_base(model, base, device)
    parameters = add_lora(model, LoraSettings(rank=8 if small else 256), seed=0)
    model.to(device)
    scope = install_gga(model)
    model.enable_gradient_checkpointing()
    tokens = t * h * (w_exo + w_ego)
    dirs = torch.nn.functional.normalize
    scope.set([GgaGeometry(
        query_dirs=dirs(torch.randn(t, h * w_ego, 3, device=device), dim=-1),
        key_dirs=dirs(torch.randn(t, tokens, 3, device=device), dim=-1), key_trust=torch.ones(tokens, device=device),
        grid=(t, h, w_exo, w_ego))], GgaOptions(mode="released", lambda_g=3.0))
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    packed = torch.randn(1, 36, t, 2 * h, 2 * (w_exo + w_ego), device=device, dtype=torch.bfloat16)
    text = torch.randn(1, 512, size.text_dim, device=device, dtype=torch.bfloat16)
    image = torch.randn(1, 257, size.image_dim, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(2):  # the first step compiles kernels and makes the optimizer's state
        started = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            out = model(packed, torch.tensor([500.0], device=device), text, image, return_dict=False)[0]
        out[..., 2 * w_exo:].float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    return {"tokens": tokens, "peak_gb": round(peak, 2), "seconds_a_step": round(seconds[-1], 2), "device": str(device)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=("bfloat16", "float8", "int4"), help="run one real step (needs a GPU)")
    parser.add_argument("--small", action="store_true", help="with --measure: a tiny model, to try the script")
    add_arguments(parser)
    args = parser.parse_args()
    model = ModelSize()
    predicted = predict()
    result = {"predicted_gb": predicted, "weights": {
        "blocks": model.layers * block_weights(model), "others": other_weights(model),
        "lora_rank_256": lora_weights(model, TrainSetting())}}
    lines = [f"{'setting':<30}{'base':>8}{'LoRA+grad+opt':>15}{'activations':>13}{'total GB':>10}"]
    for name, part in predicted.items():
        trained = part["lora"] + part["gradients"] + part["optimizer"] + part["ema"]
        active = part["checkpoints"] + part["block"] + part["ends"] + part["bias"]
        goal = f"   target < {TARGETS_GB[name]:.0f}" if name in TARGETS_GB else ""
        lines.append(f"{name:<30}{part['base']:>8.1f}{trained:>15.1f}{active:>13.1f}{part['total']:>10.1f}{goal}")
    lines.append("Predicted, not measured: 14B, rank 256, 28,028 tokens, one clip a GPU.")
    if args.measure:
        if not args.small and not torch.cuda.is_available():
            print("--measure needs a GPU (or --small)", file=sys.stderr)
            return 2
        result["measured"] = {args.measure: measure(args.measure, args.small)}
        lines.append(f"Measured, {args.measure}: {result['measured'][args.measure]}")
    finish("train_memory", result, args, "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
