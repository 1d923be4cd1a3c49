"""How a forward's time and memory grow with frames and size, and what geometry adds.

    python3 run.py bench scaling [--frames 17 33 49 81] [--sizes half released] [--save]

On a CPU a thin transformer (256 wide, four heads of 64, one layer) stands for the big one: attention, which grows with
the square, is the same code. On a GPU the width is the real one, with two layers. Memory is counted in tensors on a
CPU (repeatable) and by the allocator on a GPU. What geometry adds is one attention call's peak beyond that of plain
attention, and the tables of directions, which live as long as the sampling run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks import gga
from benchmarks._live_memory import peak_tensor_bytes
from benchmarks._record import add_arguments, finish
from benchmarks._sample14b_worker import patched_models, random_model, sample
from devtools.errors import SetupError
from devtools.host import find_host
from devtools.pack_in_process import import_host, load_pack
from devtools.wan_shapes import SIZES, Clip
from egox_core.gga import gga_attention, plain_attention
from egox_core.gga_options import GgaOptions

PICTURES = {"tiny": (112, 64, 64), "half": (400, 224, 224), "released": (784, 448, 448)}  # exo width, height, ego width
FRAMES = (17, 33, 49, 81)
MB = 2**20
LINEAR_SLACK = 1.05
"""How much more than the tokens the extra memory may grow: a chunk is a whole number of image rows."""


def forward(patched: Any, clip: Clip) -> tuple[float, float]:
    """(seconds, peak MiB of tensors) of one forward, through the host's guider."""
    stamps: list[float] = []

    def work() -> None:
        stamps.append(time.perf_counter())
        sample(patched, clip, 1)
        stamps.append(time.perf_counter())

    if patched.load_device.type == "cuda":  # the first run there loads, compiles and picks kernels
        work()
    peak = peak_tensor_bytes(work, patched.load_device)
    return stamps[-1] - stamps[-2], peak / MB


def geometry_memory(clip: Clip, heads: int, dim: int, device: torch.device) -> tuple[float, float]:
    """(MiB of one attention call beyond plain attention, MiB of the tables)."""
    t, h, w_exo, w_ego = clip.grid
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    case = gga.make_case((t, 2 * h, 2 * w_exo, 2 * w_ego), heads, dim, dtype, device)
    plain = peak_tensor_bytes(lambda: plain_attention(case.q, case.k, case.v, heads), device)
    ours = peak_tensor_bytes(lambda: gga_attention(case.q, case.k, case.v, heads, case.geometry, GgaOptions()), device)
    tables = (case.geometry.query_dirs, case.geometry.key_dirs, case.geometry.key_trust)
    return (ours - plain) / MB, sum(table.nbytes for table in tables) / MB


def measure(pack: ModuleType, model: Any, model_size: str, clip: Clip) -> dict[str, Any]:
    """One row of the table."""
    plain, ours, _ = patched_models(pack, model, clip).values()
    row: dict[str, Any] = {"frames": clip.frames, "size": f"{clip.exo_width}+{clip.ego_width}x{clip.height}",
                           "tokens": clip.tokens}
    for name, patched in (("plain", plain), ("ours", ours)):
        row[f"{name}_seconds"], row[f"{name}_peak_mb"] = forward(patched, clip)
    shape = SIZES[model_size]
    row["extra_mb"], row["tables_mb"] = geometry_memory(clip, shape["num_heads"],
                                                        shape["dim"] // shape["num_heads"], model.load_device)
    return row


def at_most_linear(rows: list[dict[str, Any]]) -> bool:
    """Whether extra memory (tables too) grows no faster than tokens, from each row to every larger one."""
    extra = sorted((row["tokens"], max(0.0, row["extra_mb"]) + row["tables_mb"]) for row in rows)
    return all(more <= LINEAR_SLACK * less * after / before
               for i, (before, less) in enumerate(extra) for after, more in extra[i + 1:])


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"{'frames':>6s}  {'size':14s} {'tokens':>7s} {'plain s':>8s} {'ours s':>8s} {'ratio':>6s} "
             f"{'plain MiB':>10s} {'ours MiB':>9s} {'geometry MiB':>13s} {'tables MiB':>11s}"]
    for row in result["rows"]:
        ratio = row["ours_seconds"] / row["plain_seconds"]
        lines.append(f"{row['frames']:6d}  {row['size']:14s} {row['tokens']:7d} {row['plain_seconds']:8.2f} "
                     f"{row['ours_seconds']:8.2f} {ratio:6.2f} {row['plain_peak_mb']:10.0f} {row['ours_peak_mb']:9.0f} "
                     f"{row['extra_mb']:13.1f} {row['tables_mb']:11.2f}")
    lines.append("geometry's memory grows at most with the tokens" if result["passed"] else
                 "geometry's memory grows FASTER than the tokens")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", nargs="+", type=int, default=list(FRAMES))
    parser.add_argument("--sizes", nargs="+", choices=tuple(PICTURES), default=["half", "released"])
    add_arguments(parser)
    args = parser.parse_args()
    host = find_host()
    if host is None:
        raise SetupError("scaling needs ComfyUI: run it as `python3 run.py bench scaling`, or set COMFYUI_DIR.")
    on_gpu = torch.cuda.is_available()
    model_size = "wide" if on_gpu else "thin"
    with tempfile.TemporaryDirectory() as base, torch.inference_mode():
        # The host's default attention on a CPU is not torch's, which is what a user with a GPU has.
        import_host(host.root, Path(base), use_pytorch_cross_attention=True)
        pack = load_pack()
        model = random_model(model_size, "bfloat16" if on_gpu else "float32")
        clips = [Clip(frames=frames, exo_width=exo, height=height, ego_width=ego)
                 for exo, height, ego in (PICTURES[name] for name in args.sizes) for frames in args.frames]
        rows = [measure(pack, model, model_size, clip) for clip in clips]
    result = {"model": dict(SIZES[model_size]), "rows": rows, "passed": at_most_linear(rows)}
    finish("scaling", result, args, table(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
