"""Test geometry-guided attention against the full bias matrix."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from egox_core.gga import backends, kernel_check
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.bias import dense_bias, reference_attention
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.options import GgaOptions
from egox_core.types import GgaGeometry
from tests.refusals import refuses

HEADS, HEAD_SIZE = 4, 16
LATENT_FRAMES, LATENT_HEIGHT, W_EXO, W_EGO = 3, 6, 8, 6  # latents; half of that in tokens
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
    device: torch.device,
    has_holes: bool = False,
    latent_size=(LATENT_FRAMES, LATENT_HEIGHT, W_EXO, W_EGO),
) -> GgaGeometry:
    t, h, w_exo, w_ego = latent_size
    generator = torch.Generator().manual_seed(0)
    exo_rays, ego_rays = (
        normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
        for shape in ((t, t, h, w_exo), (t, h, w_ego))
    )
    trust_map = None
    if has_holes:
        trust_map = (torch.rand(t, h, w_exo, generator=generator) * 2 - 0.5).clamp(0, 1)
        trust_map[:, :2, :2] = 0  # a whole token without depth
    return tokens_from_latents(exo_rays, ego_rays, trust_map).to(device)


def random_qkv(device: torch.device, batch: int = 2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, LATENT_FRAMES * 3 * 7, HEADS * HEAD_SIZE, generator=generator).to(
            device, dtype
        )
        for _ in range(3)
    ]


def exact_attention(q, k, v, geometry: GgaGeometry, options: GgaOptions) -> torch.Tensor:
    return reference_attention(q.double(), k.double(), v.double(), HEADS, geometry, options)


@pytest.mark.parametrize("has_holes", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 24 * 2**20])
@pytest.mark.parametrize("mode, lambda_g", MODES)
def test_chunked_attention_equals_the_dense_form(
    mode, lambda_g, has_holes, chunk_bytes, device, tolerance_factor
):
    """Check that attention computed in chunks equals attention with the full bias matrix."""
    q, k, v = random_qkv(device)
    geometry = random_geometry(device, has_holes=has_holes)
    options = GgaOptions(mode=mode, lambda_g=lambda_g, soft_trust=has_holes)
    chunked_result = gga_attention(q, k, v, HEADS, geometry, options, chunk_bytes=chunk_bytes)
    dense_result = exact_attention(q, k, v, geometry, options)
    assert (chunked_result - dense_result).abs().max() <= ATTENTION_ROUNDING * tolerance_factor
    assert (chunked_result - plain_attention(q, k, v, HEADS)).abs().max() > 1e-3


class LargestTensor(TorchDispatchMode):
    """Record the size in bytes of the largest tensor that any torch operation returns."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensor_bytes = [x.nbytes for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.nbytes = max(self.nbytes, *tensor_bytes, 0)
        return result


def test_attention_builds_no_full_score_matrix():
    geometry = random_geometry(torch.device("cpu"), latent_size=(6, 12, 16, 12))
    q, k, v = (torch.randn(1, geometry.tokens, 8) for _ in range(3))
    guided_attention = partial(gga_attention, q, k, v, 1, geometry, GgaOptions())
    guided_attention()  # kernels are compared once
    with LargestTensor() as recorder:
        guided_attention(chunk_bytes=2**16)
    assert recorder.nbytes <= 2**16 < 4 * geometry.tokens**2 / 8


@pytest.mark.parametrize("mode, lambda_g", [("off", None), ("released", 0), ("power", 0)])
def test_unguided_attention_equals_plain_attention_exactly(mode, lambda_g, device):
    options = GgaOptions(mode=mode, lambda_g=lambda_g)
    q, k, v = random_qkv(device)
    kernel_calls = []

    def recorded_attention(*args):
        kernel_calls.append(args)
        return plain_attention(*args)

    assert torch.equal(
        gga_attention(q, k, v, HEADS, random_geometry(device), options, plain=recorded_attention),
        plain_attention(q, k, v, HEADS),
    )
    assert len(kernel_calls) == 1


