"""``bench gpu``: each kernel of guided attention against float64 and against plain attention.

The real shape is 28,028 tokens and 40 heads of 128, in bfloat16 and float16, for one and two
latents at once. The twin is computed in float64 for sampled ego queries of three frames. What is
judged there is a share of plain attention's own error in the same dtype. Times are medians of all
forms in turns: guided over the fastest plain one."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.support import attention_case as rig
from benchmarks.support.gpu_row import Row, why
from benchmarks.support.record import peak_tensor_bytes
from egox_core.gga import GgaOptions, dense_bias, fused_rows, gga_attention, plain_attention

ERROR_BAR = 1.25
"""Largest error, as a multiple of plain attention's own. Kernels differ by that much in how they
round the softmax (float32 or the model's dtype) before it meets v; a wrong mask or a missed column
is off by tens of times."""
TIME_BARS = {"bf16": 1.25, "fp16": 1.35}
"""Guided attention's time on a card of 9.0, of plain attention's by the fastest form."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SHAPES = {"14b": ("full", 40, 128), "small": ("small", 4, 64)}  # latents, heads, dim of a head
ROUNDS = {"14b": 7, "small": 1}
FOR_GPUS = ("cudnn", "efficient", "triton")
"""Kernels that run on GPUs only, and there not for every shape: a refusal is no failure."""
DENSE, SAGE = "the authors' dense map", "sage"


def kernel_rows(
    size: str,
    device: torch.device,
    names: Sequence[str],
    cases: Sequence[tuple[str, int]],
    judged: bool = False,
) -> Iterator[Row]:
    """Each named backend for these dtypes and batches: error and time beside plain attention."""
    latents, heads, dim = SHAPES[size]
    for dtype, batch in cases:
        with torch.inference_mode():
            case = rig.make_case(rig.LATENTS[latents], heads, dim, DTYPES[dtype], device, batch)
            bar = TIME_BARS[dtype] if judged else None
            yield from _case_rows(case, names, f"{dtype}, batch {batch}", ROUNDS[size], bar)
        del case
        if device.type == "cuda":
            torch.cuda.empty_cache()


def bias_rows_row(device: torch.device) -> Row:
    """Check whether the fused kernel makes the rows of bias."""
    if device.type != "cuda":
        return Row(what="rows of bias", measured="by torch: the fused kernel is for a GPU")
    choices = [fused_rows(device, dtype) for dtype in DTYPES.values()]
    words = f"by {' and '.join(choice.words for choice in choices)} (bf16, fp16)"
    if find_spec("triton") is None:
        words += "; without Triton a guided layer takes about 1.5 times as long (on an H200)"
    return Row(
        what="rows of bias",
        bar="Triton, with torch's numbers",
        measured=words,
        held=all(choice.run is not None for choice in choices),
    )


def _case_rows(
    case: rig.Case, names: Sequence[str], where: str, rounds: int, time_bar: float | None
) -> Iterator[Row]:
    device, on_gpu = case.q.device, case.q.is_cuda
    plain = _plain_forms(case)
    plain_error = rig.row_error(plain["default"](), rig.exact_rows(case, None))
    exact = rig.exact_rows(case, GgaOptions())
    guided, errors = {}, {}
    for name, run in {name: _guided(case, name) for name in names}.items():
        what, only_gpus = f"guided by {name}, {where}", name in FOR_GPUS
        if only_gpus and not on_gpu:
            yield Row(what=what, measured="needs a GPU")
            continue
        try:
            errors[name] = rig.row_error(run(), exact)
            guided[what] = run
        except Exception as failure:  # noqa: BLE001  (a kernel may refuse in any way)
            held = None if only_gpus and "CUDA error" not in str(failure) else False
            yield Row(what=what, measured=f"does not run here: {why(failure)}", held=held)
    sage = {}
    if SAGE in plain:  # as a host does that runs it: for all that carries no bias
        sage = {SAGE: _guided(case, "auto", plain=_sage)}
    with_map = {DENSE: _dense(case)}
    times = rig.in_turns(
        plain | with_map | guided | {f"guided, {SAGE}": run for run in sage.values()},
        device,
        rounds,
    )
    best = min((name for name in plain if name in times and name != SAGE), key=times.__getitem__)
    others = ", ".join(
        f"{name} {times[name] * 1e3:.1f}" for name in plain | with_map if name in times
    )
    yield Row(
        what=f"plain attention, {where}",
        measured=f"{times[best] * 1e3:.1f} ms by {best}, error {plain_error:.1e} ({others})",
        numbers={"kernel": best, "error": plain_error, "seconds": times[best], "all": times},
    )
    base_bytes = peak_tensor_bytes(plain[best], device)
    for name, (what, run) in zip(errors, guided.items(), strict=True):
        if what not in times:
            yield Row(what=what, measured="does not run twice", held=False)
            continue
        extra_mb = (peak_tensor_bytes(run, device) - base_bytes) / 2**20
        ratio, share = times[what] / times[best], errors[name] / plain_error
        bar = time_bar if name == "auto" else None  # only what users get is held to the time
        yield Row(
            what=what,
            bar=f"error <= {ERROR_BAR} of plain's" + f", time <= {bar} of plain's" * bool(bar),
            measured=f"error {errors[name]:.1e} ({share:.2f} of plain's), {times[what] * 1e3:.1f} "
            f"ms, {ratio:.3f} of plain, {extra_mb:+.0f} MiB",
            held=share <= ERROR_BAR and (bar is None or ratio <= bar),
            numbers={
                "error": errors[name],
                "plain_error": plain_error,
                "ratio": ratio,
                "extra_mb": extra_mb,
                "seconds": times[what],
                "plain_seconds": times[best],
            },
        )
    if SAGE in times and f"guided, {SAGE}" in times:
        ratio = times[f"guided, {SAGE}"] / times[SAGE]
        yield Row(what=f"guided with sage, {where}", measured=f"{ratio:.3f} of sage's own plain")


def _guided(case: rig.Case, name: str, **more: Any) -> Callable[[], Tensor]:
    return partial(
        gga_attention,
        case.q,
        case.k,
        case.v,
        case.heads,
        case.geometry,
        GgaOptions(),
        backend=name,
        **more,
    )


def _plain_forms(case: rig.Case) -> dict[str, Callable[[], Tensor]]:
    """Attention without geometry by each of torch's kernels, by cuDNN with exo and ego queries
    apart, and by Sage where it is installed."""
    t, h, w_exo, _ = case.geometry.grid

    def by(name: str) -> Tensor:
        with rig.kernel(name):
            return plain_attention(case.q, case.k, case.v, case.heads)

    def apart() -> Tensor:
        rows = case.q.unflatten(1, (t * h, -1))
        with rig.kernel("cudnn"):
            for half in (rows[:, :, :w_exo], rows[:, :, w_exo:]):
                out = plain_attention(half.flatten(1, 2), case.k, case.v, case.heads)
        return out

    forms = {name: partial(by, name) for name in rig.PLAIN_KERNELS} | {"cudnn, apart": apart}
    if find_spec("sageattention") is not None and case.q.is_cuda:
        forms[SAGE] = partial(_sage, case.q, case.k, case.v, case.heads)
    return forms


def _sage(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    from sageattention import sageattn

    q, k, v = (x.unflatten(-1, (heads, -1)) for x in (q, k, v))
    return sageattn(q, k, v, tensor_layout="NHD").flatten(2)


def _dense(case: rig.Case) -> Callable[[], Tensor]:
    """The authors' way: the whole map as a mask of all queries."""
    q, k, v = (x.unflatten(-1, (case.heads, -1)).transpose(1, 2) for x in (case.q, case.k, case.v))
    made: list[Tensor] = []

    def run() -> Tensor:
        if not made:
            made.append(dense_bias(case.geometry, GgaOptions(), q.dtype)[None, None])
        return scaled_dot_product_attention(q, k, v, attn_mask=made[0])

    return run
