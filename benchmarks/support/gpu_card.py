"""Benchmark the parts of ``bench gpu`` that need no ComfyUI: the GPU, matrix products, a training
step, and tests."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from benchmarks.support.attention_case import median_seconds
from benchmarks.support.gpu_row import GB, PACK_FOLDER, Row, anonymise, error_line
from benchmarks.support.record import matrix_rate
from egox_core.errors import EgoXInputError
from tools.rigs.wan_shapes import CLIPS, SIZES

GPU_TEST_FOLDER = "tests/core"
NO_TRITON_NOTE = "; without Triton: a guided layer takes 1.5 times as long (on an H200)"
MOST_PEAK_RATIO, MOST_TRAINING_STEP_S = 1.1, 15.0
"""Share by which a training step's peak may be above the prediction; its time on a card of 9.0."""
ROUNDS = 5
LARGEST_FP8, LARGEST_INT8 = 448.0, 127.0


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


def product_rows(size: str, device: torch.device) -> Iterator[Row]:
    """Measure the time of one transformer block's matrix products in bf16, fp8 and int8.

    Activations are cast as files of that kind have it: fp8 at scale 1 (clipped at 448), int8 by
    rows of both.
    """
    model_dim, ffn_dim = SIZES[size]["dim"], SIZES[size]["ffn_dim"]
    # A CPU multiplies 8-bit floats one by one.
    tokens = 2 * CLIPS[size].tokens if device.type == "cuda" else 32
    random_generator = torch.Generator(device=device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random_generator, device=device).bfloat16()

    # Of self- and cross-attention q and o, of self-attention k and v, and the feed-forward pair.
    shapes = [(model_dim, model_dim)] * 6 + [(model_dim, ffn_dim), (ffn_dim, model_dim)]
    activations = {width: random(tokens, width) for width in {model_dim, ffn_dim}}
    weights = [
        (activations[input_width], random(output_width, input_width) * input_width**-0.5)
        for input_width, output_width in shapes
    ]
    with torch.inference_mode():
        exact_products = [x[:256].float() @ w.float().T for x, w in weights]
        product_functions = {
            name: [partial(multiply_function, x, *stored_as(w)) for x, w in weights]
            for name, stored_as, multiply_function in (
                ("bf16", lambda w: (w,), bf16_product),
                ("fp8", fp8_weight, fp8_product),
                ("int8", int8_weight, int8_product),
            )
        }
        seconds_by_name = median_seconds(
            {name: partial(run_all, functions) for name, functions in product_functions.items()},
            device,
            ROUNDS,
        )
        for name, functions in product_functions.items():
            if name not in seconds_by_name:
                yield Row(what=f"products of a block, {name}", measured="does not run here")
                continue
            relative_errors = [
                (function()[:256].float() - y).norm() / y.norm()
                for function, y in zip(functions, exact_products, strict=True)
            ]
            ratio = seconds_by_name[name] / seconds_by_name["bf16"]
            error = float(torch.stack(relative_errors).max())
            yield Row(
                what=f"products of a block, {name}",
                measured=(
                    f"{seconds_by_name[name] * 1e3:.1f} ms, {ratio:.3f} of bf16's, error "
                    f"{error:.1e}"
                ),
                numbers={"seconds": seconds_by_name[name], "ratio": ratio, "error": error},
            )


def run_all(functions: list[Callable[[], Tensor]]) -> None:
    for function in functions:
        function()


