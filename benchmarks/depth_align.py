"""Time of Depth Align, for a clip with noise and outliers (``lab/drawn/depth_cases.py``).

    python3 run.py bench depth_align [--frames 49] [--save]

To be run again after a change of the fit; that it finds α and β, and that memory doesn't grow with
the clip, is held by ``tests/core``.
The time of ``robust`` is a multiple of ``least squares``, the two timed in turn, so that a busy
machine slows both.
"""

from __future__ import annotations

import time

from benchmarks.support.record import bench_parser, finish
from egox_core.depth.align import align_depth
from egox_core.depth.report import AlignOptions
from lab.drawn.depth_cases import AlignCase, make_case

BARS = {"least squares": 1.0, "robust": 5.0}  # seconds; robust: times least squares


def run(frames: int, height: int, width: int) -> dict[str, object]:
    """Seconds (best of five after a warm-up) of each mode, and the bars missed."""
    metric, video = make_case(AlignCase(noise_in="b", outliers_in="m"), frames, height, width)

    def align(mode: str) -> None:
        align_depth(metric, video, options=AlignOptions(mode=mode))

    for mode in BARS:
        align(mode)
    seconds: dict[str, list[float]] = {mode: [] for mode in BARS}
    for _ in range(5):
        for mode, times in seconds.items():
            start = time.perf_counter()
            align(mode)
            times.append(time.perf_counter() - start)
    best = {mode: min(times) for mode, times in seconds.items()}
    judged = {"least squares": best["least squares"], "robust": best["robust"] / best["least squares"]}
    failed = [f"{mode}: {judged[mode]:.2f}, bar {bar}" for mode, bar in BARS.items() if not judged[mode] <= bar]
    return {"frames": frames, "size": [width, height], "all_seconds": seconds, "ratio": judged["robust"],
            "failed": failed}


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--height", type=int, default=448)
    parser.add_argument("--width", type=int, default=784)
    args = parser.parse_args()
    result = run(args.frames, args.height, args.width)
    lines = [f"{mode:14s} {min(times):.2f} s" for mode, times in result["all_seconds"].items()]
    return finish("depth_align", result, args, "\n".join([*lines, *(result["failed"] or ["all bars met"])]),
                  not result["failed"])


if __name__ == "__main__":
    raise SystemExit(main())
