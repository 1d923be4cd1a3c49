"""Compare the Triton kernels of guided attention with the plain form, in Triton's interpreter.

    TRITON_INTERPRET=1 python -m tests.core.gga.test_triton_kernels 3     the numbers alone

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

from egox_core.gga import backends, kernel_check, kernel_table, product, product_gradient
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.bias import dense_bias, reference_attention
from egox_core.gga.exo_cache import ego_tokens
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.kernel_check import AGREEMENT
from egox_core.gga.kernel_table import KERNELS
from egox_core.gga.options import GgaOptions
from egox_core.gga.rows import BiasRows
from tests.paths import ROOT
from tests.refusals import refuses

FLOAT_TYPES = (torch.float32, torch.float16, torch.bfloat16)
FLOAT32_TOLERANCE, FLOAT16_TOLERANCE = 1e-5, 2e-3
"""Greatest errors in float32 and float16, as a share of a head's largest value."""
GRADIENT_TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Greatest errors of gradients, as a share of their largest value."""
MAX_ERROR_RATIO = 1.05
"""Greatest ratio of the kernel's error in half precision to that of the plain form."""
GUIDANCE_MODES = [("released", x) for x in (0.5, 1.0, 3.0, 10.0, 1000.0)] + [
    ("paper", 0.5),
    ("paper", 1000.0),
]
INPUT_SHAPES = [  # t, h, w_exo, w_ego in tokens; heads, dim of a head; samples
    ((2, 1, 40, 3), 2, 64, 1),
    ((1, 1, 1, 1), 1, 128, 1),
    ((1, 1, 60, 17), 1, 80, 2),
    ((1, 3, 30, 5), 2, 128, 1),
]
GPU_VERSIONS = ((9, 0), (8, 0))


def draw_inputs(grid, heads, head_size, batch, dtype, has_holes=False, device="cpu"):
    """Draw random attention inputs q, k, v and geometry that include padding, an empty head and
    opposite rays."""
    t, h, w_exo, w_ego = grid
    generator = torch.Generator().manual_seed(0)

    def unit_vectors(*shape):
        return (
            normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
            .repeat_interleave(2, -3)
            .repeat_interleave(2, -2)
        )

    exo_rays, ego_rays = unit_vectors(t, t, h, w_exo), unit_vectors(t, h, w_ego)
    exo_rays[..., ::2, :2, :] = -ego_rays[:, None, :1, :1]
    trust_map = torch.ones(t, 2 * h, 2 * w_exo)
    if has_holes:
        trust_map[:, :2, :2] = 0
    geometry = tokens_from_latents(exo_rays, ego_rays, trust_map)
    width = heads * head_size
    q, k, v = (
        torch.randn(batch, geometry.tokens, 2 * width + 3, generator=generator)
        .to(device, dtype)
        .narrow(-1, 0, width)
        for _ in range(3)
    )
    v[..., head_size : 2 * head_size] = 0
    return q, k, v, heads, geometry.to(device)


def relative_errors(values, expected, heads):
    """Measure the error of each attention value relative to the largest value of its head."""
    error, expected = (x.unflatten(-1, (heads, -1)) for x in (values.double() - expected, expected))
    return error / expected.abs().amax((0, 1, 3), keepdim=True).clamp_min(1e-30)