def bf16_product(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.T


def fp8_weight(w: Tensor) -> tuple[Tensor, Tensor]:
    scale = w.abs().amax().float() / LARGEST_FP8
    return (w / scale).to(torch.float8_e4m3fn), scale


def fp8_product(x: Tensor, w: Tensor, scale: Tensor) -> Tensor:
    fp8_input = x.clamp(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn)
    unit_scale = torch.ones_like(scale)
    return torch._scaled_mm(fp8_input, w.T, scale_a=unit_scale, scale_b=scale, out_dtype=x.dtype)


def int8_weight(w: Tensor) -> tuple[Tensor, Tensor]:
    scale = w.abs().amax(1, keepdim=True).float() / LARGEST_INT8
    return (w / scale).round().to(torch.int8), scale


def int8_product(x: Tensor, w: Tensor, scale: Tensor) -> Tensor:
    int8_codes, row_scale = int8_weight(x)
    return (torch._int_mm(int8_codes, w.T) * row_scale * scale.T).to(x.dtype)


def training_row(size: str, base: str, device: torch.device, timed: bool) -> Row:
    """Measure the time and memory of one training step of the full-size model."""
    title, is_judged = f"training step, {base}", size == "14b" and device.type == "cuda"
    storage_dtype = {"bf16": "bfloat16", "fp8": "float8"}[base]
    try:
        from benchmarks.support.training_step import measure, predicted_bytes

        predicted_gb = predicted_bytes(storage_dtype) / GB
        free_gb = torch.cuda.mem_get_info(device)[0] / GB if is_judged else predicted_gb
        if free_gb < predicted_gb:
            result_text = f"not run: predicted {predicted_gb:.1f} GB, {free_gb:.1f} are free"
            return Row(what=title, measured=result_text)
        seconds, peak_gb = measure(storage_dtype, size == "small")
    except (EgoXInputError, ImportError) as error:  # no diffusers, PEFT or, for fp8, torchao
        return Row(what=title, measured=f"not run: {error_line(error)}")
    result_text = f"{seconds:.2f} s, {peak_text(peak_gb)}"
    is_fast_enough = not timed or seconds <= MOST_TRAINING_STEP_S
    limit_text = f"peak <= {MOST_PEAK_RATIO} of the prediction"
    if timed:
        limit_text = f"<= {MOST_TRAINING_STEP_S:g} s, {limit_text}"
    return Row(
        what=title,
        measured=f"{result_text} (predicted {predicted_gb:.1f})",
        bar=limit_text if is_judged else "",
        held=is_fast_enough and peak_fits(peak_gb, predicted_gb) if is_judged else None,
        numbers={"seconds": seconds, "peak_gb": peak_gb, "predicted_gb": predicted_gb},
    )


def offloaded_rows(size: str, gigabytes: str, device: torch.device) -> Iterator[Row]:
    """Measure one training step that keeps blocks and checkpoints in main memory, to fit a GPU of
    ``gigabytes`` GB."""
    title, is_judged = f"training step, {gigabytes} GB", size == "14b" and device.type == "cuda"
    try:
        from benchmarks.support.training_step import measure_offloaded

        measurement = measure_offloaded(gigabytes, size == "small")
    except (EgoXInputError, ImportError) as error:  # no diffusers, PEFT, pydantic
        yield Row(what=title, measured=f"not run: {error_line(error)}")
        return
    predicted_gb, main_gb = measurement["predicted_gb"], measurement["predicted_main_gb"]
    yield Row(
        what=title,
        measured=(
            f"{measurement['seconds']:.2f} s by {measurement['optimizer']}, "
            f"{peak_text(measurement['peak_gb'])} (predicted {predicted_gb:.1f}), main memory "
            f"{measurement['main_gb']:.1f} GB (predicted {main_gb:.1f} with copies while saving)"
        ),
        bar=f"peak <= {MOST_PEAK_RATIO} of the prediction" if is_judged else "",
        held=peak_fits(measurement["peak_gb"], predicted_gb) if is_judged else None,
        numbers=measurement,
    )


def peak_text(
    peak_gb: float | None,  # of tensors
) -> str:
    return "peak not measured" if peak_gb is None else f"peak {peak_gb:.1f} GB of tensors"


def peak_fits(peak_gb: float | None, predicted_gb: float) -> bool:
    """Check that the measured peak memory exceeds the predicted one by at most a tolerance."""
    return peak_gb is not None and peak_gb <= MOST_PEAK_RATIO * predicted_gb


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
    return Row(
        what=title, measured=anonymise(last_line), bar="pass", held=pytest_run.returncode == 0
    )
