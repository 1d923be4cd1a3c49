"""Cost of geometry for one self-attention: time and memory against the fastest plain kernel, and
the error.

    python3 run.py bench gga [--tokens quarter|full] [--heads 8] [--dim 64] [--dtype float32|bfloat16] [--save]

On a GPU the default is the real thing: 28,028 tokens, 40 heads of 128, bfloat16. On a CPU it is a
quarter of the tokens with 8 heads of 64 in float32: few heads share the cost of the bias, more
of them would look better. Geometry is of the released shape with random directions, which cost
what real ones do.

Plain and biased attention take turns, and the fastest of each counts, so that other work on the
machine disturbs both alike. The error is that of sampled query rows against float64, for plain and
for biased attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.support.attention_case import (
    LATENTS,
    PLAIN_KERNELS,
    TIME_BAR,
    exact_rows,
    in_turns,
    kernel,
    make_case,
    row_error,
)
from benchmarks.support.record import bench_parser, finish, peak_tensor_bytes
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.backends import BACKENDS, backend_choices
from egox_core.gga.options import GgaOptions

MEMORY_BAR_MB, SMALLER_ERROR = 64.0, 1.1


def run(
    latents: tuple[int, int, int, int],
    heads: int,
    dim: int,
    dtype: torch.dtype,
    device: torch.device,
    rounds: int = 3,
) -> dict[str, object]:
    """The whole benchmark as plain data; ``passed`` says whether the bars are met."""
    case, options = make_case(latents, heads, dim, dtype, device), GgaOptions()
    q, k, v = case.q, case.k, case.v

    def plain_by(name: str) -> Callable[..., Tensor]:
        def plain(*args: object) -> Tensor:
            with kernel(name):
                return plain_attention(*args)

        return plain

    with torch.inference_mode():
        plains = {
            name: (lambda name=name: plain_by(name)(q, k, v, heads)) for name in PLAIN_KERNELS
        }
        plain_seconds = in_turns(plains, device, 1)
        fastest = min(plain_seconds, key=plain_seconds.get)
        plain = plain_by(fastest)

        def biased(backend: str) -> Tensor:
            return gga_attention(
                q, k, v, heads, case.geometry, options, plain=plain, backend=backend
            )

        names = [
            name for name in BACKENDS if name in backend_choices(device) or device.type == "cuda"
        ]
        timed = in_turns(
            {
                "plain": lambda: plain(q, k, v, heads),
                **{name: (lambda name=name: biased(name)) for name in names},
            },
            device,
            rounds,
        )
        plain_time = timed.pop("plain")
        best = min(timed, key=timed.get)
        memory = {
            "plain": peak_tensor_bytes(lambda: plain(q, k, v, heads), device),
            "biased": peak_tensor_bytes(lambda: biased(best), device),
        }
        errors = {
            "plain": row_error(plain(q, k, v, heads), exact_rows(case, None)),
            "biased": row_error(biased(best), exact_rows(case, options)),
        }
        auto = gga_attention(q, k, v, heads, case.geometry, options, plain=plain)
        agreement = float((auto.float() - biased(best).float()).abs().max())
    error_holds = errors["biased"] <= SMALLER_ERROR * errors["plain"]
    ratio, extra_mb = timed[best] / plain_time, (memory["biased"] - memory["plain"]) / 2**20
    return {
        "tokens": case.geometry.tokens,
        "heads": heads,
        "dim": dim,
        "dtype": str(dtype).removeprefix("torch."),
        "device": device.type,
        "plain_kernel": fastest,
        "plain_seconds": plain_time,
        "plain_kernels": plain_seconds,
        "biased_seconds": timed,
        "backend": best,
        "ratio": ratio,
        "extra_mb": extra_mb,
        "error": errors,
        "auto_differs_by": agreement,
        "bars": {"ratio": TIME_BAR, "extra_mb": MEMORY_BAR_MB, "error": f"{SMALLER_ERROR} x plain"},
        "passed": ratio <= TIME_BAR and extra_mb <= MEMORY_BAR_MB and error_holds,
    }


def table(result: dict[str, object]) -> str:
    """The result for people."""
    lines = [
        f"one self-attention, {result['tokens']} tokens, {result['heads']} heads of {result['dim']}, "
        f"{result['dtype']}, {result['device']}",
        f"  plain ({result['plain_kernel']}): {result['plain_seconds'] * 1e3:.1f} ms",
    ]
    lines += [
        f"  with geometry ({name}): {value * 1e3:.1f} ms, {value / result['plain_seconds']:.3f} of plain"
        for name, value in result["biased_seconds"].items()
    ]
    lines += [
        f"  best ratio {result['ratio']:.3f} (bar {TIME_BAR}), extra memory {result['extra_mb']:.1f} MiB "
        f"(bar {MEMORY_BAR_MB:g})",
        f"  error against float64, of the result's size: plain {result['error']['plain']:.2e}, with geometry "
        f"{result['error']['biased']:.2e}",
        "all bars met" if result["passed"] else "NOT all bars met",
    ]
    return "\n".join(lines)


def main() -> int:
    on_gpu = torch.cuda.is_available()
    parser = bench_parser(__doc__)
    parser.add_argument("--tokens", choices=tuple(LATENTS), default="full" if on_gpu else "quarter")
    parser.add_argument("--heads", type=int, default=40 if on_gpu else 8)
    parser.add_argument("--dim", type=int, default=128 if on_gpu else 64)
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="bfloat16" if on_gpu else "float32"
    )
    parser.add_argument("--rounds", type=int, default=10 if on_gpu else 3)
    args = parser.parse_args()
    device = torch.device("cuda" if on_gpu else "cpu")
    result = run(
        LATENTS[args.tokens], args.heads, args.dim, getattr(torch, args.dtype), device, args.rounds
    )
    return finish("gga", result, args, table(result), result["passed"])


if __name__ == "__main__":
    raise SystemExit(main())
