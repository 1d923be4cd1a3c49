"""Build tensors for one self-attention call, and measure the time, peak memory and error of
attention kernels on them."""

import math
import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from egox_core.frozen import frozen
from egox_core.gga import GgaOptions, bias_from_cosine, tokens_from_latents
from egox_core.types import GgaGeometry

from .record import seconds

PLAIN_KERNELS = {
    "default": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
ERROR_ROWS = 32


@frozen
class AttentionCase:
    """Input tensors of one attention call."""

    q: Tensor  # [B, tokens, heads * dim]
    k: Tensor
    v: Tensor
    heads: int
    geometry: GgaGeometry

    @property
    def plain_inputs(self) -> tuple[Tensor, Tensor, Tensor, int]:
        """Tensors q, k and v for attention without geometry."""
        return self.q, self.k, self.v, self.heads


def random_geometry(
    latent_size: tuple[int, int, int, int],
    generator: torch.Generator,
    geometry_from_directions: Callable[[Tensor, Tensor], GgaGeometry] = tokens_from_latents,
) -> GgaGeometry:
    """Draw random unit ray directions for a video clip with the given size in latents.

    ``geometry_from_directions``: ``tokens_from_latents`` of another import of the core, as the pack
    has one.
    """
    t, h, w_exo, w_ego = latent_size

    def random_directions(*shape: int) -> Tensor:
        # Pooling shortens random neighbours; scaled so that cosines still reach both ends.
        random_vectors = torch.randn(*shape, 3, generator=generator)
        unit_vectors = random_vectors / random_vectors.norm(dim=-1, keepdim=True)
        return unit_vectors.repeat_interleave(2, -3).repeat_interleave(2, -2)

    return geometry_from_directions(
        random_directions(t, t, h // 2, w_exo // 2), random_directions(t, h // 2, w_ego // 2)
    )


def make_case(
    latent_size: tuple[int, int, int, int],
    heads: int,
    dim: int,
    dtype: torch.dtype,
    device: torch.device,
    batch: int = 1,
) -> AttentionCase:
    """Draw random q, k, v and ray directions for one attention call."""
    geometry = random_geometry(latent_size, torch.Generator().manual_seed(0)).to(device)
    generator = torch.Generator(device=device).manual_seed(
        0
    )  # a CPU takes many seconds for as many numbers
    q, k, v = (
        torch.randn(batch, geometry.tokens, heads * dim, generator=generator, device=device).to(
            dtype
        )
        for _ in range(3)
    )
    return AttentionCase(q=q, k=k, v=v, heads=heads, geometry=geometry)


@contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Make torch use only the attention kernel of the given name within a ``with`` block."""
    sdp_backend = PLAIN_KERNELS[name]
    with sdpa_kernel(sdp_backend) if sdp_backend is not None else nullcontext():
        yield


def median_seconds(
    functions: dict[str, Callable[[], object]], device: torch.device, rounds: int
) -> dict[str, float]:
    """Measure the median run time of several functions, which are called in turns.

    Each turn has another order, since a card is slower after what heats it. Works that don't
    run here, or for which memory is short, are left out.
    """
    times_by_name: dict[str, list[float]] = {}
    for name, timed_function in functions.items():
        with suppress(RuntimeError, ImportError):
            timed_function()
            times_by_name[name] = []
    turn_order = random.Random(0)
    for _ in range(rounds):
        for name in turn_order.sample(list(times_by_name), len(times_by_name)):
            times_by_name[name].append(seconds(functions[name], device))
    return {name: statistics.median(call_seconds) for name, call_seconds in times_by_name.items()}


def exact_rows(
    case: AttentionCase, options: GgaOptions | None
) -> tuple[Tensor, Tensor]:  # [n], [B, n, heads * dim]
    """Compute the attention output of some ego tokens in float64, as a reference.

    There is no bias where ``options`` is None.
    """
    geometry, generator = case.geometry, torch.Generator().manual_seed(1)
    t, h, w_exo, w_ego = geometry.grid
    picked_rows = [
        (frame, torch.randperm(h * w_ego, generator=generator)[:ERROR_ROWS].to(case.q.device))
        for frame in sorted({0, t // 2, t - 1})
    ]
    tokens = [
        (frame * h + ego_tokens // w_ego) * (w_exo + w_ego) + w_exo + ego_tokens % w_ego
        for frame, ego_tokens in picked_rows
    ]

    def split_heads(x: Tensor) -> Tensor:  # [n, heads * dim] -> [heads, n, dim]
        return x.double().unflatten(-1, (case.heads, -1)).transpose(0, 1)

    exact_rows_by_frame = []
    for qkv_sample in zip(case.q, case.k, case.v, strict=True):  # one at a time: float64 is large
        k, v = map(split_heads, qkv_sample[1:])
        for (frame, ego_tokens), token_indices in zip(picked_rows, tokens, strict=True):
            q = split_heads(qkv_sample[0][token_indices])
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            if options is not None:
                direction_cosines = (
                    geometry.query_dirs[frame, ego_tokens].double()
                    @ geometry.key_dirs[frame].double().T
                )
                scores = scores + bias_from_cosine(
                    direction_cosines, geometry.key_trust > 0, options
                )
            exact_rows_by_frame.append((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    return torch.cat(tokens), torch.cat(exact_rows_by_frame).unflatten(0, (len(case.q), -1))


def relative_row_error(result: Tensor, exact_result: tuple[Tensor, Tensor]) -> float:
    """Compute the relative error of an attention result against the float64 reference of
    :func:`exact_rows`.

    Both are root mean squares. A share, because bias sharpens attention and so enlarges what it
    gives.
    """
    token_indices, exact_values = exact_result
    return float(
        (result[:, token_indices].double() - exact_values)
        .square()
        .sum()
        .div(exact_values.square().sum())
        .sqrt()
    )


def peak_tensor_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Measure the peak GPU memory in bytes that a function call needs, including its result.

    0 on a CPU.
    """
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    bytes_before = torch.cuda.memory_allocated(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - bytes_before
