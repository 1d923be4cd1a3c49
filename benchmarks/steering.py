"""Do steps and λ_g steer the small model, from the same noise?

    python3 run.py bench steering [--count N] [--save]

The model's videos of the held-out takes with ten steps, with one, and with each λ_g: PSNR outside
the prior's coverage, kernel distance and retrieval, each beside the model's own λ_g on the same
takes, with a bootstrap interval over takes (95 %), and how far the pictures move (mean over pixels,
of 255). Bars: ten steps have at most 1/1.5 of one step's kernel distance; λ_g 0 moves the pictures
by at least 5. Takes and videos are those of ``bench small_model``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.support.drawn_features import KernelDistance, features_of, load_net
from benchmarks.support.record import RESULTS, bench_parser, figure_text, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.bootstrap import bootstrap_mean, paired_difference
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import write_whole
from lab.small_model.held_out import HeldOutClip, held_out_clips
from lab.small_model.sampler import SampleSettings
from lab.small_model.scores import KERNEL, mean_of, pictures_move, score_method
from lab.small_model.videos import VideoStore

TAKES = 64
OWN, ONE_STEP = "ten steps, own λ_g", "one step"
LAMBDAS = (0.0, 1.0, 3.0, 10.0)
STEPS = 10
FIGURES = ("psnr_outside", "retrieval_hit")
MOST_OF_ONE_STEP = 1 / 1.5
LEAST_MOVE = 5.0
"""Of 255, between λ_g 0 and the model's own."""


def asked_of() -> dict[str, SampleSettings]:
    """The rows by name, the first is what all others are compared with."""
    own = SampleSettings(steps=STEPS)
    return {
        OWN: own,
        ONE_STEP: replace(own, steps=1),
        **{name_of(value): replace(own, lambda_g=value) for value in LAMBDAS},
    }


def name_of(lambda_g: float) -> str:
    return f"λ_g {lambda_g:g}"


def measure(
    clips: Sequence[HeldOutClip], store: VideoStore, progress: Progress = no_progress
) -> dict[str, Any]:
    """A row for each setting, and the two bars.

    Raises:
        EgoXInputError: a single clip.
    """
    net, takes = load_net(), {clip.name: clip.name for clip in clips}
    true = features_of(net, [clip.truth.numpy() for clip in clips])
    videos = {
        name: store.generated(clips, settings, name, progress)
        for name, settings in asked_of().items()
    }
    scores = {name: score_method(of, clips) for name, of in videos.items()}
    distances = {
        name: KernelDistance.between(features_of(net, of), true) for name, of in videos.items()
    }
    rows = []
    for name, of in videos.items():
        means = {key: mean_of(scores[name], key).as_dict() for key in FIGURES}
        leads = {
            key: paired_difference(scores[name][key], scores[OWN][key], takes).as_dict()
            for key in FIGURES
        }
        moved = pictures_move(of, videos[OWN])
        rows.append(
            {
                "row": name,
                "means": {**means, KERNEL: distances[name].estimate().as_dict()},
                "leads": {**leads, KERNEL: distances[name].estimate(distances[OWN]).as_dict()},
                "moved": bootstrap_mean(moved, list(takes)).as_dict(),
            }
        )
    of_one_step = distances[OWN].estimate(distances[ONE_STEP], MOST_OF_ONE_STEP)
    moved = next(row["moved"]["mean"] for row in rows if row["row"] == name_of(0.0))
    return {
        "takes": len(clips),
        "rows": rows,
        "less_of_one_step": of_one_step.as_dict(),
        "passed": len(clips) >= TAKES and of_one_step.mean <= 0 and moved >= LEAST_MOVE,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Rows and bars, for a person."""
    columns = (
        ("psnr_outside", "PSNR outside", 2),
        (KERNEL, KERNEL, 2),
        ("retrieval_hit", "retrieval", 2),
    )
    heads = [
        *(label for _, label, _ in columns),
        *(f"Δ {label}" for _, label, _ in columns),
        "pictures move",
    ]
    lines = [
        "# Steps and λ_g of the small model, from the same noise",
        "",
        "Each row beside ten steps at the λ_g of its training; Δ is the row minus that, over the "
        "same takes.",
        "",
        f"| | {' | '.join(heads)} |",
        "| --- " * (len(heads) + 1) + "|",
    ]
    for row in result["rows"]:
        cells = [
            figure_text(row[part][key], digits)
            for part in ("means", "leads")
            for key, _, digits in columns
        ]
        lines.append(f"| {row['row']} | {' | '.join(cells)} | {figure_text(row['moved'], 1)} |")
    bar = result["less_of_one_step"]
    lines += [
        "",
        f"{result['takes']} takes. Kernel distance of ten steps less {MOST_OF_ONE_STEP:.2f} of one "
        f"step's: {figure_text(bar, 2)} (asked: at most 0). λ_g 0 is to move the pictures by "
        f"{LEAST_MOVE:g} of 255.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--count", type=int, default=TAKES, help="of takes")
    args = parser.parse_args(arguments)
    store = VideoStore()
    result = {
        **measure(held_out_clips(args.count), store, ProgressLine()),
        "weights": store.sampler.parts,
    }
    table = markdown(result)
    if args.save:
        with write_whole(RESULTS / "steering.md") as temporary:
            temporary.write_text(table + "\n", encoding="utf-8")
    return finish("steering", result, args, table, result["passed"])


if __name__ == "__main__":
    raise SystemExit(main())
