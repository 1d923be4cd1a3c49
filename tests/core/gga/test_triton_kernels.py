"""Triton kernels of guided attention: numbers and addresses in the interpreter, the table, refusals.

    TRITON_INTERPRET=1 python -m tests.core.gga.test_triton_kernels     the numbers alone

The interpreter is chosen when Triton is imported, so the numbers have a process of their own.
Errors are in units of a head's largest value, the twin is float64; odd sizes, strides, empty heads,
all modes, tiles of 9.0 and of older cards. Each address of a load or store is held to the tensors
of its launch."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize, scaled_dot_product_attention

from egox_core.gga import backends, kernel_table, product, product_gradient
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.bias import dense_bias, reference_attention
from egox_core.gga.exo_cache import ego_tokens
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.kernel_check import AGREEMENT
from egox_core.gga.kernel_table import KERNELS, KernelRequest
from egox_core.gga.options import GgaOptions
from egox_core.gga.rows import BiasRows
from tests.paths import ROOT
from tests.refusals import refuses

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
EXACT, HALF = 1e-5, 2e-3
"""Error in float32 and float16, of a head's largest value."""
SLOPE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Error of gradients, of their largest value."""
PLAIN = 1.05
"""Error in half precision over all cases, of the plain form's with exact weights: both round shares
and results once, but of other numbers."""
MODES = [("released", x) for x in (0.5, 1.0, 3.0, 10.0, 1000.0)] + [
    ("paper", 0.5),
    ("paper", 1000.0),
]
SHAPES = [  # t, h, w_exo, w_ego in tokens; heads, dim of a head; samples
    ((2, 1, 40, 3), 2, 64, 1),
    ((1, 1, 1, 1), 1, 128, 1),
    ((1, 1, 60, 17), 1, 80, 2),
    ((1, 3, 30, 5), 2, 128, 1),
]
CARDS = ((9, 0), (8, 0))


def case(grid, heads, dim, batch, dtype, holes=False, device="cpu"):
    """Draw q, k, v with rows apart, the second head of v empty. Some directions are opposite, some
    equal."""
    t, h, w_exo, w_ego = grid
    draw = torch.Generator().manual_seed(0)

    def unit(*shape):
        return (
            normalize(torch.randn(*shape, 3, generator=draw), dim=-1)
            .repeat_interleave(2, -3)
            .repeat_interleave(2, -2)
        )

    exo, ego = unit(t, t, h, w_exo), unit(t, h, w_ego)
    exo[..., ::2, :2, :] = -ego[:, None, :1, :1]
    trust = torch.ones(t, 2 * h, 2 * w_exo)
    if holes:
        trust[:, :2, :2] = 0
    geometry = tokens_from_latents(exo, ego, trust)
    width = heads * dim
    q, k, v = (
        torch.randn(batch, geometry.tokens, 2 * width + 3, generator=draw)
        .to(device, dtype)
        .narrow(-1, 0, width)
        for _ in range(3)
    )
    v[..., dim : 2 * dim] = 0
    return q, k, v, heads, geometry.to(device)


def errors(ours, twin, heads):
    """Measure errors of each value, in units of its head's largest."""
    error, twin = (x.unflatten(-1, (heads, -1)) for x in (ours.double() - twin, twin))
    return error / twin.abs().amax((0, 1, 3), keepdim=True).clamp_min(1e-30)


