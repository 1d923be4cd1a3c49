"""Test the choice of attention kernels, whose results are compared with float32 head by head."""

import re
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from egox_core.gga import backends, kernel_check, kernel_table, plain
from egox_core.gga.attention import gga_attention
from egox_core.gga.backends import BACKENDS, KernelsUsed
from egox_core.gga.bias import reference_attention
from egox_core.gga.kernel_check import AGREEMENT, TIMED_RUNS, Choosing
from egox_core.gga.options import GgaOptions
from egox_core.types import GgaGeometry
from tests.core.gga.test_attention import random_geometry
from tests.refusals import refuses

HEADS, HEAD_SIZE = 3, 64
SMALL_HEAD = 1  # head whose values are a thousandth of the others'
HALF_TYPES = (torch.bfloat16, torch.float16)
OPTIONS = GgaOptions(lambda_g=1.0)  # no slope: here kernels are judged, not the formula

with_and_without_autocast = pytest.mark.parametrize("autocast", [False, True])
in_half_precision = pytest.mark.parametrize("dtype", HALF_TYPES)


@pytest.fixture(autouse=True)
def _clear_kernel_choices(monkeypatch) -> None:
    monkeypatch.setattr(kernel_check, "_cached_choices", {})
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("sdpa",))


def draw_geometry(device: torch.device) -> GgaGeometry:
    return random_geometry(device, latent_size=(2, 12, 16, 12))


def draw_qkv(
    device, dtype: torch.dtype, gain: float, has_shared_channels: bool = False
) -> list[Tensor]:
    """Draw random q, k and v of two samples, scaled by a gain, with some channels large for all
    tokens."""
    generator = torch.Generator().manual_seed(1)
    token_count = draw_geometry(device).tokens
    q, k, v = (torch.randn(2, token_count, HEADS, HEAD_SIZE, generator=generator) for _ in range(3))
    for x in (q, k):
        x *= gain
        x[..., :3] += 4 * gain * has_shared_channels
    v[:, :, SMALL_HEAD] *= 1e-3
    return [x.flatten(2).to(device, dtype) for x in (q, k, v)]


def autocast_context(device, autocast: bool, dtype: torch.dtype):
    return torch.autocast(device.type, dtype) if autocast else nullcontext()


