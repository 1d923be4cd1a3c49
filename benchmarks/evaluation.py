"""Time of the evaluation of a set, by the documented command with two workers.

    python3 run.py bench evaluation [--clips 64] [--save]

To be run again after a change of a metric or of the report. Pictures come from two drawn takes,
shifted, so that every clip has a true video of its own; the prior is the true picture inside a disc,
the generated video the truth with another one mixed in. All metrics that need no weights, all five
baselines, the contact sheet, the report and the interpreter's start are in the time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.support.record import bench_parser, finish
from egox_core.data.manifest import ClipRecord, write_manifest
from egox_core.file_names import EXO, PRIOR, TRUTH
from egox_core.video.writer import write_video
from lab.drawn import SyntheticSpec, make_take

ROOT = Path(__file__).resolve().parent.parent
SECONDS_BAR = 120.0  # of 64 clips on two cores
FPS = 10.0


def write_set(root: Path, clips: int, frames: int, size: int) -> None:
    """Write a manifest with its clips and generated videos."""
    takes = [make_take(SyntheticSpec(seed=seed, frames=frames, exo_width=7 * size // 4 // 16 * 16, exo_height=size,
                                     ego_size=size, texture="plain", clutter="calm", edge_samples=1))
             for seed in (1, 2)]
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = (row - 0.7 * size) ** 2 + (column - 0.5 * size) ** 2 < (0.36 * size) ** 2  # 40 % of the picture
    records = []
    for number in range(clips):
        name, take, other = f"clip_{number:03d}", takes[number % 2], takes[(number + 1) % 2]
        exo, truth, mixed = (video.roll(number // 2 * 3, dims=2) for video in (
            take.exo_frames(), take.ego_frames(), other.ego_frames()))
        folder = root / "clips" / name
        for file, video in ((folder / EXO, exo), (folder / TRUTH, truth), (folder / PRIOR, truth * disc[..., None]),
                            (root / "generated" / f"{name}.mp4", 0.7 * truth + 0.3 * mixed)):
            write_video(file, video, FPS, threads=1)
        records.append(ClipRecord(
            clip=name, take=name, layout="take", exo_camera="exo", folder=f"clips/{name}", start=0, step=1,
            frames=frames, fps=FPS, exo_size=(exo.shape[2], size), ego_size=(size, size), depth="file", caption="file",
            pictures="as filmed", moving="derived",
            predicted_coverage=0.4, rank=1, coverage=float(disc.float().mean()), ground_truth=True, files={}))
    write_manifest(root / "manifest.jsonl", records)


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, default=128, help="height of all pictures, width of the ego ones")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_set(root, args.clips, args.frames, args.size)
        started = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "train_egox.py"), "evaluate", str(root / "manifest.jsonl"),
                        str(root / "generated"), str(root / "report"), "--workers", "2"], check=True,
                       stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        clips = json.loads((root / "report" / "report.json").read_text(encoding="utf-8"))["clips"]
    passed = clips == args.clips and seconds < SECONDS_BAR
    result = {"clips": clips, "frames": args.frames, "size_px": args.size, "seconds": round(seconds, 1),
              "seconds_bar": SECONDS_BAR, "passed": passed}
    return finish("evaluation", result, args, f"{clips} clips of {args.frames} frames at {args.size} px: {seconds:.1f} "
                  f"s (bar {SECONDS_BAR:.0f} s)", passed)


if __name__ == "__main__":
    raise SystemExit(main())
