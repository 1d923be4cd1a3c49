"""The check of attention kernels: float32 whatever surrounds it, compared head by head."""

import math
import re
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from egox_core.gga import backends, kernel_table, plain
from egox_core.gga.attention import gga_attention
from egox_core.gga.backends import BACKENDS, KernelsUsed
from egox_core.gga.bias import dense_bias, reference_attention
from egox_core.gga.kernel_check import AGREEMENT, TIMED_RUNS, Choosing
from egox_core.gga.options import GgaOptions
from egox_core.types import GgaGeometry
from tests.core.gga.test_attention import random_geometry
from tests.refusals import refuses

HEADS, DIM = 3, 64
SMALL = 1  # head whose values are a thousandth of the others'
HALVES = (torch.bfloat16, torch.float16)
CHOICES = backends.backend_choices
OPTIONS = GgaOptions(lambda_g=1.0)  # no slope: here kernels are judged, not the formula

with_autocast = pytest.mark.parametrize("autocast", [False, True])
in_halves = pytest.mark.parametrize("dtype", HALVES)


@pytest.fixture(autouse=True)
def _nothing_chosen_yet(monkeypatch) -> None:
    monkeypatch.setattr(backends, "_cached_choices", {})
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("sdpa",))


def geometry(device: torch.device) -> GgaGeometry:
    return random_geometry(device, latents=(2, 12, 16, 12))


def peaked(device, dtype: torch.dtype, gain: float, shared: bool = False) -> list[Tensor]:
    """Draw q, k, v of two samples, with the gain of learned norms, and channels large for all
    tokens alike."""
    draw = torch.Generator().manual_seed(1)
    count = geometry(device).tokens
    q, k, v = (torch.randn(2, count, HEADS, DIM, generator=draw) for _ in range(3))
    for x in (q, k):
        x *= gain
        x[..., :3] += 4 * gain * shared
    v[:, :, SMALL] *= 1e-3
    return [x.flatten(2).to(device, dtype) for x in (q, k, v)]


def around(device, autocast: bool, dtype: torch.dtype):
    return torch.autocast(device.type, dtype) if autocast else nullcontext()


