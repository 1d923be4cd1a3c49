"""The check of attention kernels: float32 whatever surrounds it, compared head by head."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from egox_core.gga import backends, kernel_check, kernel_table, plain
from egox_core.gga.attention import gga_attention
from egox_core.gga.backends import BACKENDS, KernelsUsed
from egox_core.gga.bias import dense_bias, reference_attention
from egox_core.gga.kernel_check import AGREEMENT, Choosing
from egox_core.gga.options import GgaOptions
from egox_core.types import GgaGeometry
from tests.core.gga.test_attention import random_geometry
from tests.refusals import refuses

HEADS, DIM = 3, 64
SMALL = 1  # head whose values are a thousandth of the others'
HALVES = (torch.bfloat16, torch.float16)
OPTIONS = GgaOptions(lambda_g=1.0)  # no slope: here kernels are judged, not the formula

with_autocast = pytest.mark.parametrize("autocast", [False, True])
in_halves = pytest.mark.parametrize("dtype", HALVES)


@pytest.fixture(autouse=True)
def _nothing_chosen_yet(monkeypatch) -> None:
    monkeypatch.setattr(backends, "_choice_of", {})
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("sdpa",))


def geometry(device: torch.device) -> GgaGeometry:
    return random_geometry(device, latents=(2, 12, 16, 12))


def peaked(device, dtype: torch.dtype, gain: float, shared: bool = False) -> list[Tensor]:
    """q, k, v of two samples: gain as of learned norms, and channels large for all tokens alike."""
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
    """Differences from float64, each in its head's largest value."""
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
    """Torch's kernel that forgets the bias in the small head of these samples."""
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
    used, qkv = KernelsUsed(), peaked(device, dtype, gain, shared)
    with around(device, autocast, dtype):
        for backend in ("sdpa", "steady", "auto"):
            check_right(qkv, backend=backend, used=used)
    assert used.words().partition(";")[0] == "guided attention by sdpa"


@with_autocast
@pytest.mark.parametrize(("gain", "sample"), [(1, slice(None)), (6, slice(1, 2))])
@in_halves
def test_a_kernel_wrong_in_one_small_head_is_found(
    monkeypatch, dtype, gain, sample, autocast, device
):
    """By name it is refused; else the mathematical form takes its place, exact in autocast too."""
    monkeypatch.setitem(BACKENDS, "sdpa", wrong_in_one_head(sample))
    qkv = peaked(device, dtype, gain)
    with around(device, autocast, dtype):
        with refuses("sdpa, which gives wrong numbers here"):
            gga_attention(*qkv, HEADS, geometry(device), OPTIONS, backend="sdpa")
        for backend in ("steady", "auto"):
            used = KernelsUsed()
            check_right(qkv, backend=backend, used=used)
            assert used.lost and "the mathematical form" in used.words()


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
    used, (q, k, v) = KernelsUsed(), peaked(device, dtype, 1)
    v[..., :DIM] = 0
    v[..., DIM : 2 * DIM] = torch.finfo(dtype).tiny  # its sums are rounded to the type's last bits
    gga_attention(q, k, v, HEADS, geometry(device), OPTIONS, used=used)
    assert used.words().partition(";")[0] == "guided attention by sdpa"


@pytest.mark.parametrize("backend", ["auto", "sdpa"])
def test_a_nan_is_no_kernel_s_fault(monkeypatch, backend, device):
    """A wrong kernel is judged anew at a run's start."""
    used, (q, k, v) = KernelsUsed(), peaked(device, torch.float16, 1)
    for broken in ((q * torch.inf, k, v), (q, k * torch.nan, v), (q, k, v + torch.inf)):
        gga_attention(*broken, HEADS, geometry(device), OPTIONS, backend=backend, used=used)
    assert not backends._choice_of and not used.lost
    with monkeypatch.context() as wrong:
        wrong.setitem(BACKENDS, "sdpa", wrong_in_one_head(slice(None)))
        gga_attention(q, k, v, HEADS, geometry(device), OPTIONS)
    backends.forget_wrong()
    used.clear()
    gga_attention(q, k, v, HEADS, geometry(device), OPTIONS, backend=backend, used=used)
    assert used.words().partition(";")[0] == "guided attention by sdpa"


