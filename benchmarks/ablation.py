"""Measure what the shipped model depends on: good depth, rooms that it knows, λ_g, the exo video.

    python3 run.py bench ablation [--table depth|rooms] [--count N] [--save]

For whoever changes the conditioning. ``depth``: the model as it ships beside itself on depth as a
poor network gives it (slow error 6 %, 2 px of bleeding, 2 % flicker), prior and geometry made from
that. ``rooms``: at λ_g 0, 1 and 3, exo there or black, in rooms of its training and in others. The
demo's steps, no CFG, 95 % bootstrap intervals over takes. LoRAs that were trained without a part of
the conditioning, and how to read the rows, are in ``results/ablation.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.support.record import bench_parser, figure_text, finish
from egox_core.progress import Progress, no_progress
from egox_train.cli.progress_line import ProgressLine
from egox_train.metrics.bootstrap import paired_difference
from lab.drawn import DepthErrors, SyntheticSpec, make_take, with_errors
from lab.small_model.held_out import (
    HeldOutClip,
    clip_of_take,
    held_out_clips,
    held_out_rooms,
    with_prior,
)
from lab.small_model.sampler import SampleSettings
from lab.small_model.scores import mean_of, score_method
from lab.small_model.settings import Split
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
LAMBDAS = (0.0, 1.0, 3.0)
ROOMS: Mapping[str, tuple[Split, Callable[[SyntheticSpec], SyntheticSpec]]] = {
    "seen rooms, new motion": ("train", lambda spec: replace(spec, motion_seed=spec.seed + 10**6)),
    "unseen rooms": ("test", lambda spec: spec),
    "unseen rooms, another lens": ("test", lambda spec: replace(spec, ego_lens="pinhole")),
}
"""Seeds of each split, and how its :class:`SyntheticSpec` differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row to measure: ``asked`` is what the model is given, ``judged`` what it should show."""

    name: str
    asked: Sequence[HeldOutClip]
    judged: Sequence[HeldOutClip]
    settings: SampleSettings = SampleSettings()
    against: str = ""  # an earlier row


def with_wrong_depth(clip: HeldOutClip) -> HeldOutClip:
    """The clip with a poor network's depth, the same in every run."""
    seed = int.from_bytes(hashlib.sha256(f"{clip.name}:depth errors".encode()).digest()[:7], "big")
    return with_prior(replace(clip, depth=with_errors(clip.depth, DEPTH_ERRORS, seed)))


def poor_depth(count: int) -> Iterator[Row]:
    """Rows of the model as it ships and on poor depth; regions are those of the true prior."""
    clips = held_out_clips(count)
    yield Row(name=FULL, asked=clips, judged=clips)
    yield Row(
        name=DEPTH_ROW, asked=[with_wrong_depth(c) for c in clips], judged=clips, against=FULL
    )


def seen_and_unseen(count: int) -> Iterator[Row]:
    """Rows of each split of :data:`ROOMS` with exo there and black, at each λ_g."""
    for rooms, (split, other) in ROOMS.items():
        clips = [clip_of_take(make_take(other(s))) for s in held_out_rooms(count, split=split)]
        black = [replace(clip, exo=torch.zeros_like(clip.exo)) for clip in clips]
        for exo, asked in (("there", clips), ("black", black)):
            label = f"{rooms}, exo {exo}, λ_g "
            for value in LAMBDAS:
                yield Row(
                    name=f"{label}{value:g}",
                    asked=asked,
                    judged=clips,
                    settings=SampleSettings(lambda_g=value),
                    against=f"{label}0" if value else "",
                )


TABLES = {"depth": poor_depth, "rooms": seen_and_unseen}


def measure(
    rows: Iterable[Row], store: VideoStore, progress: Progress = no_progress
) -> list[dict[str, Any]]:
    """Means of each row, and differences to the row that it is compared with."""
    scores, measured = {}, []
    for row in rows:
        videos = store.generated(row.asked, row.settings, row.name, progress)
        own = scores[row.name] = score_method(videos, row.judged)
        takes = {clip.name: clip.name for clip in row.judged}
        means = {
            key: estimate.as_dict()
            for key, _, _ in COLUMNS
            if (estimate := mean_of(own, key)) is not None
        }
        leads = {
            key: paired_difference(own[key], scores[row.against][key], takes).as_dict()
            for key, _, _ in DIFFERENCES
            if key in means and row.against
        }
        measured.append({"row": row.name, "means": means, "differences": leads})
    return measured


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
    parser.add_argument("--table", choices=TABLES, default="depth")
    parser.add_argument("--count", type=int, default=64, help="of takes")
    args = parser.parse_args(arguments)
    store = VideoStore()
    rows = measure(TABLES[args.table](args.count), store, ProgressLine())
    result = {
        "takes": args.count,
        "steps": SampleSettings().steps,
        "weights": store.sampler.parts,
        "rows": rows,
    }
    return finish(f"ablation_{args.table}", result, args, markdown(rows))


if __name__ == "__main__":
    raise SystemExit(main())
