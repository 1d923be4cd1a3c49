"""Measure how much depends on the depth: the shipped model beside itself on poor depth.

    python3 run.py bench ablation [--count N] [--save]

For whoever changes the conditioning. Rows: the model as it ships, and on depth as a poor network
gives it (slow error 6 %, 2 px of bleeding, 2 % flicker), prior and geometry made from that. The
demo's steps, no CFG, 95 % bootstrap intervals over the takes of ``bench small_model``. LoRAs that
were trained without a part of the conditioning are in ``results/ablation.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.support.record import bench_parser, figure_text, finish
from egox_core.progress import Progress, no_progress
from egox_train.cli.progress_line import ProgressLine
from egox_train.metrics.bootstrap import paired_difference
from lab.drawn import DepthErrors, with_errors
from lab.small_model.held_out import HeldOutClip, held_out_clips, with_prior
from lab.small_model.sampler import SampleSettings
from lab.small_model.scores import mean_of, score_method
from lab.small_model.videos import VideoStore

FULL, DEPTH_ROW = "as it ships", "depth error 6 %, bleeding, flicker"
DEPTH_ERRORS = DepthErrors(low_frequency=0.06, bleed_px=2.0, flicker=0.02)
COLUMNS = (
    ("psnr", "PSNR", 2),
    ("ssim", "SSIM", 3),
    ("psnr_inside", "inside", 2),
    ("psnr_outside", "outside", 2),
    ("outlines", "outlines", 3),
    ("retrieval_hit", "retrieval", 2),
    ("colours_right", "object frames", 2),
)
DIFFERENCES = COLUMNS[:5]


def with_wrong_depth(clip: HeldOutClip) -> HeldOutClip:
    """The clip with a poor network's depth, the same in every run."""
    seed = int.from_bytes(hashlib.sha256(f"{clip.name}:depth errors".encode()).digest()[:7], "big")
    return with_prior(replace(clip, depth=with_errors(clip.depth, DEPTH_ERRORS, seed)))


def measure(
    clips: Sequence[HeldOutClip], store: VideoStore, progress: Progress = no_progress
) -> list[dict[str, Any]]:
    """Means of each row and differences to the first; regions are those of the true prior."""
    scores, rows, takes = {}, [], {clip.name: clip.name for clip in clips}
    inputs = {FULL: clips, DEPTH_ROW: [with_wrong_depth(clip) for clip in clips]}
    for name, asked in inputs.items():
        videos = store.generated(asked, SampleSettings(), name, progress)
        own = scores[name] = score_method(videos, clips)
        means = {
            key: estimate.as_dict()
            for key, _, _ in COLUMNS
            if (estimate := mean_of(own, key)) is not None
        }
        leads = {
            key: paired_difference(own[key], scores[FULL][key], takes).as_dict()
            for key, _, _ in DIFFERENCES
            if key in means and name != FULL
        }
        rows.append({"row": name, "means": means, "differences": leads})
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, for a person."""
    heads = [
        "",
        *(f"Δ {label}" for _, label, _ in DIFFERENCES),
        *(label for _, label, _ in COLUMNS),
    ]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows:
        cells = [
            *(
                figure_text(row["differences"].get(key), digits, "+")
                for key, _, digits in DIFFERENCES
            ),
            *(figure_text(row["means"].get(key), digits) for key, _, digits in COLUMNS),
        ]
        lines.append(f"| {row['row']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--count", type=int, default=64, help="of takes")
    args = parser.parse_args(arguments)
    store = VideoStore()
    rows = measure(held_out_clips(args.count), store, ProgressLine())
    result = {
        "takes": args.count,
        "steps": SampleSettings().steps,
        "weights": store.sampler.parts,
        "rows": rows,
    }
    return finish("ablation_depth", result, args, markdown(rows))


if __name__ == "__main__":
    raise SystemExit(main())
