"""What geometry costs one self-attention: time and memory against the fastest plain kernel, and the error.

    python3 run.py bench gga [--tokens quarter|full] [--heads 8] [--dim 64] [--dtype float32|bfloat16] [--save]

On a GPU the default is the real thing: 28,028 tokens, 40 heads of 128, bfloat16. On a CPU it is a quarter of the
tokens with 8 heads of 64 in float32: few heads share the cost of the bias, more of them would look better. Geometry is
of the released shape with random directions, which cost what real ones do.

Plain and biased attention take turns, and the fastest of each counts, so that other work on the machine disturbs both
alike. The error is that of sampled query rows against float64, for plain and for biased attention.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.support.record import add_arguments, finish, peak_tensor_bytes
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.backends import BACKENDS, backend_choices
from egox_core.gga.bias import bias_from_cosine
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.options import GgaOptions
from egox_core.types import GgaGeometry

LATENTS = {"full": (13, 56, 98, 56), "quarter": (13, 28, 50, 28), "small": (3, 8, 14, 8)}  # t, h, w_exo, w_ego
TIME_BAR, MEMORY_BAR_MB, SMALLER_ERROR = 1.15, 64.0, 1.1
PLAIN_KERNELS = {"default": None, "flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
                 "efficient": SDPBackend.EFFICIENT_ATTENTION}
ERROR_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Tensors of one attention call."""

    q: Tensor  # [B, tokens, heads * dim]
    k: Tensor
    v: Tensor
    heads: int
    geometry: GgaGeometry


