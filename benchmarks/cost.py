"""How a forward's time and memory grow with frames and size, with and without geometry.

    python3 run.py bench cost [--small] [--json] [--save]

One forward (one step at cfg 1) of the stand-in transformer through the host's sampler and the model patch: a small
model at the real number of tokens, so that attention and what the geometry adds to it dominate. Memory is that of
tensors alive at the worst moment, beyond those that were there before. What the geometry takes beside plain attention
is measured on one attention call and holds its directions too; it must grow no faster than the tokens, as the rows of
the bias are made in chunks of a fixed size, while plain attention's time grows with their square.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import torch

from benchmarks.support.record import bench_parser, finish, peak_tensor_bytes
from tools.rigs.model_rig import RigSize, core, random_rig
from tools.rigs.pack_in_process import pack_on_host
from tools.setup.layout import REPO_ROOT

FULL = (RigSize(frames=17, exo_width=784, height=448), RigSize(frames=33, exo_width=784, height=448),
        RigSize(frames=49, exo_width=784, height=448), RigSize(frames=81, exo_width=784, height=448),
        RigSize(frames=49, exo_width=400, height=224), RigSize(frames=49, exo_width=560, height=320))
SMALL = (RigSize(frames=9, exo_width=112, height=64), RigSize(frames=17, exo_width=112, height=64),
         RigSize(frames=33, exo_width=112, height=64), RigSize(frames=17, exo_width=224, height=128))
WARM_UP, RUNS = 1, 2
LINEAR_SLACK = 1.05
"""How much more than the tokens the extra memory may grow: a chunk is a whole number of rows of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One line of the table. Seconds are the fastest of the runs, memory in MiB."""

    frames: int
    exo_size: str
    tokens: int
    plain_s: float
    guided_s: float
    plain_mb: float
    guided_mb: float
    extra_mb: float  # of one guided attention call beside a plain one, directions included


def measure(pack: ModuleType, size: RigSize, runs: int = RUNS, warm_up: int = WARM_UP) -> Cost:
    """Plain and guided take turns, so that other work on the machine disturbs both alike."""
    rig = random_rig(pack, REPO_ROOT / "models", size)
    models = {"plain": rig.patch(lambda_g=0.0), "guided": rig.patch()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for run in range(warm_up + runs):
        for name, model in models.items():
            start = time.perf_counter()
            rig.ksample(model, steps=1, cfg=1.0)
            if run >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    peaks = {name: peak_tensor_bytes(lambda model=model: rig.ksample(model, steps=1, cfg=1.0), rig.model.load_device)
             for name, model in models.items()}
    guidance = models["guided"].get_all_wrappers("diffusion_model")[0].guidance
    geometry = guidance.geometry
    return Cost(frames=size.frames, exo_size=f"{size.exo_width}x{size.height}", tokens=geometry.tokens,
                plain_s=min(seconds["plain"]), guided_s=min(seconds["guided"]), plain_mb=peaks["plain"] / 2**20,
                guided_mb=peaks["guided"] / 2**20, extra_mb=extra_bytes(pack, guidance) / 2**20)


def extra_bytes(pack: ModuleType, guidance: Any, chunk_bytes: int | None = None) -> int:
    """Tensors of one guided self-attention at the worst moment, beyond a plain one's, and the directions themselves."""
    gga, geometry, device = core(pack, "gga.attention"), guidance.geometry, guidance.geometry.query_dirs.device
    q, k, v = torch.randn(3, 1, geometry.tokens, 128, device=device)
    with torch.inference_mode():
        plain = peak_tensor_bytes(lambda: gga.plain_attention(q, k, v, 2), device)
        gga.gga_attention(q, k, v, 2, geometry, guidance.options)  # kernels are compared once, in memory of its own
        guided = peak_tensor_bytes(lambda: gga.gga_attention(q, k, v, 2, geometry, guidance.options,
                                                             chunk_bytes=chunk_bytes), device)
    return guided - plain + directions_bytes(geometry)


def directions_bytes(geometry: Any) -> int:
    """The geometry's own tensors, there for the whole run."""
    return sum(x.numel() * x.element_size() for x in (geometry.query_dirs, geometry.key_dirs, geometry.key_trust))


def grows_at_most_linearly(costs: list[Cost]) -> bool:
    """Whether what geometry adds grows no faster than the tokens, from each row to every larger one.

    Clips with fewer ego tokens than a chunk holds queries have one chunk that is still growing; they say nothing.
    """
    rows = sorted((c.tokens, max(0.0, c.extra_mb)) for c in costs)
    return all(more <= LINEAR_SLACK * less * after / before
               for i, (before, less) in enumerate(rows) for after, more in rows[i + 1:])


def table(costs: list[Cost]) -> str:
    head = f"{'frames':>6} {'exo':>8} {'tokens':>7} {'plain s':>8} {'guided s':>8} {'ratio':>6} {'plain MB':>9} " \
           f"{'guided MB':>9} {'extra MB':>9} {'bytes/token':>11}"
    lines = [f"{c.frames:6d} {c.exo_size:>8} {c.tokens:7d} {c.plain_s:8.2f} {c.guided_s:8.2f} "
             f"{c.guided_s / c.plain_s:6.2f} {c.plain_mb:9.1f} {c.guided_mb:9.1f} "
             f"{c.extra_mb:9.1f} {c.extra_mb * 2**20 / c.tokens:11.0f}"
             for c in costs]
    return "\n".join([head, *lines])


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--small", action="store_true", help="sizes that take seconds, for tests")
    parser.add_argument("--runs", type=int, default=RUNS, help="timed forwards of each kind and size")
    args = parser.parse_args(argv)
    with pack_on_host("bench cost") as (host, pack):
        # One warm-up is enough for the process, and costs seconds to half a minute at each size.
        costs = [measure(pack, size, args.runs, WARM_UP if number == 0 else 0)
                 for number, size in enumerate(SMALL if args.small else FULL)]
    rows = [asdict(cost) for cost in costs]
    passed = args.small or grows_at_most_linearly(costs)
    verdict = "" if args.small else ("\nwhat geometry adds to memory grows "
                                     + ("no faster than the tokens" if passed else "FASTER than the tokens"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return finish("cost" if not args.small else "cost_small",
                  {"host": host.version_text, "device": device, "costs": rows, "passed": passed}, args,
                  table(costs) + verdict, passed)


if __name__ == "__main__":
    raise SystemExit(main())
