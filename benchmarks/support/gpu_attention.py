"""Benchmark the kernels of geometry-guided attention on a GPU, for ``bench gpu``.

The real shape is 28,028 tokens and 40 heads of 128, in bfloat16 and float16, for one and two
latents at once. The twin is computed in float64 for sampled ego queries of three frames. What is
judged there is a share of plain attention's own error in the same dtype. Times are medians of all
forms in turns: guided over the fastest plain one."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.support import attention_case as rig
from benchmarks.support.gpu_row import Row, error_line, judged_row
from egox_core.gga import GgaOptions, dense_bias, gga_attention, plain_attention

ERROR_BAR = 1.25
"""Largest error, as a multiple of plain attention's own: kernels round the softmax in float32 or in
the model's dtype, and a wrong mask is off by tens of times."""
TIME_LIMIT_RATIOS = {"bf16": 1.25, "fp16": 1.35}
"""Guided attention's time on a card of 9.0, of plain attention's by the fastest form."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
ATTENTION_SHAPES = {"14b": ((13, 56, 98, 56), 40, 128), "small": ((3, 8, 14, 8), 4, 64)}
"""Latents (t, h, w_exo, w_ego), heads, channels of a head."""
ROUNDS_BY_SIZE = {"14b": 7, "small": 1}
GPU_ONLY_KERNELS = ("cudnn", "triton")
"""Kernels that run on GPUs only, and there not for every shape: a refusal is no failure."""
DENSE_NAME = "the authors' dense map"


def kernel_rows(
    size: str,
    device: torch.device,
    names: Sequence[str],
    cases: Sequence[tuple[str, int]],
    judged: bool = False,
) -> Iterator[Row]:
    """Measure the error and the time of each named attention backend against plain attention, for
    several dtypes and batch sizes."""
    latents, head_count, head_dim = ATTENTION_SHAPES[size]
    for dtype, batch in cases:
        with torch.inference_mode():
            attention_case = rig.make_case(
                latents, head_count, head_dim, DTYPES[dtype], device, batch
            )
            time_limit_ratio = TIME_LIMIT_RATIOS[dtype] if judged else None
            yield from _case_rows(
                attention_case,
                names,
                f"{dtype}, batch {batch}",
                ROUNDS_BY_SIZE[size],
                time_limit_ratio,
            )
        del attention_case
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _case_rows(
    case: rig.AttentionCase,
    names: Sequence[str],
    case_description: str,
    rounds: int,
    time_bar: float | None,
) -> Iterator[Row]:
    plain_kernels, device = _plain_kernels(case), case.q.device
    plain_error = rig.relative_row_error(plain_kernels["default"](), rig.exact_rows(case, None))
    exact_result = rig.exact_rows(case, GgaOptions())
    guided_functions, guided_errors = {}, {}
    for name in names:
        guided_function = partial(
            gga_attention, *case.plain_inputs, case.geometry, GgaOptions(), backend=name
        )
        label = f"guided by {name}, {case_description}"
        try:
            guided_errors[label] = rig.relative_row_error(guided_function(), exact_result)
            guided_functions[label] = guided_function
        except Exception as failure:  # noqa: BLE001  (a kernel may refuse in any way)
            is_refused = name in GPU_ONLY_KERNELS and "CUDA error" not in str(failure)
            failure_text = f"does not run here: {error_line(failure)}"
            yield Row(what=label, measured=failure_text, held=None if is_refused else False)
    kernel_functions = plain_kernels | {DENSE_NAME: _dense_function(case)}
    median_s = rig.median_seconds(kernel_functions | guided_functions, device, rounds)
    fastest_plain = min(plain_kernels.keys() & median_s.keys(), key=median_s.__getitem__)
    other_times = ", ".join(
        f"{name} {median_s[name] * 1e3:.1f}" for name in kernel_functions if name in median_s
    )
    yield Row(
        what=f"plain attention, {case_description}",
        measured=(
            f"{median_s[fastest_plain] * 1e3:.1f} ms by {fastest_plain}, error {plain_error:.1e} "
            f"({other_times})"
        ),
        numbers={"kernel": fastest_plain, "error": plain_error, "seconds": median_s},
    )
    base_bytes = rig.peak_tensor_bytes(plain_kernels[fastest_plain], device)
    for label, guided_function in guided_functions.items():
        ratio, error_ratio = (
            median_s[label] / median_s[fastest_plain],
            guided_errors[label] / plain_error,
        )
        extra_mb = (rig.peak_tensor_bytes(guided_function, device) - base_bytes) / 2**20
        limits = {f"error <= {ERROR_BAR} of plain's": error_ratio <= ERROR_BAR}
        if time_bar is not None and label.startswith("guided by auto"):  # what users get
            limits[f"time <= {time_bar} of plain's"] = ratio <= time_bar
        yield judged_row(
            label,
            f"error {guided_errors[label]:.1e} ({error_ratio:.2f} of plain's), "
            f"{median_s[label] * 1e3:.1f} ms, {ratio:.3f} of plain, {extra_mb:+.0f} MiB",
            limits,
            error=guided_errors[label],
            ratio=ratio,
            seconds=median_s[label],
        )


def _plain_kernels(case: rig.AttentionCase) -> dict[str, Callable[[], Tensor]]:
    """List functions that compute attention without geometry, one for each of torch's kernels."""
    t, h, w_exo, _ = case.geometry.grid

    def run_kernel(name: str) -> Tensor:
        with rig.use_kernel(name):
            return plain_attention(*case.plain_inputs)

    def split_queries() -> Tensor:
        query_rows = case.q.unflatten(1, (t * h, -1))
        with rig.use_kernel("cudnn"):
            for query_half in (query_rows[:, :, :w_exo], query_rows[:, :, w_exo:]):
                half_results = plain_attention(query_half.flatten(1, 2), case.k, case.v, case.heads)
        return half_results

    return {name: partial(run_kernel, name) for name in rig.PLAIN_KERNELS} | {
        "cudnn, apart": split_queries
    }


def _dense_function(case: rig.AttentionCase) -> Callable[[], Tensor]:
    """Compute guided attention with the complete bias map as a mask, as the authors' code does."""
    q, k, v = (x.unflatten(-1, (case.heads, -1)).transpose(1, 2) for x in (case.q, case.k, case.v))
    bias_masks: list[Tensor] = []

    def run() -> Tensor:
        if not bias_masks:
            bias_masks.append(dense_bias(case.geometry, GgaOptions(), q.dtype)[None, None])
        return scaled_dot_product_attention(q, k, v, attn_mask=bias_masks[0])

    return run
