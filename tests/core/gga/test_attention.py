"""Geometry-guided attention: the chunked path against its dense twin, modes, ranges, and what is
refused."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from egox_core.gga import backends
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.bias import bias_from_cosine, cosine_rows, dense_bias, reference_attention
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.options import GgaOptions
from egox_core.gga.rows import BiasRows
from egox_core.types import GgaGeometry
from tests.refusals import refuses

HEADS, DIM = 4, 16
T, H, W_EXO, W_EGO = 3, 6, 8, 6  # latents; half of that in tokens
ATTENTION_ROUNDING = 2e-6  # float32 softmax over 126 keys, values of size 1
MODES = [
    ("released", 3.0),
    ("released", 1.0),
    ("released", 0.5),
    ("paper", 2.0),
    ("power", 0.5),
    ("power", 2.0),
]


def random_geometry(
    device: torch.device, holes: bool = False, latents=(T, H, W_EXO, W_EGO)
) -> GgaGeometry:
    t, h, w_exo, w_ego = latents
    generator = torch.Generator().manual_seed(0)
    exo, ego = (
        normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
        for shape in ((t, t, h, w_exo), (t, h, w_ego))
    )
    trust = None
    if holes:
        trust = (torch.rand(t, h, w_exo, generator=generator) * 2 - 0.5).clamp(0, 1)
        trust[:, :2, :2] = 0  # a whole token without depth
    return tokens_from_latents(exo, ego, trust).to(device)


def random_qkv(device: torch.device, batch: int = 2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, T * 3 * 7, HEADS * DIM, generator=generator).to(device, dtype)
        for _ in range(3)
    ]


def exact_attention(q, k, v, geometry: GgaGeometry, options: GgaOptions) -> torch.Tensor:
    return reference_attention(q.double(), k.double(), v.double(), HEADS, geometry, options)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 24 * 2**20])
@pytest.mark.parametrize("mode, lambda_g", [MODES[0], MODES[-1]])
def test_chunks_equal_the_dense_twin(mode, lambda_g, holes, chunk_bytes, device, rounding):
    """Every mode's numbers are compared row by row below."""
    q, k, v = random_qkv(device)
    geometry, options = (
        random_geometry(device, holes=holes),
        GgaOptions(mode=mode, lambda_g=lambda_g),
    )
    ours = gga_attention(q, k, v, HEADS, geometry, options, chunk_bytes=chunk_bytes)
    twin = exact_attention(q, k, v, geometry, options)
    assert (ours - twin).abs().max() <= ATTENTION_ROUNDING * rounding
    assert (ours - plain_attention(q, k, v, HEADS)).abs().max() > 1e-3


@pytest.mark.parametrize("mode, lambda_g", MODES)
def test_bias_rows_equal_the_twin(mode, lambda_g, device, rounding):
    geometry, options = (
        random_geometry(device, holes=True),
        GgaOptions(mode=mode, lambda_g=lambda_g, soft_trust=True),
    )
    cos = torch.cat([cosine_rows(geometry, frame) for frame in range(T)])
    twin = bias_from_cosine(cos, geometry.key_trust > 0, options, geometry.key_trust)
    rows_of = BiasRows(geometry, options, torch.float32, reuse=True)
    for queries in (
        slice(0, 27),
        slice(2, 7),
        slice(7, 20),
    ):  # within a frame of 9, and over its end
        # exp: near cosine -1 the logarithm stretches the last bit of the cosine, in a weight that
        # is nearly 0.
        error = (rows_of(queries).exp() - twin[queries].exp()).abs().max()
        assert error <= 2e-6 * rounding * max(1.0, float(twin.exp().max()))