def test_steady_takes_the_next_kernel_and_times_none(monkeypatch, device):
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("slow", "fast"))
    monkeypatch.setattr(backends, "best_seconds", lambda *args: pytest.fail("timed"))
    for name in ("slow", "fast"):
        monkeypatch.setitem(BACKENDS, name, BACKENDS["sdpa"])
    monkeypatch.setitem(BACKENDS, "sdpa", wrong_in_one_head(slice(None)))
    for first, taken in (("", "slow"), ("fast", "fast")):  # of a run that is resumed
        used, qkv = KernelsUsed(), peaked(device, torch.bfloat16, 1)
        used.first = first
        gga_attention(*qkv, HEADS, geometry(device), OPTIONS, backend="steady", used=used)
        words = f"guided attention by {taken} (not sdpa: gives wrong numbers here)"
        assert used.words().partition(";")[0] == words and used.name == taken


def test_a_choice_outlives_the_process(monkeypatch, tmp_path, device):
    """Only the kernel that was kept is compared again; all are where it is wrong or fails."""
    file, told, sdpa = tmp_path / "kernels.json", [], BACKENDS["sdpa"]
    monkeypatch.setitem(BACKENDS, "slow", lambda *args: sdpa(*args))
    monkeypatch.setitem(BACKENDS, "fast", sdpa)
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("slow", "fast"))
    monkeypatch.setattr(backends, "best_seconds", lambda run, args: float(run is not sdpa))

    def ran() -> str:
        monkeypatch.setattr(backends, "_choice_of", {})
        told.clear()
        used, qkv = KernelsUsed(file, told.append), peaked(device, torch.bfloat16, 1)
        for _ in range(2):  # another geometry of this size is no reason to choose anew
            gga_attention(*qkv, HEADS, geometry(device), OPTIONS, used=used)
        return " ".join(words.split()[-1] for words in told)

    def fails_later(*args) -> Tensor:
        if len(told) > 1:
            raise RuntimeError("launch failed")
        return sdpa(*args)

    anew, again = "(slow) (fast) fastest) fast", "(fast) fast"
    assert (ran(), ran()) == (anew, again) and told[0] == "choosing a kernel, 0 s (fast)"
    file.write_text("{")
    assert (ran(), ran()) == (anew, again)
    monkeypatch.setattr(kernel_check, "__version__", "2")
    assert (ran(), ran()) == (anew, again)
    for kernel in (wrong_in_one_head(slice(None)), fails_later):
        monkeypatch.setitem(BACKENDS, "fast", kernel)
        assert ran().startswith("(fast) ") and "(slow)" in " ".join(told)
    assert ran() == "(slow) slow", "a kernel that fails is not kept"


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


def test_unguided_queries_take_cudnn_where_it_is_faster_and_right(monkeypatch, tmp_path):
    """Timed once, told, and kept for processes to come."""
    inputs = (*peaked("cpu", torch.bfloat16, 1), HEADS)
    right, told, called, times = plain.plain_attention(*inputs), [], [], {}

    def kernel(name: str, seconds: float, factor: float = 1.0):
        def run(*_) -> Tensor:
            called.append(name)
            return right * factor

        times[run] = seconds
        return run

    def ran(seconds: float, factor: float) -> str:
        monkeypatch.setattr(plain, "_cudnn", kernel("cudnn", seconds, factor))
        monkeypatch.setattr(plain, "_takes_cudnn", {})
        told.clear()
        choosing = Choosing(file, told.append)
        assert torch.equal(plain.or_cudnn(kernel("torch", 1.0), choosing)(*inputs), right)
        return called[-1]

    monkeypatch.setattr(plain, "best_seconds", lambda run, args: times[run])
    file = tmp_path / "no card"
    assert ran(0.5, 1.0) == "torch" and not told
    monkeypatch.setattr(kernel_table.Limits, "refusal", lambda self, asked: "")
    for seconds, factor, taken in ((0.5, 1.0, "cudnn"), (2.0, 1.0, "torch"), (0.5, 1.1, "torch")):
        file, words = tmp_path / f"{seconds}, {factor}", f"unguided attention by {taken}"
        assert ran(seconds, factor) == taken
        assert told == ["choosing a kernel, 0 s (unguided queries)", words]
        assert ran(1 / seconds, factor) == taken and told == [words], "kept"