def patch_interpreter(*kernels) -> None:
    """Fix bugs of Triton 3.6's interpreter, and raise an error for memory access outside the
    tensors.

    Addresses outside the tensors of a launch are refused."""
    import numpy as np
    from triton.runtime import interpreter

    builder, tl = interpreter.InterpreterBuilder, interpreter.tl
    original_patch, original_dot, original_cast = (
        interpreter._patch_lang_tensor,
        builder.create_dot,
        builder.cast_impl,
    )
    original_load, original_store = builder.create_masked_load, builder.create_masked_store
    address_ranges = []

    def record_addresses(*inputs, **_):
        tensors = [x for x in inputs if isinstance(x, torch.Tensor)]
        last_offsets = [sum((n - 1) * by for n, by in zip(x.shape, x.stride())) for x in tensors]  # noqa: B905
        address_ranges[:] = sorted(
            (x.data_ptr(), x.data_ptr() + (last_offset + 1) * x.element_size())
            for x, last_offset in zip(tensors, last_offsets, strict=True)
        )

    def check_addresses(pointers, mask):
        addresses = pointers.data[np.broadcast_to(mask.data, pointers.data.shape)].astype(np.int64)
        first_addresses, end_addresses = np.array(address_ranges).T
        end_addresses = np.append(end_addresses, 0)  # of what lies before all
        last_byte = addresses + pointers.get_element_ty().primitive_bitwidth // 8
        inside_mask = (
            last_byte <= end_addresses[np.searchsorted(first_addresses, addresses, "right") - 1]
        )
        assert inside_mask.all(), "an address outside all tensors"

    def checked_load(self, pointers, mask, *arguments):
        check_addresses(pointers, mask)
        return original_load(self, pointers, mask, *arguments)

    def checked_store(self, pointers, value, mask, *arguments):
        check_addresses(pointers, mask)
        return original_store(self, pointers, value, mask, *arguments)

    def patch_for_new_numpy(tensor, *arguments):
        original_patch(tensor, *arguments)
        tensor.__index__ = lambda self: self.handle.data.item()

    def float_values(x):
        if x.data.dtype != np.uint16:
            return x
        assert str(x.dtype.scalar) == "bf16"
        return interpreter.TensorHandle(
            (x.data.astype(np.uint32) << 16).view(np.float32), tl.float32
        )

    def cast_to_nearest(self, x, target_type):
        if (x.dtype.scalar, target_type.scalar) != (tl.float32, tl.bfloat16):
            return original_cast(self, x, target_type)
        rounded = torch.from_numpy(np.ascontiguousarray(x.data)).bfloat16().view(torch.int16)
        return interpreter.TensorHandle(rounded.numpy().view(np.uint16), tl.bfloat16)

    for kernel in kernels:
        kernel.add_pre_run_hook(record_addresses)
    interpreter_options = (
        interpreter.interpreter_builder.options
    )  # sizes here are far from any overflow
    interpreter.interpreter_builder.options = replace(interpreter_options, sanitize_overflow=False)
    interpreter._patch_lang_tensor = patch_for_new_numpy
    builder.create_dot = lambda self, a, b, *arguments: original_dot(
        self, float_values(a), float_values(b), *arguments
    )
    builder.cast_impl = cast_to_nearest
    builder.create_masked_load, builder.create_masked_store = checked_load, checked_store


