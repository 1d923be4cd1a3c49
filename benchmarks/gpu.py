"""Benchmark everything that needs a GPU but no downloaded weights: kernels, forward passes, memory
and training.

    python3 run.py bench gpu      on any CUDA GPU; without one, or with --small, at a small size
    python3 -m benchmarks.gpu     the same without .venv, with the ComfyUI in COMFYUI_DIR

To be run by whoever has a card that no page of benchmarks/results shows, or after a change of a
kernel. The surest rows come first: each kernel of guided attention in bf16 against float64, steps
of Wan 14B's shape with random weights through the host (guided, plain, with exo kept), a training
step, that of the configurations for 24 and 16 GB; then kernels in fp16, fp8 steps and egox_fast
with the device's memory held to 24 and 16 GB. A part whose package, ComfyUI or memory is missing
says so, and the next one runs. Times have a bar on 9.0, where they were measured. The page
(benchmarks/results/gpu_<name>.md and .json, or gpu.md and gpu.json in the folder of --out) is
written after each row, and names no people, computers or folders.
"""

import argparse
import gc
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.gpu_attention import kernel_rows
from benchmarks.support.gpu_row import GB, Row, error_line, judged_row
from benchmarks.support.record import RESULTS, add_machine_facts, matrix_rate
from egox_core.gga import BACKENDS
from egox_core.safe_files import atomic_write, write_json
from tools.rigs.wan_shapes import CLIPS, forward_flops
from tools.setup.host import find_host
from tools.setup.layout import SetupError

LARGE_BYTES = 40e9
"""A card with as much runs and trains bf16 weights; others fp8 ones."""
MOST_PEAK_RATIO, MOST_TRAINING_STEP_S = 1.1, 15.0
"""Share by which a training step's peak may be above the prediction; its time on a card of 9.0."""
NO_GPU_NOTE = "Without a GPU nothing here tells speed or memory."


def device_row(device: torch.device) -> Row:
    """Describe the GPU, and measure its operations per second in one large matrix product."""
    flops_per_second = matrix_rate(device)
    facts: dict[str, Any] = {"matrix_flops_per_second": flops_per_second}
    text = f"{flops_per_second / 1e12:.1f} TFLOP/s of one large matrix product"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        facts |= {"capability": [card.major, card.minor], "total_bytes": total_bytes}
        text += f" in bf16, {total_bytes / GB:.0f} GB, of which {free_bytes / GB:.0f} are free, "
        text += f"compute {card.major}.{card.minor}"
    return Row(what="device", measured=text, numbers=facts)


def training_row(size: str, device: torch.device, has_time_bar: bool, kind: str) -> Row:
    """Measure one training step of the full-size model.

    ``kind``: the type of all weights on the card, or the card whose configuration is taken ("24
    GB").
    """
    from benchmarks.support.training_step import measure

    numbers = measure(kind, device, size == "small")
    seconds, peak_gb, predicted_gb = (numbers[x] for x in ("seconds", "peak_gb", "predicted_gb"))
    is_judged = size == "14b" and peak_gb is not None
    limits = {}
    if is_judged:
        is_held = peak_gb <= MOST_PEAK_RATIO * predicted_gb
        limits[f"peak <= {MOST_PEAK_RATIO} of the prediction"] = is_held
    if has_time_bar and "main_gb" not in numbers:
        limits[f"<= {MOST_TRAINING_STEP_S:g} s"] = seconds <= MOST_TRAINING_STEP_S
    peak_text = "not measured" if peak_gb is None else f"{peak_gb:.1f} GB of tensors"
    text = f"{seconds:.2f} s, peak {peak_text} (predicted {predicted_gb:.1f})"
    if "main_gb" in numbers:
        main_text = " by {optimizer}, main memory {main_gb:.1f} GB (predicted "
        text += (main_text + "{predicted_main_gb:.1f} with copies while saving)").format(**numbers)
    return judged_row(f"training step, {kind}", text, limits, is_judged=is_judged, **numbers)


def list_parts(
    size: str, device: torch.device, card: dict[str, Any]
) -> dict[str, Callable[[], Iterable[Row]]]:
    """List the parts of the benchmark, the surest first. ``card``: the device row's numbers."""
    is_judged = size == "14b" and card["capability"] == [9, 0]
    gpu_bytes = card.get("total_bytes", LARGE_BYTES)
    weights = "bf16" if gpu_bytes >= LARGE_BYTES else "fp8"
    limit_s = forward_flops(size, CLIPS[size].tokens) / card["matrix_flops_per_second"]
    settings = {"size": size, "total_bytes": card.get("total_bytes"), "judged": is_judged}
    settings["forward_limit_s"] = limit_s

    def kernels(dtype: str) -> Iterable[Row]:
        cases = [(dtype, batch) for batch in (1, 2)]
        return kernel_rows(size, device, ("auto", *BACKENDS), cases, is_judged)

    def host(name: str) -> Iterable[Row]:
        from benchmarks.support.gpu_host import host_rows

        return host_rows(name, settings)

    def train(kind: str) -> Iterable[Row]:
        yield training_row(size, device, is_judged, kind)

    parts = [(kernels, "bf16"), (host, weights), (train, weights), (train, "24 GB")]
    parts += [(train, "16 GB"), (kernels, "fp16")]
    for weights_kind in ("fp8", "fast"):
        for limit_gb in (24, 16):
            if gpu_bytes > 0.95e9 * limit_gb:
                parts.append((host, f"{weights_kind} {limit_gb}"))
    return {f"{part.__name__} {details}": partial(part, details) for part, details in parts}


