"""Videos that are worse than the truth in a known way, by every metric that is meant to see it.

    python3 run.py bench evaluation [--clips 16] [--save]

To be run again after a change of a metric or of the report. Pictures come from two drawn takes,
shifted, so that every clip has a true video of its own. The truth itself, once more encoded, and
five spoilt copies of it are evaluated side by side by the documented command with two workers.
Networks have random weights: LPIPS is compared with its package, not judged by people. Each figure
is also compared with a second implementation where one is installed.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.data.clip_files import read_all
from egox_core.data.manifest import ClipRecord, write_manifest
from egox_core.file_names import EXO, PRIOR, TRUTH
from egox_core.metrics.columns import PER_CLIP
from egox_core.video.writer import write_video
from lab.drawn import SyntheticSpec, make_take

ROOT = Path(__file__).resolve().parent.parent
FPS, SHIFT_PX = 10.0, 8
SEEN_BY = {  # what is spoilt -> the metrics that are meant for it
    "blur": ("psnr", "ssim", "lpips", "patch_zncc", "sharpness"),
    "shift": ("psnr", "ssim", "lpips", "patch_zncc"),
    "wrong take": ("psnr", "ssim", "lpips", "patch_zncc", "retrieval_rank"),
    "grey": ("psnr", "ssim", "lpips", "patch_zncc", "sharpness", "chroma"),
    "noise": ("psnr", "ssim", "lpips", "patch_zncc", "sharpness", "temporal_flickering"),
}
EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(what is spoilt, metric) -> why it may be no worse than the truth."""
MOST_EXCEPTIONS = 3


def spoilt(truth: Tensor, other: Tensor) -> dict[str, Tensor]:
    """Videos [T, H, W, 3] 0...1 that are worse than ``truth`` by what their name says."""
    planes = torch.nn.functional.avg_pool2d(
        truth.movedim(-1, 1), 9, stride=1, padding=4, count_include_pad=False
    )
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return {
        "blur": planes.movedim(1, -1),
        "shift": truth.roll(SHIFT_PX, dims=2),
        "wrong take": other,
        "grey": torch.full_like(truth, 0.5),
        "noise": (truth + 0.1 * noise).clamp(0, 1),
    }


def write_set(root: Path, clips: int, frames: int, size: int) -> None:
    """Write a manifest with its clips, the truth as generated videos, and the spoilt ones in
    folders by their names."""
    takes = [
        make_take(
            SyntheticSpec(
                seed=seed,
                frames=frames,
                exo_width=7 * size // 4 // 16 * 16,
                exo_height=size,
                ego_size=size,
                texture="plain",
                clutter="calm",
                edge_samples=1,
            )
        )
        for seed in (1, 2)
    ]
    records = []
    for number in range(clips):
        name, take, other = f"clip_{number:03d}", takes[number % 2], takes[(number + 1) % 2]
        exo, truth, wrong = (
            video.roll(number // 2 * 3, dims=2)
            for video in (take.exo_frames(), take.ego_frames(), other.ego_frames())
        )
        folder = root / "clips" / name
        videos = {
            folder / EXO: exo,
            folder / TRUTH: truth,
            folder / PRIOR: truth,
            root / "truth" / f"{name}.mp4": truth,
        }
        videos |= {root / how / f"{name}.mp4": video for how, video in spoilt(truth, wrong).items()}
        for file, video in videos.items():
            write_video(file, video, FPS, threads=1)
        records.append(
            ClipRecord(
                clip=name,
                take=name,
                layout="take",
                exo_camera="exo",
                folder=f"clips/{name}",
                start=0,
                step=1,
                frames=frames,
                fps=FPS,
                exo_size=(exo.shape[2], size),
                ego_size=(size, size),
                depth="file",
                caption="file",
                pictures="as filmed",
                moving="derived",
                predicted_coverage=0.4,
                rank=1,
                coverage=1.0,
                ground_truth=True,
                files={},
            )
        )
    write_manifest(root / "manifest.jsonl", records)
    if importlib.util.find_spec("torchvision"):
        from torchvision.models import alexnet

        torch.manual_seed(0)
        save_file(alexnet(weights=None).state_dict(), root / "alexnet.safetensors")


def differences(root: Path, rows: list[dict], frames: int, size: int) -> dict[str, float]:
    """Largest difference of a clip's figure to that of the metric's own package, over all videos of
    the first clip."""
    (row, *_), found = rows, {}
    read = {
        how: read_all(root / how / f"{row['clip']}.mp4", frames, (size, size)) for how in SEEN_BY
    }
    truth = read_all(root / "clips" / row["clip"] / TRUTH, frames, (size, size))
    second = {}
    if importlib.util.find_spec("skimage"):
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity

        second["psnr"] = lambda a, b: peak_signal_noise_ratio(b, a)
        second["ssim"] = lambda a, b: structural_similarity(
            a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    if importlib.util.find_spec("lpips") and (root / "alexnet.safetensors").is_file():
        from benchmarks.support.lpips_package import lpips_of_package

        second["lpips"] = lpips_of_package(root / "alexnet.safetensors")
    for key, compute in second.items():
        found[key] = max(
            abs(
                row["metrics"][how][key]
                - sum(
                    float(compute(a.numpy(), b.numpy())) for a, b in zip(video, truth, strict=True)
                )
                / frames
            )
            for how, video in read.items()
        )
    return {key: round(value, 6) for key, value in found.items()}


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument(
        "--size", type=int, default=128, help="height of all pictures, width of the ego ones"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_set(root, args.clips, args.frames, args.size)
        more = [part for how in SEEN_BY for part in ("--also", f"{how}={root / how}")]
        if (root / "alexnet.safetensors").is_file():
            more += ["--lpips", str(root / "alexnet.safetensors")]
        started = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "train_egox.py"),
                "evaluate",
                str(root / "manifest.jsonl"),
                str(root / "truth"),
                str(root / "report"),
                "--workers",
                "2",
                "--no-baselines",
                *more,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = (time.perf_counter() - started) / args.clips
        report = json.loads((root / "report" / "report.json").read_text(encoding="utf-8"))
        second = differences(root, report["rows"], args.frames, args.size)
    columns, means, missed, table = {m.key: m for m in PER_CLIP}, report["means"], [], {}
    for how, keys in SEEN_BY.items():
        for key in (k for k in keys if k in means["generated"]):
            ours, best = means[how][key]["mean"], means["generated"][key]["mean"]
            table[f"{how}: {key}"] = [round(ours, 4), round(best, 4)]
            worse = ours > best if columns[key].better == "lower" else ours < best
            if not worse and (how, key) not in EXCEPTIONS:
                missed.append(f"{how}: {key}")
    passed = not missed and len(EXCEPTIONS) <= MOST_EXCEPTIONS
    result = {
        "clips": report["clips"],
        "frames": args.frames,
        "size_px": args.size,
        "seconds_a_clip": round(seconds, 2),
        "spoilt_and_true": table,
        "exceptions": {f"{how}: {key}": why for (how, key), why in EXCEPTIONS.items()},
        "missed": missed,
        "difference_to_package": second,
        "passed": passed,
    }
    return finish(
        "evaluation",
        result,
        args,
        f"{len(table)} of {len(table)} figures are worse than the truth's"
        if not missed
        else f"no worse than the truth: {', '.join(missed)}",
        passed,
    )


if __name__ == "__main__":
    raise SystemExit(main())
