"""One process of ``bench gpu``: some parts in order, each row told as soon as it is there.

A part that fails loses nothing but itself; one that runs out of time, or leaves the device unusable, ends the process,
and the bench starts another for the parts that are left.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.gpu_attention import bias_rows_row, kernel_rows
from benchmarks.support.gpu_forward import forward_rows, offload_rows, training_rows
from benchmarks.support.gpu_memory import compute_device, empty
from benchmarks.support.gpu_row import Row, anonymous, why
from benchmarks.support.record import matrix_rate
from egox_core.gga.backends import BACKENDS

SAYS = "EGOX_GPU "
CAP_GB = 24.0
DEVICE_IS_LOST = 3
"""Exit code: the part is told, but nothing works in the process any more."""
GPU_TESTS = "tests/core/gga"
REPO_ROOT = Path(__file__).resolve().parent.parent.parent


def rows_of(part: str, given: dict[str, Any], memory_in_words: str) -> Iterator[Row]:
    """The rows of one part; ``given`` is what the bench handed over."""
    size, rate = given["size"], given.get("matrix_rate")
    device = compute_device()
    kind, _, weights = part.partition(" ")
    cap = CAP_GB if "24gb" in kind else None
    if kind == "device":
        yield from _device_rows(device)
    elif kind == "kernels":
        yield from kernel_rows(size, device, ("auto", *BACKENDS), rounds=5 if size == "14b" else 1)
    elif kind == "tests":
        yield _tests_row()
    elif kind in ("torch", "torch_24gb"):
        yield from forward_rows(size, weights, device, rate, cap)
    elif kind == "torch_offload":
        yield from offload_rows(size, weights, device, CAP_GB)
    elif kind == "train":
        yield from training_rows(size, weights, device)
    else:
        from benchmarks.support.gpu_host import host_rows

        note = {"host": "", "host_24gb": f", {CAP_GB:g} GB cap", "host_offload": ", offload forced"}[kind]
        yield from host_rows(size, weights, memory_in_words, Path(given["keep"]), rate, cap, note)


def _device_rows(device: torch.device) -> Iterator[Row]:
    rate = matrix_rate(device)
    facts = {"matrix_flops_per_second": rate}
    text = f"{rate / 1e12:.1f} TFLOP/s of one large matrix product"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        capability = f"{properties.major}.{properties.minor}"
        facts |= {"capability": capability, "total_bytes": total, "free_bytes": free}
        text += f" in bf16, {total / 1e9:.0f} GB, of which {free / 1e9:.0f} are free, compute {capability}"
    yield Row(what="device", measured=text, numbers=facts)
    yield bias_rows_row(device)


def _tests_row() -> Row:
    """pytest on what is marked for a GPU."""
    if importlib.util.find_spec("pytest") is None:
        return Row(what="tests marked gpu", measured="not run: pytest is not installed")
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", GPU_TESTS],
                         cwd=REPO_ROOT, capture_output=True, text=True, encoding="utf-8", errors="replace")
    last = (run.stdout.strip() or run.stderr.strip() or "no output").splitlines()[-1].strip("= ")
    # 5: nothing was selected.
    return Row(what="tests marked gpu", measured=anonymous(last), bar="pass",
               held=None if run.returncode == 5 else run.returncode == 0)


def say(kind: str, **what: Any) -> None:
    print(SAYS + json.dumps({"kind": kind, **what}), flush=True)


def main() -> int:
    given = json.loads(sys.argv[1])
    if given["size"] == "small":
        torch.set_num_threads(1)  # work this small is only held up by a second thread
    began, memory_in_words = time.perf_counter(), ""
    if given["host"] is not None:
        from benchmarks.support.gpu_host import start_host

        try:
            memory_in_words = start_host(**given["host"])
        except Exception as error:  # noqa: BLE001  (told for the parts that needed it)
            say("unusable", why=why(error))
            return 0
    say("ready")
    for part in given["parts"]:
        start = time.perf_counter()
        if start - began + given["least_s"][part] > given["left_s"]:
            say("skipped", part=part)
            continue
        say("start", part=part)
        try:
            for row in rows_of(part, given, memory_in_words):
                say("row", part=part, row=row.as_dict())
                given["matrix_rate"] = row.numbers.get("matrix_flops_per_second", given["matrix_rate"])
        except Exception as error:  # noqa: BLE001  (whatever it is, the other parts are still wanted)
            failed = Row(what=part, measured=f"failed: {why(error)}", held=False)
            say("row", part=part, row=failed.as_dict())
            if "CUDA error" in str(error):
                say("end", part=part, seconds=time.perf_counter() - start)
                return DEVICE_IS_LOST
        say("end", part=part, seconds=time.perf_counter() - start)
        try:
            empty(compute_device())
        except RuntimeError:
            return DEVICE_IS_LOST
    return 0


if __name__ == "__main__":
    sys.exit(main())