def rows_of_part(part: str, rows: Callable[[], Iterable[Row]]) -> Iterable[Row]:
    """Run one part, and tell a failure, or what it lacks, as its last row."""
    try:
        yield from rows()
    except (ImportError, SetupError) as lack:
        yield Row(what=part, measured=f"not run: {error_line(lack)}")
    except Exception as failure:  # noqa: BLE001  (the other parts are wanted)
        yield Row(what=part, measured=f"failed: {error_line(failure)}", held=False)


def row_line(row: Row) -> str:
    limit_met_text = {True: "yes", False: "**NO**", None: ""}[row.held]
    return f"| {row.what} | {row.measured.replace('|', '/')} | {row.bar} | {limit_met_text} |"


def table(result: dict[str, Any]) -> str:
    """Format the benchmark's result as Markdown."""
    rows = [Row(**row) for row in result["rows"]]
    held = [row.held for row in rows if row.held is not None]
    facts = ", ".join(f"{name} {value}" for name, value in result["facts"].items())
    lines = [
        f"**EgoX on {result['name']}**, {result['size']} size: {facts}\n",
        "| what | measured | bar | held |\n|---|---|---|---|",
        *map(row_line, rows),
        f"\nHeld: {sum(held)} of {len(held)}.",
    ]
    if result["not_run"]:
        lines.append(f"Not run: {', '.join(result['not_run'])}.")
    if result["size"] == "small":
        lines.append(NO_GPU_NOTE)
    return "\n".join(lines)


def write_page(out: Path | None, result: dict[str, Any]) -> None:
    """Write the page and its JSON file, each complete or not at all."""
    name = re.sub(r"[^a-z0-9]+", "_", result["name"].lower())
    file = RESULTS / f"gpu_{name}" if out is None else out / "gpu"
    if out is None and result["size"] == "small":
        file = file.with_name(f"{file.name}_small")
    # A kernel's error may be NaN, which JSON hasn't.
    text = json.dumps(add_machine_facts("gpu", result))
    write_json(file.with_suffix(".json"), json.loads(text, parse_constant=lambda _: None))
    with atomic_write(file.with_suffix(".md")) as temporary_file:
        temporary_file.write_text(table(result) + "\n", "utf-8")


def package_facts() -> dict[str, str]:
    """Name the versions of what the rows depend on, and start ComfyUI where there is one."""
    facts = {"torch": torch.__version__, "CUDA": torch.version.cuda or "none", "ComfyUI": "none"}
    facts |= {x: metadata.version(x) for x in ("triton", "diffusers") if find_spec(x)}
    with suppress(SetupError):
        host = find_host()
        from benchmarks.support.gpu_host import start_host

        facts["ComfyUI"] = f"{host.version_text} ({start_host()})"
    return facts


def main() -> int:
    start_time_s = time.monotonic()
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small also where there is a GPU")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no part begins")
    parser.add_argument("--out", type=Path, help="folder for the page, written after each row")
    parser.add_argument("--only", default="", help='parts that begin so, as "host bf16" or "train"')
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--save", action="store_true", help="keep it, also where it is small")
    args = parser.parse_args()
    # The host's allocator wants to be loaded before anything asks the driver.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    has_gpu = torch.cuda.is_available()
    if not args.small and not has_gpu and shutil.which("nvidia-smi"):
        sys.exit(
            "bench gpu: there is an NVIDIA card that torch doesn't see. Install a torch with CUDA "
            "(EGOX_TORCH_INDEX is its index), or a newer driver. (--small runs without it.)"
        )
    is_host_wanted = not args.only or args.only.startswith("host")
    facts = package_facts() if is_host_wanted else {"torch": torch.__version__}
    size = "14b" if has_gpu and not args.small else "small"
    if size == "small":
        torch.set_num_threads(1)  # work this small is only held up by a second thread
    # By number, since not all of torch takes it without.
    device = torch.device("cuda", torch.cuda.current_device()) if has_gpu else torch.device("cpu")
    name = torch.cuda.get_device_name(device) if has_gpu else "a CPU"
    rows: list[Row] = []
    not_run: list[str] = []

    def result() -> dict[str, Any]:
        passed = all(row.held is not False for row in rows)
        rows_as_dicts = [row.as_dict() for row in rows]
        return {"name": name, "size": size, "facts": facts, "not_run": not_run} | {
            "rows": rows_as_dicts,
            "passed": passed,
        }

    def keep(row: Row) -> None:
        rows.append(row)
        print(row_line(row), file=sys.stderr, flush=True)
        if args.save or args.out is not None or size == "14b":
            write_page(args.out, result())

    keep(device_row(device))
    parts = list_parts(size, device, rows[0].numbers)
    not_run += [part for part in parts if part.startswith(args.only)]
    with suppress(KeyboardInterrupt):
        while not_run and time.monotonic() - start_time_s < 60 * args.minutes:
            part = not_run.pop(0)
            for row in rows_of_part(part, parts[part]):
                keep(row)
            gc.collect()
            if has_gpu:
                with suppress(RuntimeError):  # after an error of the card itself
                    torch.cuda.empty_cache()
    record = add_machine_facts("gpu", result())
    print(json.dumps(record, indent=1) if args.json else table(result()))
    if args.out is not None:
        write_page(args.out, result())
    return 0 if record["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
