"""One process of ``bench gpu``: some parts, each row told as soon as it is there, in a file that the
bench reads."""

import gc
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.support.gpu_attention import kernel_rows
from benchmarks.support.gpu_row import GB, PACK, Row, anonymous, why
from benchmarks.support.record import matrix_rate
from egox_core.errors import EgoXInputError
from egox_core.gga import BACKENDS

GPU_TESTS = "tests/core"
WITHOUT_TRITON = "; without Triton: a guided layer takes 1.5 times as long (on an H200)"
TRAINING_SLACK, TRAINING_BAR_S = 1.1, 15.0
"""Share by which a training step's peak may be above the prediction; its time on a card of 9.0."""


def rows_of(part: str, given: dict[str, Any]) -> Iterator[Row]:
    """The rows of one part; ``given`` is what the bench handed over."""
    size, (kind, _, which) = given["size"], part.partition(" ")
    if kind == "host":
        from benchmarks.support.gpu_host import host_rows  # before anything asks the driver

        yield from host_rows(which, given)
        return
    if kind == "demo":
        from benchmarks.support.gpu_demo import demo_row

        yield demo_row(size, given["judged"])
        return
    on_gpu = torch.cuda.is_available()  # by number, since not all of torch takes it without
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    if kind == "device":
        yield _device_row(device)
    elif kind == "kernels":
        cases = [(which, batch) for batch in (1, 2)]
        yield from kernel_rows(size, device, ("auto", *BACKENDS), cases, given["judged"])
    elif kind == "tests":
        yield _tests_row(device)
    else:
        yield _training_row(size, which, device, given["judged"])


def _device_row(device: torch.device) -> Row:
    rate = matrix_rate(device)
    facts = {"matrix_flops_per_second": rate}
    text = f"{rate / 1e12:.1f} TFLOP/s of one large matrix product"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        facts |= {"name": card.name, "capability": [card.major, card.minor], "total_bytes": total}
        text += (
            f" in bf16, {total / GB:.0f} GB, of which {free / GB:.0f} are free, "
            f"compute {card.major}.{card.minor}"
        )
        if find_spec("triton") is None:
            text += WITHOUT_TRITON
    return Row(what="device", measured=text, numbers=facts)


def _training_row(size: str, base: str, device: torch.device, timed: bool) -> Row:
    """One step of the trainer's model."""
    what, judged = f"training step, {base}", size == "14b" and device.type == "cuda"
    stored = {"bf16": "bfloat16", "fp8": "float8"}[base]
    try:
        from benchmarks.support.training_step import measure, predicted_bytes

        predicted_gb = predicted_bytes(stored) / GB
        free_gb = torch.cuda.mem_get_info(device)[0] / GB if judged else predicted_gb
        if free_gb < predicted_gb:
            text = f"not run: predicted {predicted_gb:.1f} GB, {free_gb:.1f} are free"
            return Row(what=what, measured=text)
        seconds, peak_gb = measure(stored, size == "small")
    except (EgoXInputError, ImportError) as error:  # no diffusers, PEFT or, for fp8, torchao
        return Row(what=what, measured=f"not run: {why(error)}")
    text = f"{seconds:.2f} s, peak {peak_gb:.1f} GB of tensors"
    in_time = not timed or seconds <= TRAINING_BAR_S
    bar = f"<= {TRAINING_BAR_S:g} s, " * timed + f"peak <= {TRAINING_SLACK} of the prediction"
    return Row(
        what=what,
        measured=f"{text} (predicted {predicted_gb:.1f})",
        bar=bar if judged else "",
        held=in_time and peak_gb <= TRAINING_SLACK * predicted_gb if judged else None,
        numbers={"seconds": seconds, "peak_gb": peak_gb, "predicted_gb": predicted_gb},
    )


def _tests_row(device: torch.device) -> Row:
    """pytest on what takes tensors of any device."""
    what = "tests on the card"
    if device.type == "cpu" or find_spec("pytest") is None:
        return Row(what=what, measured="not run: takes a card and pytest")
    words = ["pytest", "-q", "--device", device.type, "-p", "no:cacheprovider", GPU_TESTS]
    run = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=PACK,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    last = (run.stdout.strip() or run.stderr.strip() or "no output").splitlines()[-1].strip("= ")
    return Row(what=what, measured=anonymous(last), bar="pass", held=run.returncode == 0)


def main() -> int:
    """One line per row in the file to tell, ``null`` after the last one of each part."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a server is ended
    given = json.loads(sys.argv[1])
    if given["size"] == "small":
        torch.set_num_threads(1)  # work this small is only held up by a second thread
    with open(given["told"], "a", encoding="utf-8", buffering=1) as told:
        for part in given["parts"]:
            try:
                for row in rows_of(part, given):
                    told.write(json.dumps(row.as_dict()) + "\n")
            except Exception as error:  # noqa: BLE001  (the other parts are still wanted)
                row = Row(what=part, measured=f"failed: {why(error)}", held=False)
                told.write(json.dumps(row.as_dict()) + "\n")
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            told.write("null\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