def errors(ours: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # -> [heads]
    """Measure differences from float64, as a share of the head's largest value."""
    exact = q.double(), k.double(), v.double(), HEADS, geometry(q.device)
    twin = reference_attention(*exact, OPTIONS)
    error, largest = (
        x.unflatten(-1, (HEADS, DIM)).abs().amax((0, 1, 3)) for x in (ours.double() - twin, twin)
    )
    return error / largest


def check_right(qkv: list[Tensor], **how) -> None:
    ours = gga_attention(*qkv, HEADS, geometry(qkv[0].device), OPTIONS, **how)
    assert (errors(ours, *qkv) <= AGREEMENT[ours.dtype]).all()


def wrong_in_one_head(sample: slice):
    """Make a kernel of torch's that forgets the bias in the small head of these samples."""
    right, part = BACKENDS["sdpa"], slice(SMALL * DIM, (SMALL + 1) * DIM)

    def run(q, k, v, heads, bias_rows, queries):
        out = right(q, k, v, heads, bias_rows, queries)
        plain = right(
            q[..., part],
            k[..., part],
            v[..., part],
            1,
            lambda rows: torch.zeros_like(bias_rows(rows)),
            queries,
        )
        out[sample, ..., part] = plain[sample]
        return out

    return run


@with_autocast
@pytest.mark.parametrize(("gain", "shared"), [(1, False), (6, False), (6, True)])
@in_halves
def test_a_right_kernel_is_taken_however_peaked_attention_is(dtype, gain, shared, autocast, device):
    kernels_used, qkv = KernelsUsed(), peaked(device, dtype, gain, shared)
    with around(device, autocast, dtype):
        for backend in ("sdpa", "steady", "auto"):
            check_right(qkv, backend=backend, used=kernels_used)
    assert kernels_used.words().partition(";")[0] == "guided attention by sdpa"


@with_autocast
@pytest.mark.parametrize(("gain", "sample"), [(1, slice(None)), (6, slice(1, 2))])
@in_halves
def test_a_kernel_wrong_in_one_small_head_is_found(
    monkeypatch, dtype, gain, sample, autocast, device
):
    """Chosen by name, it is refused. Otherwise the mathematical form takes its place, exact in
    autocast too."""
    monkeypatch.setitem(BACKENDS, "sdpa", wrong_in_one_head(sample))
    qkv = peaked(device, dtype, gain)
    with around(device, autocast, dtype):
        with refuses("sdpa, which gives wrong numbers here"):
            gga_attention(*qkv, HEADS, geometry(device), OPTIONS, backend="sdpa")
        for backend in ("steady", "auto"):
            kernels_used = KernelsUsed()
            check_right(qkv, backend=backend, used=kernels_used)
            assert kernels_used.lost and "the mathematical form" in kernels_used.words()


@in_halves
def test_autocast_changes_no_bit_of_the_mathematical_form(monkeypatch, dtype, device):
    monkeypatch.setattr(backends, "backend_choices", lambda _: ())
    q, k, v = peaked(device, dtype, 3, shared=True)
    results = []
    for autocast in (False, True):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        with around(device, autocast, dtype):
            out = gga_attention(*inputs, HEADS, geometry(device), OPTIONS, recompute=True)
        results.append((out, *torch.autograd.grad(out.float().square().sum(), inputs)))
    # A card's own kernel of exo queries adds gradients in any order.
    limit = 0 if device.type == "cpu" else AGREEMENT[dtype]
    for outside, inside in zip(*results, strict=True):
        assert (outside - inside).abs().max() <= limit * outside.abs().max()


def test_autocast_changes_no_bit_of_the_dense_bias(device):
    with around(device, True, torch.bfloat16):
        inside = dense_bias(geometry(device), OPTIONS)
    assert torch.equal(inside, dense_bias(geometry(device), OPTIONS))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_a_head_that_says_nothing_condemns_no_kernel(dtype, device):
    kernels_used, (q, k, v) = KernelsUsed(), peaked(device, dtype, 1)
    v[..., :DIM] = 0
    v[..., DIM : 2 * DIM] = torch.finfo(dtype).tiny  # its sums are rounded to the type's last bits
    gga_attention(q, k, v, HEADS, geometry(device), OPTIONS, used=kernels_used)
    assert kernels_used.words().partition(";")[0] == "guided attention by sdpa"


@pytest.mark.parametrize("backend", ["auto", "sdpa"])
def test_a_nan_is_no_kernel_s_fault(monkeypatch, backend, device):
    """A wrong kernel is judged anew at a run's start."""
    kernels_used, (q, k, v) = KernelsUsed(), peaked(device, torch.float16, 1)
    for broken in ((q * torch.inf, k, v), (q, k * torch.nan, v), (q, k, v + torch.inf)):
        gga_attention(*broken, HEADS, geometry(device), OPTIONS, backend=backend, used=kernels_used)
    assert not backends._cached_choices and not kernels_used.lost
    with monkeypatch.context() as wrong:
        wrong.setitem(BACKENDS, "sdpa", wrong_in_one_head(slice(None)))
        gga_attention(q, k, v, HEADS, geometry(device), OPTIONS)
    kernels_used.clear()
    gga_attention(q, k, v, HEADS, geometry(device), OPTIONS, backend=backend, used=kernels_used)
    assert kernels_used.words().partition(";")[0] == "guided attention by sdpa"


def test_steady_takes_the_next_kernel_and_times_none(monkeypatch, device):
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("slow", "fast"))
    monkeypatch.setattr(backends, "best_seconds", lambda *args: pytest.fail("timed"))
    for name in ("slow", "fast"):
        monkeypatch.setitem(BACKENDS, name, BACKENDS["sdpa"])
    monkeypatch.setitem(BACKENDS, "sdpa", wrong_in_one_head(slice(None)))
    for first, kernel_name in (("", "slow"), ("fast", "fast")):  # of a run that is resumed
        kernels_used, qkv = KernelsUsed(), peaked(device, torch.bfloat16, 1)
        kernels_used.first = first
        gga_attention(*qkv, HEADS, geometry(device), OPTIONS, backend="steady", used=kernels_used)
        words = f"guided attention by {kernel_name} (not sdpa: gives wrong numbers here)"
        assert kernels_used.words().partition(";")[0] == words and kernels_used.name == kernel_name


