"""How long the evaluation of a set takes, and whether a killed one ends as if it had never stopped.

    python3 run.py bench evaluation [--clips 64] [--save]

Pictures come from two synthetic takes, mirrored, shifted and with channels exchanged, so that every clip has a true
video of its own; the prior is the true picture inside a disc, the generated video the truth with a blurred other one
mixed in. All metrics that need no weights, all five baselines, the contact sheet and the report are in the time, which
is that of the documented command with two workers, interpreter start included. The second run has one process and is
killed when a third of its rows lie on the disk; its report after the restart must be the first run's, byte for byte.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from benchmarks.support.record import bench_parser, finish
from egox_core.data.manifest import ClipRecord, write_manifest
from egox_core.file_names import EXO, PRIOR, TRUTH
from egox_core.video.writer import write_video
from lab.drawn import SyntheticSpec, make_take

ROOT = Path(__file__).resolve().parent.parent
SECONDS_BAR = 120.0
FPS = 10.0
CHANNELS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, default=128, help="height of all pictures, width of the ego ones")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_set(root, args.clips, args.frames, args.size)
        started = time.perf_counter()
        run(root, "whole", args.workers).wait()
        seconds = time.perf_counter() - started
        rows_when_killed = kill_and_restart(root, args.clips)
        names = ("report.json", "report.md", "contact_sheet.png")
        same = all((root / "whole" / n).read_bytes() == (root / "killed" / n).read_bytes() for n in names)
        clips = json.loads((root / "whole" / "report.json").read_text(encoding="utf-8"))["clips"]
    passed = same and clips == args.clips and seconds < SECONDS_BAR and 0 < rows_when_killed < args.clips
    result = {"clips": clips, "frames": args.frames, "size_px": args.size, "workers": args.workers,
              "seconds": round(seconds, 1), "seconds_bar": SECONDS_BAR, "rows_when_killed": rows_when_killed,
              "same_report_after_kill": same, "passed": passed}
    line = (f"{clips} clips of {args.frames} frames at {args.size} px: {seconds:.1f} s (bar {SECONDS_BAR:.0f} s); "
            f"killed at {rows_when_killed} rows and started again: {'the same report' if same else 'ANOTHER REPORT'}")
    return finish("evaluation", result, args, line, passed)


def write_set(root: Path, clips: int, frames: int, size: int) -> None:
    """A manifest with its clips and generated videos."""
    takes = [make_take(SyntheticSpec(seed=seed, frames=frames, exo_width=7 * size // 4 // 16 * 16, exo_height=size,
                                     ego_size=size, texture="plain", clutter="calm", edge_samples=1))
             for seed in (1, 2)]
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = (row - 0.7 * size) ** 2 + (column - 0.5 * size) ** 2 < (0.36 * size) ** 2  # 40 % of the picture
    records = []
    for number in range(clips):
        take, name = takes[number % 2], f"clip_{number:03d}"
        truth, exo = (altered(v, number // 2) for v in (take.ego_frames(), take.exo_frames()))
        other = altered(takes[(number + 1) % 2].ego_frames(), number // 2)
        generated = 0.7 * blurred(truth) + 0.3 * blurred(other)
        folder = root / "clips" / name
        for file, video in ((folder / EXO, exo), (folder / TRUTH, truth), (folder / PRIOR, truth * disc[..., None]),
                            (root / "generated" / f"{name}.mp4", generated)):
            write_video(file, video, FPS, threads=1)
        records.append(ClipRecord(
            clip=name, take=name, layout="take", exo_camera="exo", folder=f"clips/{name}", start=0, step=1,
            frames=frames, fps=FPS, exo_size=(exo.shape[2], size), ego_size=(size, size), depth="file", caption="file",
            pictures="as filmed", moving="derived",
            predicted_coverage=0.4, rank=1, coverage=float(disc.float().mean()), ground_truth=True, files={}))
    write_manifest(root / "manifest.jsonl", records)


def altered(video: Tensor, number: int) -> Tensor:
    """[T, H, W, 3] with channels exchanged, mirrored (24 different ones), and from then on shifted."""
    video = video[..., list(CHANNELS[number % 6])].roll(number // 24 * 9, dims=2)
    return video.flip([d for d, bit in ((1, 1), (2, 2)) if (number // 6) & bit])


def blurred(video: Tensor) -> Tensor:
    """[T, H, W, 3], box of 5 px."""
    return avg_pool2d(video.movedim(-1, 1), 5, 1, 2, count_include_pad=False).movedim(1, -1)


def run(root: Path, out: str, workers: int) -> subprocess.Popen:
    """The documented command."""
    command = [sys.executable, str(ROOT / "train_egox.py"), "evaluate", str(root / "manifest.jsonl"),
               str(root / "generated"), str(root / out), "--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_and_restart(root: Path, clips: int) -> int:
    """Rows on the disk when the process was killed; afterwards the evaluation is whole."""
    process = run(root, "killed", 1)
    rows = root / "killed" / "rows"
    while process.poll() is None and len(list(rows.glob("*.json"))) < max(1, clips // 3):
        time.sleep(0.05)
    process.kill()
    process.wait()
    there = len(list(rows.glob("*.json")))
    run(root, "killed", 1).wait()
    return there


if __name__ == "__main__":
    raise SystemExit(main())
