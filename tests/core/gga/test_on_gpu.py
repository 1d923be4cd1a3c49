"""Each attention kernel on a real GPU: 28,028 tokens of the 14B model against the twin in
float64."""

import pytest
import torch

from egox_core.gga import backends, kernel_check
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.options import GgaOptions
from egox_core.gga.rows import BiasRows

GRID, HEADS, DIM = (13, 28, 49, 28), 40, 128  # tokens of 49 frames at the released size
ROWS = slice(700, 956)  # ego queries over the end of a frame of 784


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", list(backends.BACKENDS))
def test_kernel_equals_the_float64_twin(backend, dtype, device):
    if device.type != "cuda":
        pytest.skip("takes a card: --device cuda")
    error, largest = kernel_error(backend, dtype, device, GRID, HEADS, DIM, ROWS)
    assert error <= kernel_check.AGREEMENT[dtype] * largest


def kernel_error(
    backend: str,
    dtype: torch.dtype,
    device: torch.device,
    grid: tuple[int, int, int, int],
    heads: int,
    dim: int,
    rows: slice,
) -> tuple[float, float]:
    """(largest difference, largest value) of these rows."""
    t, h, w_exo, w_ego = grid
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    geometry = tokens_from_latents(
        torch.nn.functional.normalize(random(t, t, 2 * h, 2 * w_exo, 3), dim=-1),
        torch.nn.functional.normalize(random(t, 2 * h, 2 * w_ego, 3), dim=-1),
    )
    q = random(1, rows.stop - rows.start, heads * dim).to(dtype)
    k, v = (random(1, geometry.tokens, heads * dim).to(dtype) for _ in range(2))
    options = GgaOptions()
    ours = backends.BACKENDS[backend](
        q, k, v, heads, BiasRows(geometry, options, dtype, reuse=True), rows
    )
    exact = BiasRows(geometry, options, torch.float64, reuse=True, fused=False)
    twin = backends.math_rows(q.double(), k.double(), v.double(), heads, exact, rows)
    return float((ours - twin).abs().max()), float(twin.abs().max())