@pytest.mark.parametrize(
    ("card", "names"),
    [
        ((9, 0), ("triton", "sdpa")),
        ((8, 9), ("triton", "cudnn", "sdpa")),
        (None, ("triton", "cudnn", "sdpa")),  # AMD's
    ],
)
def test_a_card_of_the_table_has_nothing_to_time(monkeypatch, card, names):
    monkeypatch.setattr(backends, "card_of", lambda device: card)
    assert CHOICES(torch.device("cuda")) == names


def test_kernels_with_rows_are_timed_once_in_a_process(monkeypatch, device):
    timed, sdpa = [], BACKENDS["sdpa"]
    monkeypatch.setitem(BACKENDS, "slow", lambda *args: sdpa(*args))
    monkeypatch.setitem(BACKENDS, "fast", sdpa)
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("slow", "fast"))
    monkeypatch.setattr(
        backends, "best_seconds", lambda run, args: timed.append(run) or float(run is not sdpa)
    )
    for _ in range(2):
        kernels_used, qkv = KernelsUsed(), peaked(device, torch.bfloat16, 1)
        kernels_used.clear()
        gga_attention(*qkv, HEADS, geometry(device), OPTIONS, used=kernels_used)
        assert kernels_used.words().partition(";")[0] == "guided attention by fast"
    assert len(timed) == 2


def test_a_kernel_that_could_not_be_compiled_is_tried_again_in_the_next_run(monkeypatch, device):
    """This happens on the day a C compiler is installed. In the run itself the note says what is
    missing."""
    compiler, sdpa = [], BACKENDS["sdpa"]

    def ours(*args) -> Tensor:
        if not compiler:
            raise RuntimeError("Failed to find C compiler")
        return sdpa(*args)

    monkeypatch.setitem(BACKENDS, "ours", ours)
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("ours", "sdpa"))
    monkeypatch.setattr(backends, "best_seconds", lambda run, args: float(run is not ours))
    kernels_used, qkv = KernelsUsed(), peaked(device, torch.bfloat16, 1)
    for words in ("sdpa (not ours: is not available: Failed to find C compiler)", "ours"):
        gga_attention(*qkv, HEADS, geometry(device), OPTIONS, used=kernels_used)
        assert kernels_used.words().partition(";")[0] == f"guided attention by {words}"
        compiler.append("gcc")
        kernels_used.clear()


@pytest.mark.parametrize("when", ["compared", "timed", "in a run", "unguided"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("Tried to allocate 2 GiB"),
        getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
    ids=["torch", "accelerator", "Triton"],
)
def test_memory_that_runs_out_is_raised_and_condemns_no_kernel(monkeypatch, device, error, when):
    calls, sdpa = [], BACKENDS["sdpa"]
    fails_in = {"compared": 1, "timed": 2, "in a run": 3 + TIMED_RUNS}.get(when)

    def ours(*args) -> Tensor:
        calls.append(1)
        if len(calls) == fails_in:
            raise error
        return sdpa(*args)

    def full(*args) -> Tensor:
        raise error

    monkeypatch.setitem(BACKENDS, "ours", ours)
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("ours", "sdpa"))
    monkeypatch.setattr(plain, "_takes_cudnn", {})
    monkeypatch.setattr(plain, "_cudnn", full)
    if when == "unguided":
        monkeypatch.setattr(kernel_table.Limits, "refusal", lambda self, asked: "")
    if when == "in a run":  # the fastest, so that it runs
        best_seconds = backends.best_seconds

        def ours_first(run, args) -> float:
            seconds = best_seconds(run, args)
            return 0.0 if run is ours else seconds

        monkeypatch.setattr(backends, "best_seconds", ours_first)
    kernels_used = KernelsUsed()
    with pytest.raises(type(error), match=re.escape(str(error))):
        gga_attention(
            *peaked(device, torch.bfloat16, 1), HEADS, geometry(device), OPTIONS, used=kernels_used
        )
    assert not kernels_used.lost and not plain._takes_cudnn
    assert not any(choice.lost for choice in backends._cached_choices.values())


