"""``bench gpu``: each kernel of guided attention against float64 and against plain attention.

The real shape is 28,028 tokens and 40 heads of 128, in bfloat16 and float16, for one and two latents at once. The twin
is computed in float64 for sampled ego queries of three frames. What is judged there is a share of plain attention's own
error in the same dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.support.attention_case import (
    LATENTS,
    PLAIN_KERNELS,
    TIME_BAR,
    Case,
    exact_rows,
    in_turns,
    kernel,
    make_case,
    row_error,
)
from benchmarks.support.gpu_row import Row, why
from benchmarks.support.record import peak_tensor_bytes
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.options import GgaOptions
from egox_core.gga.triton_rows import fused_rows

ERROR_BAR = 1.25
"""How much larger than plain attention's own the error may be. Kernels differ by that much in how they round the
softmax (float32 or the model's dtype) before it meets v; a wrong mask or a missed column is off by tens of times."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SHAPES = {"14b": ("full", 40, 128), "small": ("small", 4, 64)}  # latents, heads, dim of a head
FOR_GPUS = ("cudnn", "efficient")
"""Kernels that torch has for GPUs only, and there not for every shape: a refusal is no failure."""


def kernel_rows(size: str, device: torch.device, names: tuple[str, ...], batches: tuple[int, ...] = (1, 2),
                dtypes: tuple[str, ...] = ("bf16", "fp16"), rounds: int = 5) -> Iterator[Row]:
    """Each named backend: error and time beside plain attention."""
    latents, heads, dim = SHAPES[size]
    for dtype in dtypes:
        for batch in batches:
            where = f"{dtype}, batch {batch}"
            with torch.inference_mode():
                case = make_case(LATENTS[latents], heads, dim, DTYPES[dtype], device, batch)
                options = GgaOptions()
                plain_name, plain_seconds, plain = _plain(case, device, rounds)
                plain_error = row_error(plain(), exact_rows(case, None))
                yield Row(what=f"plain attention, {where}",
                          measured=f"{plain_seconds * 1e3:.1f} ms by {plain_name}, error {plain_error:.1e}",
                          numbers={"seconds": plain_seconds, "kernel": plain_name, "error": plain_error})
                exact = exact_rows(case, options)
                for name in names:
                    yield _backend_row(case, name, where, exact, plain, plain_error, device, rounds, size)
            del case, exact, plain
            if device.type == "cuda":
                torch.cuda.empty_cache()


def bias_rows_row(device: torch.device) -> Row:
    """Whether the fused kernel makes the rows of bias."""
    if device.type != "cuda":
        return Row(what="rows of bias", measured="by torch: the fused kernel is for a GPU")
    choices = [fused_rows(device, dtype) for dtype in DTYPES.values()]
    fused = all(choice.run is not None for choice in choices)
    return Row(what="rows of bias", measured="by " + ", ".join(f"{choice.words} ({name})" for name, choice in
                                                               zip(DTYPES, choices, strict=True)),
               bar="Triton, with torch's numbers", held=fused, numbers={"fused": fused})


def _plain(case: Case, device: torch.device, rounds: int) -> tuple[str, float, Callable[..., Tensor]]:
    """The fastest of torch's own kernels on this case."""
    def run(name: str) -> Tensor:
        with kernel(name):
            return plain_attention(case.q, case.k, case.v, case.heads)

    seconds = in_turns({name: (lambda name=name: run(name)) for name in PLAIN_KERNELS}, device, rounds)
    best = min(seconds, key=seconds.get)
    return best, seconds[best], lambda: run(best)


def _backend_row(case: Case, name: str, where: str, exact: tuple[Tensor, Tensor], plain: Callable[[], Tensor],
                 plain_error: float, device: torch.device, rounds: int, size: str) -> Row:
    what = f"guided by {name}, {where}"
    if name in FOR_GPUS and device.type != "cuda":
        return Row(what=what, measured="needs a GPU")

    def guided() -> Tensor:
        return gga_attention(case.q, case.k, case.v, case.heads, case.geometry, GgaOptions(), backend=name)

    try:
        error = row_error(guided(), exact)
        seconds = in_turns({"plain": plain, "guided": guided}, device, rounds)
        extra_mb = (peak_tensor_bytes(guided, device) - peak_tensor_bytes(plain, device)) / 2**20
    except Exception as failure:  # noqa: BLE001  (a kernel may refuse in any way; the others are still wanted)
        if "CUDA error" in str(failure):
            raise  # nothing works after it in this process
        return Row(what=what, measured=f"does not run here: {why(failure)}", held=None if name in FOR_GPUS else False)
    ratio = seconds["guided"] / seconds["plain"]
    right = error <= ERROR_BAR * plain_error
    # Only what users get is held to the time; the others are there to be compared with it.
    timed = size == "14b" and device.type == "cuda" and name == "auto"
    return Row(what=what, measured=f"error {error:.1e} ({error / plain_error:.2f} of plain's), "
               f"{seconds['guided'] * 1e3:.1f} ms, {ratio:.3f} of plain, {extra_mb:+.0f} MiB",
               bar=f"error <= {ERROR_BAR} of plain's" + (f", time <= {TIME_BAR} of plain's" if timed else ""),
               held=right and (not timed or ratio <= TIME_BAR),
               numbers={"error": error, "plain_error": plain_error, "seconds": seconds["guided"],
                        "plain_seconds": seconds["plain"], "ratio": ratio, "extra_mb": extra_mb})