def head_errors(result: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # -> [heads]
    """Measure the largest error of each attention head against float64, relative to its largest
    value."""
    exact_inputs = q.double(), k.double(), v.double(), HEADS, draw_geometry(q.device)
    exact_result = reference_attention(*exact_inputs, OPTIONS)
    largest_error, largest_value = (
        x.unflatten(-1, (HEADS, HEAD_SIZE)).abs().amax((0, 1, 3))
        for x in (result.double() - exact_result, exact_result)
    )
    return largest_error / largest_value


def check_result(qkv: list[Tensor], **options) -> None:
    result = gga_attention(*qkv, HEADS, draw_geometry(qkv[0].device), OPTIONS, **options)
    assert (head_errors(result, *qkv) <= AGREEMENT[result.dtype]).all()


def make_wrong_kernel(sample: slice):
    """Make an attention kernel that wrongly ignores the bias in one small head of some samples."""
    torch_kernel = BACKENDS["sdpa"]
    head_channels = slice(SMALL_HEAD * HEAD_SIZE, (SMALL_HEAD + 1) * HEAD_SIZE)

    def wrong_kernel(q, k, v, heads, bias_rows, queries):
        result = torch_kernel(q, k, v, heads, bias_rows, queries)
        unguided_head = torch_kernel(
            q[..., head_channels],
            k[..., head_channels],
            v[..., head_channels],
            1,
            lambda rows: torch.zeros_like(bias_rows(rows)),
            queries,
        )
        result[sample, ..., head_channels] = unguided_head[sample]
        return result

    return wrong_kernel


@with_and_without_autocast
@pytest.mark.parametrize(("gain", "has_shared_channels"), [(1, False), (6, False), (6, True)])
@in_half_precision
def test_correct_kernel_is_chosen_for_peaked_attention(
    dtype, gain, has_shared_channels, autocast, device
):
    kernels_used = KernelsUsed()
    qkv = draw_qkv(device, dtype, gain, has_shared_channels)
    with autocast_context(device, autocast, dtype):
        for backend in ("sdpa", "steady", "auto"):
            check_result(qkv, backend=backend, used=kernels_used)
    assert kernels_used.words().partition(";")[0] == "guided attention by sdpa"


@with_and_without_autocast
@pytest.mark.parametrize(("gain", "sample"), [(1, slice(None)), (6, slice(1, 2))])
@in_half_precision
def test_kernel_wrong_in_one_small_head_is_rejected(
    monkeypatch, dtype, gain, sample, autocast, device
):
    """Check that a kernel with errors in one head is refused if chosen by name, and else
    replaced."""
    monkeypatch.setitem(BACKENDS, "sdpa", make_wrong_kernel(sample))
    qkv = draw_qkv(device, dtype, gain)
    with autocast_context(device, autocast, dtype):
        with refuses("sdpa, which gives wrong numbers here"):
            gga_attention(*qkv, HEADS, draw_geometry(device), OPTIONS, backend="sdpa")
        for backend in ("steady", "auto"):
            kernels_used = KernelsUsed()
            check_result(qkv, backend=backend, used=kernels_used)
            assert kernels_used.lost
            assert "the mathematical form" in kernels_used.words()


@in_half_precision
def test_autocast_changes_no_bit_of_the_mathematical_form(monkeypatch, dtype, device):
    monkeypatch.setattr(backends, "backend_choices", lambda _: ())
    q, k, v = draw_qkv(device, dtype, 3, has_shared_channels=True)
    results = []
    for autocast in (False, True):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        with autocast_context(device, autocast, dtype):
            result = gga_attention(*inputs, HEADS, draw_geometry(device), OPTIONS, recompute=True)
        results.append((result, *torch.autograd.grad(result.float().square().sum(), inputs)))
    # A card's own kernel of exo queries adds gradients in any order.
    max_difference = 0 if device.type == "cpu" else AGREEMENT[dtype]
    for plain_tensor, autocast_tensor in zip(*results, strict=True):
        assert (
            plain_tensor - autocast_tensor
        ).abs().max() <= max_difference * plain_tensor.abs().max()


@pytest.mark.parametrize("dtype", [*HALF_TYPES, torch.float32])
def test_kernel_is_not_rejected_for_a_head_of_zeros(dtype, device):
    kernels_used = KernelsUsed()
    (q, k, v) = draw_qkv(device, dtype, 1)
    v[..., :HEAD_SIZE] = 0
    v[..., HEAD_SIZE : 2 * HEAD_SIZE] = torch.finfo(
        dtype
    ).tiny  # its sums are rounded to the type's last bits
    gga_attention(q, k, v, HEADS, draw_geometry(device), OPTIONS, used=kernels_used)
    assert kernels_used.words().partition(";")[0] == "guided attention by sdpa"


@pytest.mark.parametrize("backend", ["auto", "sdpa"])
def test_kernel_is_not_rejected_for_nan_inputs(monkeypatch, backend, device):
    """Check that a kernel stays in use when its inputs, rather than its own errors, contain NaN."""
    kernels_used = KernelsUsed()
    (q, k, v) = draw_qkv(device, torch.float16, 1)
    for non_finite_inputs in ((q * torch.inf, k, v), (q, k * torch.nan, v), (q, k, v + torch.inf)):
        gga_attention(
            *non_finite_inputs,
            HEADS,
            draw_geometry(device),
            OPTIONS,
            backend=backend,
            used=kernels_used,
        )
    assert not kernel_check._cached_choices
    assert not kernels_used.lost
    with monkeypatch.context() as patch_context:
        patch_context.setitem(BACKENDS, "sdpa", make_wrong_kernel(slice(None)))
        gga_attention(q, k, v, HEADS, draw_geometry(device), OPTIONS)
    kernels_used.clear()
    gga_attention(
        q, k, v, HEADS, draw_geometry(device), OPTIONS, backend=backend, used=kernels_used
    )
    assert kernels_used.words().partition(";")[0] == "guided attention by sdpa"


def test_steady_uses_the_first_correct_kernel_without_timing(monkeypatch, device):
    monkeypatch.setattr(backends, "STEADY", ("sdpa", "slow"))
    monkeypatch.setattr(kernel_check, "best_seconds", lambda *args: pytest.fail("timed"))
    for name in ("slow", "fast"):
        monkeypatch.setitem(BACKENDS, name, BACKENDS["sdpa"])
    monkeypatch.setitem(BACKENDS, "sdpa", make_wrong_kernel(slice(None)))
    for first_kernel, kernel_name in (("", "slow"), ("fast", "fast")):  # of a run that is resumed
        kernels_used = KernelsUsed()
        qkv = draw_qkv(device, torch.bfloat16, 1)
        kernels_used.resumed_name = first_kernel
        gga_attention(
            *qkv, HEADS, draw_geometry(device), OPTIONS, backend="steady", used=kernels_used
        )
        expected_text = f"guided attention by {kernel_name} (not sdpa: gives wrong numbers here)"
        assert (
            kernels_used.words().partition(";")[0] == expected_text
            and kernels_used.name == kernel_name
        )


@pytest.mark.parametrize("failing_step", ["compared", "timed", "in a run", "unguided"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("Tried to allocate 2 GiB"),
        getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
    ids=["torch", "accelerator", "Triton"],
)
def test_out_of_memory_is_raised_and_rejects_no_kernel(monkeypatch, device, error, failing_step):
    kernel_calls = []
    sdpa_kernel = BACKENDS["sdpa"]
    failing_call = {"compared": 1, "timed": 2, "in a run": 3 + TIMED_RUNS}.get(failing_step)

    def failing_kernel(*args) -> Tensor:
        kernel_calls.append(1)
        if len(kernel_calls) == failing_call:
            raise error
        return sdpa_kernel(*args)

    def raise_error(*args) -> Tensor:
        raise error

    monkeypatch.setitem(BACKENDS, "ours", failing_kernel)
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("ours", "sdpa"))
    monkeypatch.setattr(plain, "_cudnn", raise_error)
    if failing_step == "unguided":
        monkeypatch.setattr(kernel_table.Limits, "refusal", lambda *_, **__: "")
    if failing_step == "in a run":  # the fastest, so that it runs
        best_seconds = kernel_check.best_seconds

        def time_kernel(run, args) -> float:
            seconds = best_seconds(run, args)
            return 0.0 if run is failing_kernel else seconds

        monkeypatch.setattr(kernel_check, "best_seconds", time_kernel)
    kernels_used = KernelsUsed()
    with pytest.raises(type(error), match=re.escape(str(error))):
        gga_attention(
            *draw_qkv(device, torch.bfloat16, 1),
            HEADS,
            draw_geometry(device),
            OPTIONS,
            used=kernels_used,
        )
    assert not kernels_used.lost
    assert not any(choice.lost for choice in kernel_check._cached_choices.values())


@pytest.mark.parametrize(
    ("gpu_version", "cudnn_behaviour", "chosen_kernel"),
    [
        (None, "right", "torch"),  # no card: nothing is told
        ((9, 0), "right", "cudnn"),
        ((9, 0), "wrong", "torch"),
        ((9, 0), "missing", "torch"),
        ((8, 9), "faster", "cudnn"),
        ((8, 9), "slower", "torch"),
        ((8, 9), "missing", "torch"),
    ],
)
def test_unguided_queries_use_cudnn_by_table_or_timing(
    monkeypatch, gpu_version, cudnn_behaviour, chosen_kernel
):
    """Check that cuDNN's attention is chosen by a table of GPUs, or by one timing on other GPUs."""
    q, k, v = draw_qkv("cpu", torch.bfloat16, 1)
    called_kernels, notes = [], []

    def torch_kernel(*args) -> Tensor:
        called_kernels.append("torch")
        return plain.plain_attention(*args)

    def cudnn_kernel(*args) -> Tensor:
        called_kernels.append("cudnn")
        if cudnn_behaviour == "missing":
            raise RuntimeError("no engine")
        return plain.plain_attention(*args) * (1.1 if cudnn_behaviour == "wrong" else 1)

    def kernel_seconds(attention, args) -> float:
        assert gpu_version == (8, 9), "the table says which"
        return 1.0 if attention is torch_kernel else {"faster": 0.5, "slower": 2.0}[cudnn_behaviour]

    if gpu_version:
        monkeypatch.setattr(kernel_table.Limits, "refusal", lambda *_, **__: "")
    monkeypatch.setattr(plain, "card_of", lambda device: gpu_version)
    monkeypatch.setattr(kernel_check, "best_seconds", kernel_seconds)
    monkeypatch.setattr(plain, "_cudnn", cudnn_kernel)
    attention = plain.or_cudnn(torch_kernel, Choosing(notes.append))
    values_with_nan = v.clone()
    values_with_nan[0, 3, 5] = torch.nan
    attention(q, k, values_with_nan, HEADS)
    assert not kernel_check._cached_choices and called_kernels[-1] == "torch", (
        "a NaN condemns nothing"
    )
    notes.clear()
    attention(q, k, v, HEADS)
    assert [note.partition(" (not cudnn")[0] for note in notes] == (
        [
            "choosing a kernel, 0 s (cudnn)",
            "choosing a kernel, 0 s (torch)",
            f"unguided attention by {chosen_kernel}",
        ]
        if gpu_version
        else []
    )
    called_kernels.clear()
    assert torch.equal(attention(q, k, v, HEADS), plain.plain_attention(q, k, v, HEADS))
    assert called_kernels == [chosen_kernel]


@pytest.mark.parametrize(
    ("gpu_version", "names"),
    [((9, 0), ("triton", "sdpa")), ((8, 9), ("triton", "cudnn", "sdpa"))],
)
def test_kernels_are_timed_on_unmeasured_cards_alone(monkeypatch, gpu_version, names):
    monkeypatch.undo()  # of the fixture's list
    monkeypatch.setattr(backends, "card_of", lambda _: gpu_version)
    assert backends.backend_choices(torch.device("cuda", 0)) == names


@with_and_without_autocast
def test_attention_mask_has_the_type_of_its_queries(autocast, device):
    """Check that masks are converted to the queries' type, because cuDNN misreads float32 masks."""
    types_of_calls = []

    class RecordTypes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "attention" in func.__name__:
                tensors = [x for x in (*args, *(kwargs or {}).values()) if isinstance(x, Tensor)]
                types_of_calls.append({x.dtype for x in tensors if x.is_floating_point()})
            return func(*args, **(kwargs or {}))

    for mode in ("released", "power"):
        qkv = draw_qkv(device, torch.bfloat16, 1)
        with RecordTypes(), autocast_context(device, autocast, torch.bfloat16):
            gga_attention(*qkv, HEADS, draw_geometry(device), GgaOptions(mode=mode), backend="sdpa")
    assert types_of_calls and all(len(types) == 1 for types in types_of_calls)