def mend_interpreter(*kernels) -> None:
    """Mend faults of Triton's interpreter (3.6): numpy from 2.4 on makes no number of an array of
    one, and tl.dot multiplies the bits of bfloat16 instead of its values, which it rounds towards
    zero.

    Addresses outside the tensors of a launch are refused."""
    import numpy as np
    from triton.runtime import interpreter

    builder, tl = interpreter.InterpreterBuilder, interpreter.tl
    patch, dot, cast = interpreter._patch_lang_tensor, builder.create_dot, builder.cast_impl
    load, store = builder.create_masked_load, builder.create_masked_store
    ranges = []

    def launched(*inputs, **_):
        tensors = [x for x in inputs if isinstance(x, torch.Tensor)]
        lasts = [sum((n - 1) * by for n, by in zip(x.shape, x.stride())) for x in tensors]  # noqa: B905
        ranges[:] = sorted(
            (x.data_ptr(), x.data_ptr() + (last + 1) * x.element_size())
            for x, last in zip(tensors, lasts, strict=True)
        )

    def check(pointers, mask):
        places = pointers.data[np.broadcast_to(mask.data, pointers.data.shape)].astype(np.int64)
        firsts, ends = np.array(ranges).T
        ends = np.append(ends, 0)  # of what lies before all
        last_byte = places + pointers.get_element_ty().primitive_bitwidth // 8
        inside = last_byte <= ends[np.searchsorted(firsts, places, "right") - 1]
        assert inside.all(), "an address outside all tensors"

    def checked_load(self, pointers, mask, *rest):
        check(pointers, mask)
        return load(self, pointers, mask, *rest)

    def checked_store(self, pointers, value, mask, *rest):
        check(pointers, mask)
        return store(self, pointers, value, mask, *rest)

    def patch_for_new_numpy(tensor, *rest):
        patch(tensor, *rest)
        tensor.__index__ = lambda self: self.handle.data.item()

    def values(x):
        if x.data.dtype != np.uint16:
            return x
        assert str(x.dtype.scalar) == "bf16"
        return interpreter.TensorHandle(
            (x.data.astype(np.uint32) << 16).view(np.float32), tl.float32
        )

    def nearest(self, x, kind):
        if (x.dtype.scalar, kind.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, x, kind)
        rounded = torch.from_numpy(np.ascontiguousarray(x.data)).bfloat16().view(torch.int16)
        return interpreter.TensorHandle(rounded.numpy().view(np.uint16), tl.bfloat16)

    for kernel in kernels:
        kernel.add_pre_run_hook(launched)
    options = interpreter.interpreter_builder.options  # sizes here are far from any overflow
    interpreter.interpreter_builder.options = replace(options, sanitize_overflow=False)
    interpreter._patch_lang_tensor = patch_for_new_numpy
    builder.create_dot = lambda self, a, b, *rest: dot(self, values(a), values(b), *rest)
    builder.cast_impl = nearest
    builder.create_masked_load, builder.create_masked_store = checked_load, checked_store