@with_autocast
@pytest.mark.parametrize("mode", ["released", "power", "paper"])
def test_a_mask_has_the_type_of_its_queries(mode, autocast, device):
    """cuDNN on 9.0 reads a float32 mask of bfloat16 queries as bfloat16, without a word."""
    masks = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "attention" in func.__name__:
                tensors = [x for x in (*args, *(kwargs or {}).values()) if isinstance(x, Tensor)]
                masks.append({x.dtype for x in tensors if x.is_floating_point()})
            return func(*args, **(kwargs or {}))

    for dtype in HALVES if autocast else (*HALVES, torch.float32):
        for recompute, backend in ((False, "auto"), (False, "sdpa"), (True, "steady")):
            q, k, v = (x.requires_grad_(recompute) for x in peaked(device, dtype, 1))
            options = GgaOptions(mode=mode, lambda_g=2.0)
            with Watch(), around(device, autocast, dtype):
                how = {"backend": backend, "recompute": recompute}
                gga_attention(q, k, v, HEADS, geometry(device), options, **how)
    assert masks and all(len(kinds) == 1 for kinds in masks)


@pytest.mark.parametrize(
    ("card", "cudnn", "taken"),
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
def test_unguided_queries_take_cudnn_by_the_table_or_the_clock(monkeypatch, card, cudnn, taken):
    """cuDNN is compared once with the kernel of torch, on finite numbers, and timed only if the
    table has no entry."""
    q, k, v = peaked("cpu", torch.bfloat16, 1)
    called, notes = [], []

    def own(*args) -> Tensor:
        called.append("torch")
        return plain.plain_attention(*args)

    def other(*args) -> Tensor:
        called.append("cudnn")
        if cudnn == "missing":
            raise RuntimeError("no engine")
        return plain.plain_attention(*args) * (1.1 if cudnn == "wrong" else 1)

    def seconds(run, args) -> float:
        assert card == (8, 9), "the table says which"
        return 1.0 if run is own else {"faster": 0.5, "slower": 2.0, "missing": math.inf}[cudnn]

    if card:
        monkeypatch.setattr(kernel_table.Limits, "refusal", lambda self, asked: "")
    monkeypatch.setattr(plain, "card_of", lambda device: card)
    monkeypatch.setattr(plain, "best_seconds", seconds)
    monkeypatch.setattr(plain, "_cudnn", other)
    monkeypatch.setattr(plain, "_takes_cudnn", {})
    run = plain.or_cudnn(own, Choosing(notes.append))
    broken = v.clone()
    broken[0, 3, 5] = torch.nan
    run(q, k, broken, HEADS)
    assert not plain._takes_cudnn and called[-1] == "torch", "a NaN condemns nothing"
    notes.clear()
    run(q, k, v, HEADS)
    words = ["choosing a kernel, 0 s (unguided queries)", f"unguided attention by {taken}"]
    assert notes == (words if card else [])
    called.clear()
    assert torch.equal(run(q, k, v, HEADS), plain.plain_attention(q, k, v, HEADS))
    assert called == [taken]