class LargestTensor(TorchDispatchMode):
    """Bytes of the largest tensor that an operation has made."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [x.nbytes for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.nbytes = max(self.nbytes, *sizes, 0)
        return out


def test_no_map_of_all_queries_and_keys_is_made():
    geometry = random_geometry(torch.device("cpu"), latents=(6, 12, 16, 12))
    q, k, v = (torch.randn(1, geometry.tokens, 8) for _ in range(3))
    guided = partial(gga_attention, q, k, v, 1, geometry, GgaOptions())
    guided()  # kernels are compared once
    with LargestTensor() as largest:
        guided(chunk_bytes=2**16)
    assert largest.nbytes <= 2**16 < 4 * geometry.tokens**2 / 8


@pytest.mark.parametrize("mode, lambda_g", [("off", None), ("released", 0), ("power", 0)])
def test_no_geometry_is_the_plain_path_bit_for_bit(mode, lambda_g, device):
    options = GgaOptions(mode=mode, lambda_g=lambda_g)
    q, k, v = random_qkv(device)
    calls = []

    def plain(*args):
        calls.append(args)
        return plain_attention(*args)

    assert torch.equal(
        gga_attention(q, k, v, HEADS, random_geometry(device), options, plain=plain),
        plain_attention(q, k, v, HEADS),
    )
    assert len(calls) == 1


def choose_fake(monkeypatch, kind: str, calls: list[slice], *others: str) -> None:
    """Make a kernel of this kind of fault the fastest, before ``others``."""

    def run(q, k, v, heads, bias_rows, queries):
        calls.append(queries)
        if kind == "raises at once" or (
            kind == "raises on the last chunk" and queries.stop == T * 9
        ):
            raise NotImplementedError("as a compiler's error: no RuntimeError of torch")
        out = backends.BACKENDS["sdpa"](q, k, v, heads, bias_rows, queries)
        return out + 0.1 if kind == "wrong numbers" else out

    monkeypatch.setitem(backends.BACKENDS, "fake", run)
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("fake", *others))
    monkeypatch.setattr(backends, "best_seconds", lambda kernel, *_: float(kernel is not run))
    monkeypatch.setattr(backends, "_cached_choices", {})


@pytest.mark.parametrize("others", [(), ("sdpa",)])
@pytest.mark.parametrize("kind", ["wrong numbers", "raises at once", "raises on the last chunk"])
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, ATTENTION_ROUNDING), (torch.bfloat16, 2e-2)]
)
def test_a_broken_kernel_is_survived_and_remembered(
    monkeypatch, kind, others, dtype, tolerance, device, rounding
):
    """The test calls the public function. Without ``others`` only the mathematical form is left, in
    small pieces."""
    calls: list[slice] = []
    choose_fake(monkeypatch, kind, calls, *others)
    monkeypatch.setattr(backends, "SCORE_BYTES", 8000)
    q, k, v = random_qkv(device, dtype=dtype)
    geometry, options = random_geometry(device, holes=True), GgaOptions(lambda_g=1.0)
    tolerance = min(tolerance * rounding, 2e-2)
    twin = exact_attention(q, k, v, geometry, options)
    kernels_used = backends.KernelsUsed()
    for _ in range(2):
        ours = gga_attention(q, k, v, HEADS, geometry, options, chunk_bytes=1, used=kernels_used)
        assert (ours - twin).abs().max() <= tolerance * twin.abs().max().clamp_min(1)
    chunks = T * 3
    assert len(calls) == (1 + chunks if kind == "raises on the last chunk" else 1)
    assert kernels_used.words().startswith(
        f"guided attention by {others[0] if others else backends.MATH_WORDS} (not fake: "
    )
    assert (
        "wrong numbers" if kind == "wrong numbers" else "as a compiler's error"
    ) in kernels_used.words()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_kernel_that_breaks_in_training_is_survived(monkeypatch, recompute, device):
    choose_fake(monkeypatch, "raises on the last chunk", [], "sdpa")
    gradients = []
    for backend in ("auto", "reference"):
        q, k, v = (x.requires_grad_() for x in random_qkv(device, batch=1))
        gga_attention(
            q,
            k,
            v,
            HEADS,
            random_geometry(device),
            GgaOptions(lambda_g=1.0),
            chunk_bytes=1,
            backend=backend,
            recompute=recompute,
        ).square().sum().backward()
        gradients.append(torch.cat([q.grad, k.grad, v.grad]))
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-4 * gradients[
        1
    ].abs().max()  # float32 sums


def test_untrusted_keys_lose_their_bias(device):
    geometry = random_geometry(device)
    trust = geometry.key_trust * 0.25
    half = dense_bias(replace(geometry, key_trust=trust), GgaOptions(soft_trust=True))
    full = dense_bias(geometry, GgaOptions())
    exo = geometry.key_trust > 0
    assert torch.allclose(half[:, exo], 0.25 * full[:, exo])
    ignored = dense_bias(replace(geometry, key_trust=trust), GgaOptions(soft_trust=False))
    assert torch.equal(ignored, full)


def test_bfloat16_is_as_exact_as_plain_bfloat16(device):
    q, k, v = random_qkv(device, dtype=torch.bfloat16)
    geometry, options = random_geometry(device), GgaOptions()
    ours = gga_attention(q, k, v, HEADS, geometry, options)
    ours = (ours - exact_attention(q, k, v, geometry, options)).abs()
    exact = plain_attention(q.double(), k.double(), v.double(), HEADS)
    plain = (plain_attention(q, k, v, HEADS) - exact).abs()
    # 1.2: the bias is rounded to bfloat16 too (quirks 17), and sharper attention gives larger
    # numbers. A card's plain form keeps scores in float32 and errs less: 1.23 of that.
    assert ours.mean() <= (1.2 if device.type == "cpu" else 1.3) * plain.mean()


def test_a_part_of_the_frames_is_the_part_of_the_tables(device):
    geometry = random_geometry(device, holes=True)
    part = geometry.select_frames([0, 2])
    per_frame = 21
    index = torch.cat((torch.arange(per_frame), 2 * per_frame + torch.arange(per_frame)))
    assert part.grid == (2, 3, 4, 3)
    assert torch.equal(
        dense_bias(part, GgaOptions()), dense_bias(geometry, GgaOptions())[index][:, index]
    )


@pytest.mark.parametrize("tag", ["0.5", "1.0", "3.0"])
def test_dense_bias_equals_the_golden_of_the_tiny_transformer(repo_root, tag, device):
    golden = load_file(repo_root / "tests/golden/tiny_transformer.safetensors", str(device))
    geometry = tokens_from_latents(golden["in.point_vecs_per_frame"], golden["in.cam_rays"])
    bias = dense_bias(geometry, GgaOptions(lambda_g=float(tag)))
    expected = golden[f"mid.bias_lambda_{tag}"]
    assert (bias.exp() - expected.exp()).abs().max() <= 1e-5
    assert (bias - expected)[expected > -4].abs().max() <= 2e-4


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lambda_g": -1}, "λ_g"),
        ({"lambda_g": float("nan")}, "λ_g"),
        ({"lambda_g": float("inf")}, "λ_g"),
        ({"mode": "paper", "lambda_g": 0}, "silence"),
        ({"mode": "strong"}, "attention mode"),
    ],
)
def test_bad_options_are_refused(settings, message):
    with refuses(message):
        GgaOptions(**settings)


def test_defaults_follow_the_mode():
    assert [GgaOptions(mode=m).lambda_g for m in ("released", "paper", "power")] == [3.0, 1.0, 1.0]


def test_another_canvas_is_refused(device):
    q, k, v = (x[:, :-7] for x in random_qkv(device))
    with refuses("tokens of the attention"):
        gga_attention(q, k, v, HEADS, random_geometry(device), GgaOptions())
    with refuses("attention backend"):
        gga_attention(
            *random_qkv(device), HEADS, random_geometry(device), GgaOptions(), backend="fastest"
        )