def install_faulty_kernel(monkeypatch, fault: str, calls: list[slice], *other_kernels: str) -> None:
    """Install an attention kernel with one kind of fault as the first choice, before
    ``other_kernels``."""

    def faulty_kernel(q, k, v, heads, bias_rows, queries):
        calls.append(queries)
        if fault == "raises at once" or (
            fault == "raises on the last chunk" and queries.stop == LATENT_FRAMES * 9
        ):
            raise NotImplementedError("as a compiler's error: no RuntimeError of torch")
        result = backends.BACKENDS["sdpa"](q, k, v, heads, bias_rows, queries)
        return result + 0.1 if fault == "wrong numbers" else result

    monkeypatch.setitem(backends.BACKENDS, "fake", faulty_kernel)
    monkeypatch.setattr(backends, "backend_choices", lambda _: ("fake", *other_kernels))
    monkeypatch.setattr(
        kernel_check, "best_seconds", lambda kernel, *_: float(kernel is not faulty_kernel)
    )
    monkeypatch.setattr(kernel_check, "_cached_choices", {})


@pytest.mark.parametrize("other_kernels", [(), ("sdpa",)])
@pytest.mark.parametrize("fault", ["wrong numbers", "raises at once", "raises on the last chunk"])
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, ATTENTION_ROUNDING), (torch.bfloat16, 2e-2)]
)
def test_faulty_kernel_is_replaced_and_remembered(
    monkeypatch, fault, other_kernels, dtype, tolerance, device, tolerance_factor
):
    """Check that a faulty attention kernel isn't tried again in a second call, and that results are
    right."""
    faulty_kernel_calls: list[slice] = []
    install_faulty_kernel(monkeypatch, fault, faulty_kernel_calls, *other_kernels)
    monkeypatch.setattr(backends, "SCORE_BYTES", 8000)
    q, k, v = random_qkv(device, dtype=dtype)
    geometry = random_geometry(device, has_holes=True)
    options = GgaOptions(lambda_g=1.0)
    tolerance = min(tolerance * tolerance_factor, 2e-2)
    exact_result = exact_attention(q, k, v, geometry, options)
    kernels_used = backends.KernelsUsed()
    for _ in range(2):
        result = gga_attention(q, k, v, HEADS, geometry, options, chunk_bytes=1, used=kernels_used)
        assert (
            result - exact_result
        ).abs().max() <= tolerance * exact_result.abs().max().clamp_min(1)
    chunk_count = LATENT_FRAMES * 3
    assert len(faulty_kernel_calls) == (
        1 + chunk_count if fault == "raises on the last chunk" else 1
    )
    assert kernels_used.words().startswith(
        f"guided attention by {other_kernels[0] if other_kernels else kernel_check.MATH_WORDS} "
        "(not fake: "
    )
    assert (
        "wrong numbers" if fault == "wrong numbers" else "as a compiler's error"
    ) in kernels_used.words()


@pytest.mark.parametrize("recompute", [False, True])
def test_kernel_failing_in_training_is_replaced(monkeypatch, recompute, device):
    install_faulty_kernel(monkeypatch, "raises on the last chunk", [], "sdpa")
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


def test_bias_is_scaled_by_trust(device):
    geometry = random_geometry(device)
    quarter_trust = geometry.key_trust * 0.25
    scaled_bias = dense_bias(
        replace(geometry, key_trust=quarter_trust), GgaOptions(soft_trust=True)
    )
    full_bias = dense_bias(geometry, GgaOptions())
    exo_mask = geometry.key_trust > 0
    assert torch.allclose(scaled_bias[:, exo_mask], 0.25 * full_bias[:, exo_mask])
    unscaled_bias = dense_bias(
        replace(geometry, key_trust=quarter_trust), GgaOptions(soft_trust=False)
    )
    assert torch.equal(unscaled_bias, full_bias)


@pytest.mark.parametrize("tag", ["0.5", "1.0", "3.0"])
def test_dense_bias_equals_the_golden_of_the_tiny_transformer(repo_root, tag, device):
    golden_tensors = load_file(repo_root / "tests/golden/tiny_transformer.safetensors", str(device))
    geometry = tokens_from_latents(
        golden_tensors["in.point_vecs_per_frame"], golden_tensors["in.cam_rays"]
    )
    bias = dense_bias(geometry, GgaOptions(lambda_g=float(tag)))
    expected_bias = golden_tensors[f"mid.bias_lambda_{tag}"]
    assert (bias.exp() - expected_bias.exp()).abs().max() <= 1e-5
    assert (bias - expected_bias)[expected_bias > -4].abs().max() <= 2e-4


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


def test_attention_of_another_canvas_size_is_refused(device):
    q, k, v = (x[:, :-7] for x in random_qkv(device))
    with refuses("tokens of the attention"):
        gga_attention(q, k, v, HEADS, random_geometry(device), GgaOptions())
    with refuses("attention backend"):
        gga_attention(
            *random_qkv(device), HEADS, random_geometry(device), GgaOptions(), backend="fastest"
        )
