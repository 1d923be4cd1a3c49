"""``bench gpu``: each kernel of guided attention against float64 and against plain attention.

The real shape is 28,028 tokens and 40 heads of 128, in bfloat16 and float16, for one and two
latents at once. The twin is computed in float64 for sampled ego queries of three frames. What is
judged there is a share of plain attention's own error in the same dtype."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.support import attention_case as rig
from benchmarks.support.gpu_row import Row, why
from benchmarks.support.record import peak_tensor_bytes
from egox_core.gga import GgaOptions, fused_rows, gga_attention, plain_attention

ERROR_BAR = 1.25
"""Largest error, as a multiple of plain attention's own. Kernels differ by that much in how they
round the softmax (float32 or the model's dtype) before it meets v; a wrong mask or a missed column
is off by tens of times."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SHAPES = {"14b": ("full", 40, 128), "small": ("small", 4, 64)}  # latents, heads, dim of a head
ROUNDS = {"14b": 5, "small": 1}
FOR_GPUS = ("cudnn", "efficient", "triton")
"""Kernels that run on GPUs only, and there not for every shape: a refusal is no failure."""


def kernel_rows(
    size: str, device: torch.device, names: Sequence[str], cases: Sequence[tuple[str, int]]
) -> Iterator[Row]:
    """Each named backend for these dtypes and batches: error and time beside plain attention."""
    latents, heads, dim = SHAPES[size]
    for dtype, batch in cases:
        where = f"{dtype}, batch {batch}"
        with torch.inference_mode():
            case = rig.make_case(rig.LATENTS[latents], heads, dim, DTYPES[dtype], device, batch)
            plain_name, seconds, plain = _plain(case, size)
            plain_error = rig.row_error(plain(), rig.exact_rows(case, None))
            yield Row(
                what=f"plain attention, {where}",
                measured=f"{seconds * 1e3:.1f} ms by {plain_name}, error {plain_error:.1e}",
                numbers={"seconds": seconds, "kernel": plain_name, "error": plain_error},
            )
            exact = rig.exact_rows(case, GgaOptions())
            for name in names:
                yield _backend_row(case, name, where, exact, plain, plain_error, size)
        del case, exact, plain
        if device.type == "cuda":
            torch.cuda.empty_cache()


def bias_rows_row(device: torch.device) -> Row:
    """Check whether the fused kernel makes the rows of bias."""
    if device.type != "cuda":
        return Row(what="rows of bias", measured="by torch: the fused kernel is for a GPU")
    choices = [fused_rows(device, dtype) for dtype in DTYPES.values()]
    return Row(
        what="rows of bias",
        bar="Triton, with torch's numbers",
        measured=f"by {' and '.join(choice.words for choice in choices)} (bf16, fp16)",
        held=all(choice.run is not None for choice in choices),
    )


def _plain(case: rig.Case, size: str) -> tuple[str, float, Callable[..., Tensor]]:
    """The fastest of torch's own kernels on this case."""

    def run(name: str) -> Tensor:
        with rig.kernel(name):
            return plain_attention(case.q, case.k, case.v, case.heads)

    works = {name: (lambda name=name: run(name)) for name in rig.PLAIN_KERNELS}
    seconds = rig.in_turns(works, case.q.device, ROUNDS[size])
    best = min(seconds, key=seconds.get)
    return best, seconds[best], lambda: run(best)


def _backend_row(
    case: rig.Case,
    name: str,
    where: str,
    exact: tuple[Tensor, Tensor],
    plain: Callable[[], Tensor],
    plain_error: float,
    size: str,
) -> Row:
    what, device, only_gpus = f"guided by {name}, {where}", case.q.device, name in FOR_GPUS
    if only_gpus and device.type != "cuda":
        return Row(what=what, measured="needs a GPU")

    def guided() -> Tensor:
        return gga_attention(
            case.q, case.k, case.v, case.heads, case.geometry, GgaOptions(), backend=name
        )

    try:
        error = rig.row_error(guided(), exact)
        seconds = rig.in_turns({"plain": plain, "guided": guided}, device, ROUNDS[size])
        extra_mb = (peak_tensor_bytes(guided, device) - peak_tensor_bytes(plain, device)) / 2**20
    except Exception as failure:  # noqa: BLE001  (a kernel may refuse in any way)
        return Row(
            what=what,
            measured=f"does not run here: {why(failure)}",
            held=None if only_gpus and "CUDA error" not in str(failure) else False,
        )
    ratio = seconds["guided"] / seconds["plain"]
    # Only what users get is held to the time; the others are there to be compared with it.
    timed = size == "14b" and device.type == "cuda" and name == "auto"
    numbers = {
        "error": error,
        "plain_error": plain_error,
        "ratio": ratio,
        "extra_mb": extra_mb,
        "seconds": seconds["guided"],
        "plain_seconds": seconds["plain"],
    }
    if device.type == "cuda":
        numbers["capability"] = list(torch.cuda.get_device_capability(device))
    bar = f"error <= {ERROR_BAR} of plain's" + f", time <= {rig.TIME_BAR} of plain's" * timed
    return Row(
        what=what,
        bar=bar,
        numbers=numbers,
        measured=f"error {error:.1e} ({error / plain_error:.2f} of plain's), "
        f"{seconds['guided'] * 1e3:.1f} ms, {ratio:.3f} of plain, {extra_mb:+.0f} MiB",
        held=error <= ERROR_BAR * plain_error and (not timed or ratio <= rig.TIME_BAR),
    )
