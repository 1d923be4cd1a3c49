"""Benchmark the parts of ``bench gpu`` that need no ComfyUI: the GPU, training steps and tests."""

import subprocess
import sys
from importlib.util import find_spec

import torch

from benchmarks.support.gpu_row import GB, PACK_FOLDER, Row, anonymise, error_line, judged_row
from benchmarks.support.record import matrix_rate
from egox_core.errors import EgoXInputError

GPU_TEST_FOLDER = "tests/core"
NO_TRITON_NOTE = "; without Triton: a guided layer takes 1.5 times as long (on an H200)"
MOST_PEAK_RATIO, MOST_TRAINING_STEP_S = 1.1, 15.0
"""Share by which a training step's peak may be above the prediction; its time on a card of 9.0."""


def device_row(device: torch.device) -> Row:
    """Describe the GPU, and measure its operations per second in one large matrix product."""
    flops_per_second = matrix_rate(device)
    device_facts = {"matrix_flops_per_second": flops_per_second}
    rate_text = f"{flops_per_second / 1e12:.1f} TFLOP/s of one large matrix product"
    if device.type == "cuda":
        gpu_properties = torch.cuda.get_device_properties(device)
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        device_facts |= {
            "name": gpu_properties.name,
            "capability": [gpu_properties.major, gpu_properties.minor],
            "total_bytes": total_bytes,
        }
        rate_text += (
            f" in bf16, {total_bytes / GB:.0f} GB, of which {free_bytes / GB:.0f} are free, "
            f"compute {gpu_properties.major}.{gpu_properties.minor}"
        )
        if find_spec("triton") is None:
            rate_text += NO_TRITON_NOTE
    return Row(what="device", measured=rate_text, numbers=device_facts)


def training_row(size: str, kind: str, device: torch.device, timed: bool) -> Row:
    """Measure the time and memory of one training step of the full-size model.

    ``kind``: the type of all weights on the card, or the card whose configuration is taken
    ("24 GB").
    """
    title = f"training step, {kind}"
    try:
        from benchmarks.support.training_step import measure

        measurement = measure(kind, device, size == "small")
    except (EgoXInputError, ImportError) as error:  # no diffusers, PEFT or, for fp8, torchao
        return Row(what=title, measured=f"not run: {error_line(error)}")
    seconds, peak_gb, predicted_gb = (
        measurement[name] for name in ("seconds", "peak_gb", "predicted_gb")
    )
    limits = {
        f"peak <= {MOST_PEAK_RATIO} of the prediction": peak_gb is not None
        and peak_gb <= MOST_PEAK_RATIO * predicted_gb
    }
    if timed and "main_gb" not in measurement:
        limits = {f"<= {MOST_TRAINING_STEP_S:g} s": seconds <= MOST_TRAINING_STEP_S} | limits
    peak_text = "not measured" if peak_gb is None else f"{peak_gb:.1f} GB of tensors"
    text = f"{seconds:.2f} s, peak {peak_text} (predicted {predicted_gb:.1f})"
    if "main_gb" in measurement:
        text += (
            " by {optimizer}, main memory {main_gb:.1f} GB (predicted {predicted_main_gb:.1f} "
            "with copies while saving)"
        ).format(**measurement)
    is_judged = size == "14b" and device.type == "cuda"
    return judged_row(title, text, limits, is_judged=is_judged, **measurement)


def tests_row(device: torch.device) -> Row:
    """Run the device-independent tests with pytest on the given device, and report their result as
    a table row."""
    title = "tests on the card"
    if device.type == "cpu" or find_spec("pytest") is None:
        return Row(what=title, measured="not run: takes a card and pytest")
    command_words = [
        "pytest",
        "-q",
        "--device",
        device.type,
        "-p",
        "no:cacheprovider",
        GPU_TEST_FOLDER,
    ]
    pytest_run = subprocess.run(
        [sys.executable, "-m", *command_words],
        cwd=PACK_FOLDER,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    last_line = (
        (pytest_run.stdout.strip() or pytest_run.stderr.strip() or "no output")
        .splitlines()[-1]
        .strip("= ")
    )
    return judged_row(title, anonymise(last_line), {"pass": pytest_run.returncode == 0})