def make_case(latents: tuple[int, int, int, int], heads: int, dim: int, dtype: torch.dtype,
              device: torch.device, batch: int = 1) -> Case:
    """Unit normal q, k, v (what the model's norms leave) and random unit directions."""
    t, h, w_exo, w_ego = latents
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        # Pooling shortens random neighbours; scaled so that cosines still reach both ends.
        vectors = torch.randn(*shape, 3, generator=generator)
        coarse = vectors / vectors.norm(dim=-1, keepdim=True)
        return coarse.repeat_interleave(2, -3).repeat_interleave(2, -2)

    geometry = tokens_from_latents(unit(t, t, h // 2, w_exo // 2), unit(t, h // 2, w_ego // 2)).to(device)
    q, k, v = (torch.randn(batch, geometry.tokens, heads * dim, generator=generator, dtype=torch.float32)
               .to(device=device, dtype=dtype) for _ in range(3))
    return Case(q=q, k=k, v=v, heads=heads, geometry=geometry)


@contextmanager
def kernel(name: str) -> Iterator[None]:
    """Torch's attention by one kernel, or by its own choice."""
    chosen = PLAIN_KERNELS[name]
    with sdpa_kernel(chosen) if chosen is not None else nullcontext():
        yield


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """One call, waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turns(works: dict[str, Callable[[], object]], device: torch.device, rounds: int) -> dict[str, float]:
    """Best seconds of each, measured in turns after one warm-up; those that don't run here are left out."""
    best: dict[str, float] = {}
    for name, work in works.items():
        try:
            work()
        except (RuntimeError, ImportError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            continue
        best[name] = math.inf
    for _ in range(rounds):
        for name in best:
            best[name] = min(best[name], seconds(works[name], device))
    return best


def exact_rows(case: Case, options: GgaOptions | None) -> tuple[Tensor, Tensor]:  # [n], [B, n, heads * dim]
    """Sampled ego tokens of three frames, and their attention in float64; without bias where ``options`` is None."""
    geometry, heads = case.geometry, case.heads
    t, h, w_exo, w_ego = geometry.grid
    generator = torch.Generator().manual_seed(1)
    every: list[Tensor] = []
    rows: list[list[Tensor]] = []
    picked = [(frame, torch.randperm(h * w_ego, generator=generator)[:ERROR_ROWS].to(case.q.device))
              for frame in sorted({0, t // 2, t - 1})]
    for frame, ego in picked:
        every.append(frame * h * (w_exo + w_ego) + ego // w_ego * (w_exo + w_ego) + w_exo + ego % w_ego)
    for q_all, k_all, v_all in zip(case.q, case.k, case.v, strict=True):  # one of the batch at a time: float64 is large
        k, v = (x.double().unflatten(-1, (heads, -1)).transpose(0, 1) for x in (k_all, v_all))
        rows.append([])
        for (frame, ego), tokens in zip(picked, every, strict=True):
            q = q_all[tokens].double().unflatten(-1, (heads, -1)).transpose(0, 1)
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            if options is not None:
                cos = geometry.query_dirs[frame, ego].double() @ geometry.key_dirs[frame].double().T
                scores = scores + bias_from_cosine(cos, geometry.key_trust > 0, options)
            rows[-1].append((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    return torch.cat(every), torch.stack([torch.cat(one) for one in rows])


def row_error(out: Tensor, exact: tuple[Tensor, Tensor]) -> float:
    """Error of a result [B, tokens, heads * dim] in the rows of :func:`exact_rows`, as a share of their size.

    Both are root mean squares. A share, because bias sharpens attention and so enlarges what it gives.
    """
    tokens, rows = exact
    return float((out[:, tokens].double() - rows).square().sum().div(rows.square().sum()).sqrt())


def run(latents: tuple[int, int, int, int], heads: int, dim: int, dtype: torch.dtype, device: torch.device,
        rounds: int = 3) -> dict[str, object]:
    """The whole benchmark as plain data; ``passed`` says whether the bars are met."""
    case, options = make_case(latents, heads, dim, dtype, device), GgaOptions()
    q, k, v = case.q, case.k, case.v

    def plain_by(name: str) -> Callable[..., Tensor]:
        def plain(*args: object) -> Tensor:
            with kernel(name):
                return plain_attention(*args)

        return plain

    with torch.inference_mode():
        plains = {name: (lambda name=name: plain_by(name)(q, k, v, heads)) for name in PLAIN_KERNELS}
        plain_seconds = in_turns(plains, device, 1)
        fastest = min(plain_seconds, key=plain_seconds.get)
        plain = plain_by(fastest)

        def biased(backend: str) -> Tensor:
            return gga_attention(q, k, v, heads, case.geometry, options, plain=plain, backend=backend)

        names = [name for name in BACKENDS if name in backend_choices(device) or device.type == "cuda"]
        timed = in_turns({"plain": lambda: plain(q, k, v, heads),
                          **{name: (lambda name=name: biased(name)) for name in names}}, device, rounds)
        plain_time = timed.pop("plain")
        best = min(timed, key=timed.get)
        memory = {"plain": peak_tensor_bytes(lambda: plain(q, k, v, heads), device),
                  "biased": peak_tensor_bytes(lambda: biased(best), device)}
        errors = {"plain": row_error(plain(q, k, v, heads), exact_rows(case, None)),
                  "biased": row_error(biased(best), exact_rows(case, options))}
        auto = gga_attention(q, k, v, heads, case.geometry, options, plain=plain)
        agreement = float((auto.float() - biased(best).float()).abs().max())
    error_holds = errors["biased"] <= SMALLER_ERROR * errors["plain"]
    ratio, extra_mb = timed[best] / plain_time, (memory["biased"] - memory["plain"]) / 2**20
    return {
        "tokens": case.geometry.tokens, "heads": heads, "dim": dim, "dtype": str(dtype).removeprefix("torch."),
        "device": device.type, "plain_kernel": fastest, "plain_seconds": plain_time, "plain_kernels": plain_seconds,
        "biased_seconds": timed, "backend": best, "ratio": ratio, "extra_mb": extra_mb,
        "error": errors, "auto_differs_by": agreement,
        "bars": {"ratio": TIME_BAR, "extra_mb": MEMORY_BAR_MB, "error": f"{SMALLER_ERROR} x plain"},
        "passed": ratio <= TIME_BAR and extra_mb <= MEMORY_BAR_MB and error_holds,
    }


def table(result: dict[str, object]) -> str:
    """The result for people."""
    lines = [f"one self-attention, {result['tokens']} tokens, {result['heads']} heads of {result['dim']}, "
             f"{result['dtype']}, {result['device']}",
             f"  plain ({result['plain_kernel']}): {result['plain_seconds'] * 1e3:.1f} ms"]
    lines += [f"  with geometry ({name}): {value * 1e3:.1f} ms, {value / result['plain_seconds']:.3f} of plain"
              for name, value in result["biased_seconds"].items()]
    lines += [f"  best ratio {result['ratio']:.3f} (bar {TIME_BAR}), extra memory {result['extra_mb']:.1f} MiB "
              f"(bar {MEMORY_BAR_MB:g})",
              f"  error against float64, of the result's size: plain {result['error']['plain']:.2e}, with geometry "
              f"{result['error']['biased']:.2e}",
              "all bars met" if result["passed"] else "NOT all bars met"]
    return "\n".join(lines)


def main() -> int:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="gga", description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", choices=tuple(LATENTS), default="full" if on_gpu else "quarter")
    parser.add_argument("--heads", type=int, default=40 if on_gpu else 8)
    parser.add_argument("--dim", type=int, default=128 if on_gpu else 64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16" if on_gpu else "float32")
    parser.add_argument("--rounds", type=int, default=10 if on_gpu else 3)
    add_arguments(parser)
    args = parser.parse_args()
    device = torch.device("cuda" if on_gpu else "cpu")
    result = run(LATENTS[args.tokens], args.heads, args.dim, getattr(torch, args.dtype), device, args.rounds)
    finish("gga", result, args, table(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
