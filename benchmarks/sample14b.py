"""Seconds and memory of a full-size forward: without geometry, with ours, and with the released scheme.

    python3 run.py bench sample14b                      on a GPU: the 14B, bfloat16 and fp8, at 24 and 16 GB too
    python3 run.py bench sample14b --size small         the same code on a small model, also on a CPU
    python3 run.py bench sample14b --account            what the memory is needed for; no GPU, no weights

Random weights of the full architecture (about 16.4 billion numbers) go through the host's own model class, patcher and
guider; time and memory don't depend on what the weights are. Each combination of weights and memory cap runs in a
process of its own, since the host reads --reserve-vram when it is imported. A cap sets both that and torch's share of
the device. A forward is one prompt's (CFG 1); a step with CFG takes two.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

import torch

from benchmarks.support.forward_bars import FLOP_BAR, GEOMETRY_BAR
from benchmarks.support.record import bench_parser, finish
from benchmarks.support.sample14b_worker import RESULT, SCHEMES, WEIGHTS
from tools.rigs.model_rig import core
from tools.rigs.pack_in_process import pack_on_host
from tools.rigs.wan_shapes import CLIPS, SIZES, forward_flops, parameter_bytes, released_lora, wan_model
from tools.setup.host import find_host
from tools.setup.layout import REPO_ROOT, SetupError

CAPS_GB = (None, 24, 16)


def memory_account(pack: ModuleType) -> dict[str, int]:
    """Bytes of the parts of a full-size run, from shapes alone."""
    t, h, w_exo, w_ego = CLIPS["14b"].grid
    tokens = CLIPS["14b"].tokens
    account = {}
    for name in ("bfloat16", "float8"):
        model = wan_model("14b", "meta", WEIGHTS[name], torch.bfloat16)
        account[f"weights {name}"] = parameter_bytes(model)
    lora = released_lora(pack, model)
    account["LoRA of rank 256, bfloat16"] = sum(tensor.numel() * 2 for tensor in lora.values())
    account["hidden states, bfloat16"] = tokens * SIZES["14b"]["dim"] * 2
    account["widest activation (feed-forward), bfloat16"] = tokens * SIZES["14b"]["ffn_dim"] * 2
    account["geometry, ours: tables"] = t * h * w_ego * 12 + t * tokens * 12 + tokens * 4
    attention = core(pack, "gga.attention")
    account["geometry, ours: chunk"] = attention.CHUNK_BYTES
    account["geometry, ours: unguided chunk"] = attention.UNGUIDED_BYTES
    account["geometry, released: cosine map"] = tokens**2 * 4
    account["geometry, released: bias of a block"] = tokens**2 * (4 + 2)
    return account


def worker_command(size: str, weights: str, cap_gb: float | None, steps: int) -> list[str]:
    call = {"size": size, "weights": weights, "cap_gb": cap_gb, "steps": steps}
    return [sys.executable, "-m", "benchmarks.support.sample14b_worker", json.dumps(call)]


def run_worker(size: str, weights: str, cap_gb: float | None, steps: int) -> dict[str, object]:
    """One process: the three schemes on one model. A failure, out of memory for one, is a result as well."""
    run = subprocess.run(worker_command(size, weights, cap_gb, steps), cwd=REPO_ROOT, capture_output=True, text=True)
    for line in reversed(run.stdout.splitlines()):
        if line.startswith(RESULT):
            return json.loads(line.removeprefix(RESULT))
    last = (run.stderr.strip() or run.stdout.strip() or "no output").splitlines()[-1]
    return {"weights": weights, "cap_gb": cap_gb, "failed": last}


def judge(result: dict[str, object], flops: float) -> dict[str, object]:
    """Adds ratios to a worker's result."""
    schemes = result.get("schemes", {})
    plain, ours, released = (schemes.get(name, {}).get("seconds") for name in SCHEMES)
    if plain and ours:
        result["geometry_ratio"] = ours / plain
        result["flop_limit_seconds"] = flops / result["matrix_flops_per_second"]
        result["to_flop_limit"] = ours / result["flop_limit_seconds"]
    if ours and released:
        result["released_to_ours"] = released / ours
    return result