def half_precision_error(q, k, v, heads, bias) -> torch.Tensor:
    """Measure the error of plain attention that rounds its weights to half precision as a fused
    kernel does."""
    q4, k4, v4 = (x.double().unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    exact_result = scaled_dot_product_attention(q4, k4, v4, attn_mask=bias)
    scores = q4 @ k4.transpose(-1, -2) / math.sqrt(q4.shape[-1])
    weights = (scores - scores.amax(-1, keepdim=True)).exp() * bias.exp()
    rounded_result = (weights.to(q.dtype).double() @ v4 / weights.sum(-1, keepdim=True)).to(q.dtype)
    return relative_errors(
        *(x.transpose(1, 2).flatten(2) for x in (rounded_result, exact_result)), heads
    )


def torch_attention(
    *inputs,
) -> torch.Tensor:  # not asked for cuDNN's, which a pretended card would have
    return plain_attention(*inputs)


def triton_attention(*inputs, plain_function=torch_attention, **more_options) -> torch.Tensor:
    return gga_attention(*inputs, backend="triton", plain=plain_function, **more_options)


def ego_part(x, geometry) -> torch.Tensor:
    return ego_tokens(x, geometry.grid, 1)


def pretend_gpu(gpu_version: tuple[int, int]) -> None:
    kernel_table.card_of = lambda device: gpu_version


def check_modes(types_per_mode: int) -> None:
    """Check every mode with one or with all of the float types."""
    step = len(FLOAT_TYPES) // types_per_mode
    for type_index, dtype in enumerate(FLOAT_TYPES):
        squared_errors = []
        for mode_index in range(type_index % step, len(GUIDANCE_MODES), step):
            mode, strength = GUIDANCE_MODES[mode_index]
            pretend_gpu(GPU_VERSIONS[mode_index % 2])
            input_shape = INPUT_SHAPES[(mode_index + type_index) % len(INPUT_SHAPES)]
            has_holes = mode_index % 2 == 1
            q, k, v, heads, geometry = draw_inputs(*input_shape, dtype, has_holes)
            options = GgaOptions(mode=mode, lambda_g=strength, soft_trust=True)
            exact_inputs = q.double(), k.double(), v.double(), heads, geometry, options
            exact_result = ego_part(reference_attention(*exact_inputs), geometry)
            kernel_result = ego_part(triton_attention(q, k, v, heads, geometry, options), geometry)
            error = relative_errors(kernel_result, exact_result, heads)
            assert dtype != torch.float32 or error.abs().max() <= FLOAT32_TOLERANCE, (
                mode,
                strength,
            )
            bias = ego_part(dense_bias(geometry, options, torch.float64)[None], geometry)[0]
            plain_error = half_precision_error(ego_part(q, geometry), k, v, heads, bias)
            squared_errors.append([error.square().sum(), plain_error.square().sum()])
        kernel_result, plain_error = torch.tensor(squared_errors).sum(0).sqrt().tolist()
        assert dtype == torch.float32 or kernel_result <= MAX_ERROR_RATIO * plain_error, (
            dtype,
            kernel_result,
            plain_error,
        )


def check_sizes_and_parts(key_count: int) -> None:
    """Check the Triton kernels with odd tensor sizes, many keys, several launches, ego rows alone
    and a frame window."""
    pretend_gpu(GPU_VERSIONS[0])
    # 783 queries in a frame; a block of queries of two frames.
    for grid in ((1, 1, 1, 1), (1, 27, 1, 29), (2, 1, 3, 131)):
        q, k, v, heads, geometry = inputs = draw_inputs(grid, 1, 16, 1, torch.float16)
        exact_inputs = q.double(), k.double(), v.double(), heads, geometry
        exact_result = reference_attention(*exact_inputs, GgaOptions())
        assert (
            relative_errors(triton_attention(*inputs, GgaOptions()), exact_result, heads)
            .abs()
            .max()
            <= FLOAT16_TOLERANCE
        )
    q, k, v, heads, geometry = draw_inputs((1, 1, key_count, 2), 1, 16, 1, torch.float16)
    ego_queries = ego_part(q, geometry)
    bias_rows = BiasRows(geometry, GgaOptions(), torch.float64, reuse=True)
    exact_result = backends.math_rows(
        ego_queries.double(), k.double(), v.double(), 1, bias_rows, slice(0, 2)
    )
    kernel_result = triton_attention(ego_queries, k, v, 1, geometry, GgaOptions())
    assert relative_errors(kernel_result, exact_result, 1).abs().max() <= FLOAT16_TOLERANCE, (
        "many keys"
    )
    q, k, v, heads, geometry = inputs = draw_inputs((3, 2, 9, 5), 1, 16, 2, torch.float16)
    ego_rows = ego_part(triton_attention(*inputs, GgaOptions()), geometry)
    chunked_rows = ego_part(triton_attention(*inputs, GgaOptions(), chunk_bytes=1), geometry)
    ego_only_rows = triton_attention(ego_part(q, geometry), *inputs[1:], GgaOptions())
    assert torch.equal(chunked_rows, ego_rows)
    assert torch.equal(ego_only_rows, ego_rows)
    assert len(geometry.made) == 1, "columns are made once"
    triton_attention(*inputs, GgaOptions(lambda_g=2))
    assert len(geometry.made) == 2, "and again for another strength"
    part_geometry = geometry.select_frames([2, 0])
    q, k, v = (x.unflatten(1, (3, -1))[:, [2, 0]].flatten(1, 2) for x in (q, k, v))
    exact_result = reference_attention(
        q.double(), k.double(), v.double(), heads, part_geometry, GgaOptions()
    )
    error = relative_errors(
        triton_attention(q, k, v, heads, part_geometry, GgaOptions()), exact_result, heads
    )
    assert error.abs().max() <= FLOAT16_TOLERANCE, "a window"
    unguided_result = triton_attention(*inputs, GgaOptions(lambda_g=0.0))
    assert torch.equal(unguided_result, plain_attention(*inputs[:4])), "lambda 0"


def check_gradients(dtype, mode, strength, shape, ego_only=False, **launch_options) -> None:
    """Check that the Triton kernels' gradients equal those of dense attention, and are equal in a
    second run."""
    options = GgaOptions(mode=mode, lambda_g=strength)
    q, k, v, heads, geometry = draw_inputs(*shape, dtype, has_holes=True)
    if launch_options:
        geometry = geometry.select_frames([2, 0])
        q, k, v = (x[:, : geometry.tokens] for x in (q, k, v))

    def kernel_attention(q, *rest):
        return triton_attention(
            ego_part(q, geometry) if ego_only else q, *rest, recompute=True, **launch_options
        )

    def exact_attention(*inputs):
        result = reference_attention(*inputs)
        return ego_part(result, geometry) if ego_only else result

    def gradients_of(attend, *inputs):
        leaf_tensors = [x.detach().requires_grad_() for x in inputs]
        attention_result = attend(*leaf_tensors, heads, geometry, options)
        weights = (
            torch.linspace(-1, 1, attention_result.numel())
            .view_as(attention_result)
            .to(attention_result)
        )
        return torch.autograd.grad((attention_result * weights).sum(), leaf_tensors)

    exact_gradients = gradients_of(exact_attention, q.double(), k.double(), v.double())
    first_gradients, second_gradients = (gradients_of(kernel_attention, q, k, v) for _ in range(2))
    for gradient, repeated_gradient, exact_gradient in zip(
        first_gradients, second_gradients, exact_gradients, strict=True
    ):
        assert torch.equal(gradient, repeated_gradient)
        assert (gradient - exact_gradient).abs().max() <= GRADIENT_TOLERANCES[
            dtype
        ] * exact_gradient.abs().max(), (options, dtype)


def check_extremes() -> None:
    """Check the Triton kernels with opposite rays, strengths beyond float16's range and infinite
    scores."""
    q, k, v, heads, geometry = draw_inputs((1, 1, 30, 2), 1, 16, 1, torch.float32)
    ray = normalize(torch.tensor([[[1.0, 2.0, 3.0]]]), dim=-1)
    opposite_geometry = replace(
        geometry,
        query_dirs=ray.expand(1, 2, 3).contiguous(),
        key_dirs=-ray.expand(1, geometry.tokens, 3).contiguous(),
    )
    infinite_keys = torch.full_like(k, -torch.inf)
    for dtype in FLOAT_TYPES:
        typed_values = v.to(dtype)
        for strength in (1.0, 1000.0, 100_000.0):
            options = GgaOptions(lambda_g=strength)
            attention_inputs = q.to(dtype), k.to(dtype), typed_values, heads
            result = ego_part(
                triton_attention(*attention_inputs, opposite_geometry, options), geometry
            )
            assert result.isfinite().all()
            assert result.abs().max() <= typed_values.abs().max()
            assert result.abs().max() > 0.01, "weights, if small ones"
            infinite_inputs = q.abs().to(dtype), infinite_keys.to(dtype), typed_values, heads
            assert (
                ego_part(
                    triton_attention(
                        *infinite_inputs, geometry, options, plain_function=zero_attention
                    ),
                    geometry,
                )
                == 0
            ).all()


def zero_attention(q, k, v, heads) -> torch.Tensor:
    return torch.zeros_like(q)


@pytest.mark.parametrize("types_per_mode", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_triton_kernels_agree_with_plain_attention(types_per_mode):
    """Run all checks of the Triton kernels in a subprocess that uses Triton's interpreter."""
    pytest.importorskip(
        "triton", reason="Triton is not installed here; GPU machines without it use torch"
    )
    process_result = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.core.gga.test_triton_kernels",
            str(types_per_mode),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert process_result.returncode == 0, process_result.stderr


@pytest.mark.parametrize("dtype", FLOAT_TYPES[1:])
@pytest.mark.parametrize("backend", list(backends.BACKENDS))
def test_each_kernel_agrees_with_plain_attention_on_a_gpu(backend, dtype, device):
    """Check each attention kernel on a GPU with queries that span two frames of the released
    size."""
    if device.type != "cuda":
        pytest.skip("takes a card: --device cuda")
    q, k, v, heads, geometry = draw_inputs((13, 28, 49, 28), 4, 128, 1, dtype, device=device)
    query_slice, options = slice(700, 956), GgaOptions()
    ego_queries = ego_part(q, geometry)[:, query_slice]
    bias_rows = BiasRows(geometry, options, dtype, reuse=True)
    kernel_result = backends.BACKENDS[backend](ego_queries, k, v, heads, bias_rows, query_slice)
    exact_rows = BiasRows(geometry, options, torch.float64, reuse=True)
    exact_result = backends.math_rows(
        ego_queries.double(), k.double(), v.double(), heads, exact_rows, query_slice
    )
    assert relative_errors(kernel_result, exact_result, heads).abs().max() <= AGREEMENT[dtype]


def triton_refusal(device="cuda:0", dtype=torch.bfloat16, head_size=128, **changes) -> str:
    return KERNELS["triton"].refusal(torch.device(device), dtype, head_size, **changes)


@pytest.mark.parametrize(
    ("gpu_version", "changes", "expected_text"),
    [
        ((9, 0), {"by_name": False}, ""),
        ((8, 9), {"by_name": False}, "never measured on a card of 8.9: choose it by name"),
        ((8, 9), {}, ""),
        ((7, 5), {}, "needs an NVIDIA card of 8.0 or higher"),
        ((9, 0), {"any_weight": True}, "no mode power and no soft trust"),
        ((9, 0), {"dtype": torch.float64}, "takes no torch.float64"),
        ((9, 0), {"head_size": 256}, "at most 128 channels"),
    ],
)
def test_kernel_table_refuses_unsupported_requests(
    monkeypatch, gpu_version, changes, expected_text
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: gpu_version)
    monkeypatch.setattr(kernel_table, "triton_version", lambda: (3, 6))
    refusal = triton_refusal(**changes)
    assert expected_text in refusal
    assert bool(expected_text) == bool(refusal)
    monkeypatch.setattr(kernel_table, "triton_version", lambda: (0, 0))
    assert triton_refusal(**changes), "no Triton"


def test_auto_skips_a_kernel_that_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(kernel_check, "_cached_choices", {})
    attention_inputs = draw_inputs((1, 2, 3, 2), 2, 16, 1, torch.float32)
    monkeypatch.setattr(backends, "backend_choices", lambda device: ("triton", "sdpa"))
    kernels_used = backends.KernelsUsed()
    gga_attention(*attention_inputs, GgaOptions(), used=kernels_used)
    reason = triton_refusal("cpu", torch.float32, 16)
    assert kernels_used.words() == f"guided attention by sdpa (not triton: {reason})"
    with refuses(f"triton, which {reason}.*set backend to auto"):
        gga_attention(*attention_inputs, GgaOptions(), backend="triton")


if __name__ == "__main__":
    patch_interpreter(product.product_kernel(), *product_gradient.gradient_kernels())
    # What a choice compares is compared here, and closer.
    kernel_check.Choosing.choose = lambda *_, **__: None
    pretend_gpu(GPU_VERSIONS[0])
    for dtype in FLOAT_TYPES:
        check_gradients(dtype, "released", 3.0, ((1, 1, 20, 7), 1, 80, 2), ego_only=True)
    check_gradients(torch.float32, "released", 0.5, ((3, 1, 3, 5), 1, 16, 2), chunk_bytes=1)
    pretend_gpu(GPU_VERSIONS[1])
    check_gradients(torch.float32, "released", 10.0, ((2, 1, 9, 3), 2, 64, 1))
    check_gradients(torch.float32, "paper", 2.0, INPUT_SHAPES[3])
    types_per_mode = int(sys.argv[1])
    check_modes(types_per_mode)
    # Those of the released size with all types, else as many as fill dozens of tiles.
    check_sizes_and_parts(3_500 if types_per_mode == 1 else 28_026)
    check_extremes()
