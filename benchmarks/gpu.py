"""Everything that only a GPU can tell, without weights: kernels, forwards, memory, training.

    python3 run.py bench gpu      on any CUDA GPU; without one, or with --small, at a small size

From top to bottom, the surest rows first: each kernel of guided attention in bf16 against float64,
steps of Wan 14B's shape with random weights through the host, beside 8.2 GB of a text encoder
(guided, with exo kept and where it lies, plain), a training step, that of the configurations for 24
and 16 GB; then what has run on few cards or none: the steps compiled in turns with eager, the
products of a block in bf16, fp8 and int8, kernels in fp16, the tests that take a device, fp8 steps and
egox_fast with the device's memory held to 24 and 16 GB, egox_demo on the real server. Each row is
printed, and the page written (--out names its folder), when it is there; a part that fails or outruns
its share of --minutes says so, and the next runs. Times have a bar on 9.0, where they were measured.
The page has no names of people, computers or folders, fit for a bug report:
benchmarks/results/gpu_<name>.md, at the end .json too.

`python3 -m benchmarks.gpu` in a copy of the tree does the same without run.py's environment, with
the ComfyUI in COMFYUI_DIR; kernels need torch and numpy alone.
"""

import os
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec

from tools.setup.host import Host, find_host
from tools.setup.layout import SetupError

LEFT_OUT = {
    "triton": "the fastest kernel",
    "diffusers": "training steps",
    "pydantic": "training steps",
    "peft": "training steps",
    "psutil": "training steps for 24 and 16 GB",
    "torchao": "training steps of fp8",
    "bitsandbytes": "8-bit Adam, for which AdamW steps in",
    "pytest": "the tests",
}
"""Package -> what is left out where it is missing."""
MAIN_GB = {"24": 47, "16": 39}
"""Main memory that the trainer predicts for the configuration for a card of so many GB."""
DISK_GB = 2
"""For compiled kernels and the server's folder."""


def first_look() -> Host | None:
    """Say, before torch is imported, what is there, missing and left out; the host."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    host = None
    try:
        host = find_host()
        without = "ComfyUI" if host is None else ""
    except SetupError as error:
        without = f"ComfyUI ({error})"
    for name, what in LEFT_OUT.items():
        if find_spec(name) is None:
            say(f"not installed: {name}, so without {what}")
    if without:
        say(f"not installed: {without}, so without its steps, and the demo, whose text it makes")
    else:
        say("ComfyUI is there, which makes the demo's text")
    disk = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    short = f", too little for compiled steps and the demo: {DISK_GB}" if disk < DISK_GB else ""
    say(f"disk: {disk:.1f} GB free{short}")
    if find_spec("psutil") is not None:
        import psutil  # noqa: PLC0415

        memory = psutil.virtual_memory().available / 1e9
        say(f"main memory: {memory:.1f} GB free")
        for card, needed in MAIN_GB.items():
            if memory < needed:
                say(f"so without a training step of the 14B for {card} GB, which takes {needed}")
    return host


def main() -> int:
    started = time.monotonic()
    host = first_look()
    # The host's allocator wants to be loaded before anything asks the driver.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    from benchmarks.support.gpu_run import run_bench  # noqa: PLC0415

    return run_bench(host, started, __doc__.splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