def table(result: dict[str, object]) -> str:
    """The result for people."""
    lines = [f"{result['size']}, {result['tokens']} tokens, {result['flops'] / 1e12:.1f} TFLOP a forward"]
    for run in result["runs"]:
        cap = "all memory" if run["cap_gb"] is None else f"{run['cap_gb']:g} GB"
        lines.append(f"  weights {run['weights']}, {cap}" + (f": {run['failed']}" if "failed" in run else ""))
        for name, scheme in run.get("schemes", {}).items():
            if "failed" in scheme:
                lines.append(f"    {name:9s} {scheme['failed']}")
                continue
            peak = "" if scheme["peak_gb"] is None else (f", peak {scheme['peak_gb']:.2f} GB of tensors, "
                                                         f"{scheme['reserved_gb']:.2f} GB held")
            lines.append(f"    {name:9s} {scheme['seconds']:.3f} s a forward{peak}")
        if "decode_seconds" in run:
            lines.append(f"    decoding: ego half {run['decode_seconds']['ego']:.2f} s, both halves (as released) "
                         f"{run['decode_seconds']['both']:.2f} s")
        if "geometry_ratio" in run:
            lines.append(f"    geometry costs {100 * (run['geometry_ratio'] - 1):.1f} % (bar "
                         f"{100 * (GEOMETRY_BAR - 1):.0f} %); {run['to_flop_limit']:.2f} x the FLOP limit (bar "
                         f"{FLOP_BAR}); released scheme: {run.get('released_to_ours', float('nan')):.2f} x ours")
    return "\n".join(lines)


def main() -> int:
    parser = bench_parser(__doc__)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--size", choices=tuple(CLIPS), default="14b" if on_gpu else "small")
    parser.add_argument("--weights", nargs="+", choices=tuple(WEIGHTS),
                        default=["bfloat16", "float8"] if on_gpu else ["float32", "float8"])
    parser.add_argument("--caps", nargs="+", type=float, default=None, metavar="GB",
                        help="memory caps; 0 is none (default on a GPU: 0 24 16)")
    parser.add_argument("--steps", type=int, default=3, help="forwards that are timed, after one that is not")
    parser.add_argument("--account", action="store_true", help="only add up the memory, from shapes")
    args = parser.parse_args()
    if args.account:
        with pack_on_host("bench sample14b") as (_, pack):
            account = memory_account(pack)
        return finish("sample14b_account", {"bytes": account}, args,
                      "\n".join(f"  {name:45s} {size / 1e9:9.3f} GB" for name, size in account.items()))
    if find_host() is None:
        raise SetupError("sample14b needs ComfyUI: run it as `python3 run.py bench sample14b`, or set COMFYUI_DIR.")
    if args.size == "14b" and not on_gpu:
        raise SetupError("The 14B needs a GPU. Without one: --size small runs the same code, --account adds up memory.")
    caps = [cap or None for cap in args.caps] if args.caps is not None else (CAPS_GB if on_gpu else (None,))
    tokens = CLIPS[args.size].tokens
    flops = forward_flops(args.size, tokens)
    runs = [judge(run_worker(args.size, weights, cap, args.steps), flops) for weights in args.weights for cap in caps]
    result = {"size": args.size, "tokens": tokens, "flops": flops, "runs": runs,
              "bars": {"geometry_ratio": GEOMETRY_BAR, "to_flop_limit": FLOP_BAR}}
    if args.size == "14b":
        bars = [run["geometry_ratio"] <= GEOMETRY_BAR and run["to_flop_limit"] <= FLOP_BAR
                for run in runs if "geometry_ratio" in run and run["cap_gb"] is None]
        fits = [run for run in runs if run["weights"] == "float8" and run["cap_gb"] == 24 and "geometry_ratio" in run]
        result["passed"] = bool(bars) and all(bars) and bool(fits)
    return finish("sample14b" if args.size == "14b" else "sample14b_small", result, args, table(result),
                  all("failed" not in run for run in runs))


if __name__ == "__main__":
    raise SystemExit(main())