def plain_error(q, k, v, heads, bias) -> torch.Tensor:
    """Measure the error of the plain form as a fused kernel does it: shares rounded to the type of
    v, sums not."""
    q4, k4, v4 = (x.double().unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    twin = scaled_dot_product_attention(q4, k4, v4, attn_mask=bias)
    scores = q4 @ k4.transpose(-1, -2) / math.sqrt(q4.shape[-1])
    shares = (scores - scores.amax(-1, keepdim=True)).exp() * bias.exp()
    ours = (shares.to(q.dtype).double() @ v4 / shares.sum(-1, keepdim=True)).to(q.dtype)
    return errors(*(x.transpose(1, 2).flatten(2) for x in (ours, twin)), heads)


def torchs(*inputs) -> torch.Tensor:  # not asked for cuDNN's, which a pretended card would have
    return plain_attention(*inputs)


def triton(*inputs, plain=torchs, **how) -> torch.Tensor:
    return gga_attention(*inputs, backend="triton", plain=plain, **how)


def ego(x, geometry) -> torch.Tensor:
    return ego_tokens(x, geometry.grid, 1)


def pretend(card: tuple[int, int]) -> None:
    kernel_table.card_of = lambda device: card


def check_modes() -> None:
    for shift, dtype in enumerate(FLOATS):
        squares = []
        for number, (mode, strength) in enumerate(MODES):
            pretend(CARDS[number % 2])
            shape, holes = SHAPES[(number + shift) % len(SHAPES)], number % 2 == 1
            q, k, v, heads, geometry = case(*shape, dtype, holes)
            options = GgaOptions(mode=mode, lambda_g=strength, soft_trust=True)
            exact = q.double(), k.double(), v.double(), heads, geometry, options
            twin = ego(reference_attention(*exact), geometry)
            ours = ego(triton(q, k, v, heads, geometry, options), geometry)
            error = errors(ours, twin, heads)
            assert dtype != torch.float32 or error.abs().max() <= EXACT, (mode, strength)
            bias = ego(dense_bias(geometry, options, torch.float64)[None], geometry)[0]
            plain = plain_error(ego(q, geometry), k, v, heads, bias)
            squares.append([error.square().sum(), plain.square().sum()])
        ours, plain = torch.tensor(squares).sum(0).sqrt().tolist()
        assert dtype == torch.float32 or ours <= PLAIN * plain, (dtype, ours, plain)


def check_parts() -> None:
    """Check odd sizes, one launch or many, exo kept, and a window of frames."""
    pretend(CARDS[0])
    # 783 queries in a frame; a block of queries of two frames.
    for grid in ((1, 1, 1, 1), (1, 27, 1, 29), (2, 1, 3, 131)):
        q, k, v, heads, geometry = inputs = case(grid, 1, 16, 1, torch.float16)
        exact = q.double(), k.double(), v.double(), heads, geometry
        twin = reference_attention(*exact, GgaOptions())
        assert errors(triton(*inputs, GgaOptions()), twin, heads).abs().max() <= HALF
    q, k, v, heads, geometry = case((1, 1, 28_026, 2), 1, 16, 1, torch.float16)
    few, rows = ego(q, geometry), BiasRows(geometry, GgaOptions(), torch.float64, reuse=True)
    twin = backends.math_rows(few.double(), k.double(), v.double(), 1, rows, slice(0, 2))
    ours = triton(few, k, v, 1, geometry, GgaOptions())
    assert errors(ours, twin, 1).abs().max() <= HALF, "many keys"
    q, k, v, heads, geometry = inputs = case((3, 2, 9, 5), 1, 16, 2, torch.float16)
    ego_rows = ego(triton(*inputs, GgaOptions()), geometry)
    cut = ego(triton(*inputs, GgaOptions(), chunk_bytes=1), geometry)
    kept_rows = triton(ego(q, geometry), *inputs[1:], GgaOptions())
    assert torch.equal(cut, ego_rows) and torch.equal(kept_rows, ego_rows)
    assert len(geometry.made) == 1, "columns are made once"
    triton(*inputs, GgaOptions(lambda_g=2))
    assert len(geometry.made) == 2, "and again for another strength"
    part = geometry.select_frames([2, 0])
    q, k, v = (x.unflatten(1, (3, -1))[:, [2, 0]].flatten(1, 2) for x in (q, k, v))
    twin = reference_attention(q.double(), k.double(), v.double(), heads, part, GgaOptions())
    error = errors(triton(q, k, v, heads, part, GgaOptions()), twin, heads)
    assert error.abs().max() <= HALF, "a window"
    unguided = triton(*inputs, GgaOptions(lambda_g=0.0))
    assert torch.equal(unguided, plain_attention(*inputs[:4])), "lambda 0"


def check_gradients(dtype, mode, strength, shape, kept=False, **how) -> None:
    """Check the gradients of q, k and v against autograd through the dense form. A second run must
    be equal."""
    options = GgaOptions(mode=mode, lambda_g=strength)
    q, k, v, heads, geometry = case(*shape, dtype, holes=True)
    if how:
        geometry = geometry.select_frames([2, 0])
        q, k, v = (x[:, : geometry.tokens] for x in (q, k, v))

    def ours(q, *rest):
        return triton(ego(q, geometry) if kept else q, *rest, recompute=True, **how)

    def twin(*inputs):
        out = reference_attention(*inputs)
        return ego(out, geometry) if kept else out

    def slopes(attend, *inputs):
        leaves = [x.detach().requires_grad_() for x in inputs]
        out = attend(*leaves, heads, geometry, options)
        weights = torch.linspace(-1, 1, out.numel()).view_as(out).to(out)
        return torch.autograd.grad((out * weights).sum(), leaves)

    exact = slopes(twin, q.double(), k.double(), v.double())
    first, second = (slopes(ours, q, k, v) for _ in range(2))
    for one, again, right in zip(first, second, exact, strict=True):
        assert torch.equal(one, again)
        assert (one - right).abs().max() <= SLOPE[dtype] * right.abs().max(), (options, dtype)


def check_extremes() -> None:
    """Check keys that are all opposite to the ray, strengths beyond what float16 holds, and no
    finite score."""
    q, k, v, heads, geometry = case((1, 1, 30, 2), 1, 16, 1, torch.float32)
    ray = normalize(torch.tensor([[[1.0, 2.0, 3.0]]]), dim=-1)
    behind = replace(
        geometry,
        query_dirs=ray.expand(1, 2, 3).contiguous(),
        key_dirs=-ray.expand(1, geometry.tokens, 3).contiguous(),
    )
    mute = torch.full_like(k, -torch.inf)
    for dtype in FLOATS:
        values = v.to(dtype)
        for strength in (1.0, 1000.0, 100_000.0):
            options = GgaOptions(lambda_g=strength)
            here = q.to(dtype), k.to(dtype), values, heads
            out = ego(triton(*here, behind, options), geometry)
            assert out.isfinite().all() and out.abs().max() <= values.abs().max()
            assert out.abs().max() > 0.01, "weights, if small ones"
            one = q.abs().to(dtype), mute.to(dtype), values, heads
            assert (ego(triton(*one, geometry, options, plain=blank), geometry) == 0).all()


def blank(q, k, v, heads) -> torch.Tensor:
    return torch.zeros_like(q)


def test_the_kernels_give_the_twins_numbers():
    """In Triton's interpreter: 1e-5 of a head's largest value in float32, plain's error in half."""
    pytest.importorskip(
        "triton", reason="Triton is not installed here; GPU machines without it use torch"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.core.gga.test_triton_kernels"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("dtype", FLOATS[1:])
@pytest.mark.parametrize("backend", list(backends.BACKENDS))
def test_each_kernel_on_a_card(backend, dtype, device):
    """Over the end of a frame of the released size."""
    if device.type != "cuda":
        pytest.skip("takes a card: --device cuda")
    q, k, v, heads, geometry = case((13, 28, 49, 28), 4, 128, 1, dtype, device=device)
    queries, options = slice(700, 956), GgaOptions()
    few, rows = ego(q, geometry)[:, queries], BiasRows(geometry, options, dtype, reuse=True)
    ours = backends.BACKENDS[backend](few, k, v, heads, rows, queries)
    exact = BiasRows(geometry, options, torch.float64, reuse=True)
    twin = backends.math_rows(few.double(), k.double(), v.double(), heads, exact, queries)
    assert errors(ours, twin, heads).abs().max() <= AGREEMENT[dtype]


def asked(**changes) -> KernelRequest:
    usual = {"device": torch.device("cuda", 0), "dtype": torch.bfloat16, "head_size": 128}
    return KernelRequest(**usual | changes)


@pytest.mark.parametrize(
    ("card", "changes", "words"),
    [
        ((9, 0), {}, ""),
        ((8, 9), {"by_name": False}, "never measured on a card of 8.9: choose it by name"),
        ((8, 9), {}, ""),
        ((7, 5), {}, "needs an NVIDIA card of 8.0 or higher"),
        ((9, 0), {"gradients": True}, ""),
        ((8, 9), {"gradients": True, "by_name": False}, "its gradients were never measured on"),
        ((9, 0), {"any_weight": True}, "no mode power and no soft trust"),
        ((9, 0), {"dtype": torch.float64}, "takes no torch.float64"),
        ((9, 0), {"head_size": 256}, "at most 128 channels"),
    ],
)
def test_the_table_says_what_the_kernel_takes(monkeypatch, card, changes, words):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: card)
    monkeypatch.setattr(kernel_table, "triton_version", lambda: (3, 6))
    refusal = KERNELS["triton"].refusal(asked(**changes))
    assert words in refusal and bool(words) == bool(refusal)
    monkeypatch.setattr(kernel_table, "triton_version", lambda: (0, 0))
    assert KERNELS["triton"].refusal(asked(**changes)), "no Triton"


def test_the_page_shows_the_table():
    page = (ROOT / "docs/model-path.md").read_text(encoding="utf-8")
    assert [line for line in kernel_table.matrix() if line not in page.splitlines()] == []


def test_what_the_table_refuses_is_refused_by_name_and_passed_over_by_auto(monkeypatch):
    monkeypatch.setattr(backends, "_cached_choices", {})
    inputs = case((1, 2, 3, 2), 2, 16, 1, torch.float32)
    monkeypatch.setattr(backends, "backend_choices", lambda device: ("triton", "sdpa"))
    kernels_used = backends.KernelsUsed()
    gga_attention(*inputs, GgaOptions(), used=kernels_used)
    why = KERNELS["triton"].refusal(asked(device=torch.device("cpu"), head_size=16))
    assert kernels_used.words() == f"guided attention by sdpa (not triton: {why})"
    with refuses(f"triton, which {why}.*set backend to auto"):
        gga_attention(*inputs, GgaOptions(), backend="triton")


def test_a_kernel_that_took_all_queries_leaves_pieces_to_the_next(monkeypatch):
    """From the next call on: its bias is in memory for some image rows at a time."""
    inputs = case((2, 6, 3, 2), 2, 16, 1, torch.float32)
    query_counts, pieces, sdpa = [], [], backends.BACKENDS["sdpa"]

    def fails_later(q, *rest):
        query_counts.append(q.shape[1])
        if len(query_counts) > 1:
            raise RuntimeError("launch failed")
        return sdpa(q, *rest)

    def counted(q, *rest):
        pieces.append(q.shape[1])
        return sdpa(q, *rest)

    monkeypatch.setattr(backends, "_cached_choices", {})
    monkeypatch.setattr(backends, "backend_choices", lambda device: ("triton", "sdpa"))
    monkeypatch.setitem(backends.BACKENDS, "triton", fails_later)
    monkeypatch.setitem(backends.BACKENDS, "sdpa", counted)
    monkeypatch.setattr(kernel_table.Limits, "refusal", lambda self, asked: "")
    monkeypatch.setattr(backends, "best_seconds", lambda run, *rest: float(run is not fails_later))
    monkeypatch.setattr("egox_core.gga.attention.CHUNK_QUERIES", 6)
    kernels_used, twin = backends.KernelsUsed(), reference_attention(*inputs, GgaOptions())
    for _ in range(2):
        ours = gga_attention(*inputs, GgaOptions(), used=kernels_used, plain=torchs)
        assert errors(ours, twin, 2).abs().max() <= EXACT
        assert "sdpa (not triton: failed: launch failed)" in kernels_used.words()
    assert query_counts == [6, 12], "of the comparison; of the whole canvas"
    assert pieces == [6, 3, 3, 3, 3]


if __name__ == "__main__":
    mend_interpreter(product.product_kernel(), *product_gradient.gradient_kernels())
    # What a choice compares is compared here, and closer.
    backends._matching_kernels = lambda names, *_: backends.Choice(names=list(names))
    pretend(CARDS[0])
    for dtype in FLOATS:
        check_gradients(dtype, "released", 3.0, ((1, 1, 20, 7), 1, 80, 2), kept=True)
    check_gradients(torch.float32, "released", 0.5, ((3, 1, 3, 5), 1, 16, 2), chunk_bytes=1)
    pretend(CARDS[1])
    check_gradients(torch.float32, "released", 10.0, ((2, 1, 9, 3), 2, 64, 1))
    check_gradients(torch.float32, "paper", 2.0, SHAPES[3])
    check_modes()
    check_parts()
    check_extremes()
