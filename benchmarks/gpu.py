"""Benchmark everything that needs a GPU but no downloaded weights: kernels, forward passes, memory
and training.

    python3 run.py bench gpu      on any CUDA GPU; without one, or with --small, at a small size

From top to bottom, the surest rows first: each kernel of guided attention in bf16 against float64,
steps of Wan 14B's shape with random weights through the host, beside 8.2 GB of a text encoder
(guided, with exo kept and where it lies, plain), a training step, that of the configurations for 24
and 16 GB; then kernels in fp16, the tests that take a device, fp8 steps and egox_fast with the
device's memory held to 24 and 16 GB, egox_demo on the real server. Each row is printed, and
the page written, when it is there; a part that fails or outruns its share of --minutes says so, and
the next runs. Times have a bar on 9.0, where they were measured. The page has no names of people,
computers or folders, fit for a bug report: benchmarks/results/gpu_<name>.md and .json, or gpu.md
and gpu.json (some 30 KB) in the folder of --out, there from the first second on: what the
machine has, what is left out, what runs now and what is to come.

`python3 -m benchmarks.gpu` in a copy of the tree does the same without run.py's environment, with
the ComfyUI in COMFYUI_DIR; kernels need torch and numpy alone.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from lab.first_look import missing_packages, this_machine, write_first
from tools.setup.host import Host, find_host
from tools.setup.layout import SetupError

LEFT_OUT = {
    "triton": "the fastest kernel",
    "diffusers": "training steps",
    "pydantic": "training steps",
    "peft": "training steps",
    "cv2": "training steps",
    "psutil": "training steps for 24 and 16 GB",
    "torchao": "training steps of fp8",
    "bitsandbytes": "8-bit Adam, for which AdamW steps in",
    "pytest": "the tests",
}
"""Package -> what is left out where it is missing."""
MAIN_MEMORY_GB = {"24": 47, "16": 39}
"""Main memory that the trainer predicts for the configuration for a card of so many GB."""
DISK_GB = 2
"""For compiled kernels and the server's folder."""


def first_look(out: Path | None) -> tuple[Host | None, list[str]]:
    """Find ComfyUI, and print what the machine has and which parts of the benchmark must be
    skipped.

    The same is written into the folder.
    """
    comfyui_host, machine, host_error = None, this_machine(), ""
    try:
        comfyui_host = find_host()
    except SetupError as error:  # names its folder, which the page doesn't
        host_error = str(error)
    left_out_parts = [
        f"not installed: {name}, so without {LEFT_OUT[name]}" for name in missing_packages(LEFT_OUT)
    ]
    if comfyui_host is None:
        left_out_parts.append(
            "not installed: ComfyUI, so without its steps, and the demo, whose text it makes"
        )
    if machine["disk_gb"] < DISK_GB:
        left_out_parts.append(
            f"disk: too little for compiled steps and the demo, which take {DISK_GB} GB"
        )
    left_out_parts += [
        f"main memory: too little for a training step of the 14B for {card_name} GB: {needed_gb} GB"
        for card_name, needed_gb in MAIN_MEMORY_GB.items()
        if machine["main_memory_gb"] is not None and machine["main_memory_gb"] < needed_gb
    ]
    machine_facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    print(
        "\n".join(filter(None, [machine_facts, host_error, *left_out_parts])),
        file=sys.stderr,
        flush=True,
    )
    if out is not None:
        record = {"machine": machine, "left_out": left_out_parts, "running": "imports", "rows": []}
        write_first(out / "gpu.json", {"benchmark": "gpu", **record})
    return comfyui_host, left_out_parts


def main() -> int:
    start_time_s = time.monotonic()
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small also where there is a GPU")
    parser.add_argument("--minutes", type=float, default=60.0, help="for all of it")
    parser.add_argument("--out", type=Path, help="folder for the page, written after each row")
    parser.add_argument("--only", default="", help='parts that begin so, as "host bf16" or "train"')
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--save", action="store_true", help="keep it, also where it is small")
    args = parser.parse_args()
    comfyui_host, left_out_parts = first_look(args.out)
    # The host's allocator wants to be loaded before anything asks the driver.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    from benchmarks.support.gpu_run import run_bench  # noqa: PLC0415

    return run_bench(comfyui_host, start_time_s, args, left_out_parts)


if __name__ == "__main__":
    sys.exit(main())
