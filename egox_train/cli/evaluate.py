"""The subcommands of ``train_egox.py`` that judge ego videos: ``masks`` and ``evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from egox_core.progress import Progress

from ..metrics.columns import WEIGHTS
from .data import add_share_arguments

SPLIT_HELP = "train, validation or test, or several with commas; without it all clips"
SOME_FAILED = 1
"""Exit code of ``evaluate`` where some clips could not be evaluated."""


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not name.strip() or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name.strip(), Path(folder)


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="manifest.jsonl of prepare")
    parser.add_argument(
        "generated", type=Path, help="folder with <clip>.mp4, the generated ego videos"
    )
    parser.add_argument(
        "out", type=Path, help="folder for report.json, report.md, contact_sheet.png, rows"
    )
    parser.add_argument(
        "--masks", type=Path, help="folder with <clip>.npz, object masks: see data/object_masks.py"
    )
    parser.add_argument(
        "--also",
        type=_named_folder,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="another method's videos of the same clips, in the same tables; may be given again. "
        "With a name that is there (generated, too): another seed's, in the row of that name",
    )
    parser.add_argument("--split", default="", help=SPLIT_HELP)
    parser.add_argument(
        "--no-baselines", action="store_true", help="leave out prior, Telea, exo and shrink"
    )
    for name, purpose in WEIGHTS.items():
        parser.add_argument(f"--{name}", type=Path, help=purpose)
    parser.add_argument(
        "--device", default="cpu", help="where networks run; cuda:0,cuda:1 spreads the workers"
    )
    parser.add_argument(
        "--compare", type=Path, help="report.json of another run, for paired differences"
    )
    parser.add_argument("--sheet", type=int, default=12, help="clips on the contact sheet, 0: none")
    parser.add_argument("--samples", type=int, default=2000, help="bootstrap samples")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    add_share_arguments(
        parser, "score part I of N; then the command without it takes up all rows and reports"
    )


def run_evaluate(args: argparse.Namespace, progress: Progress) -> int:
    """0; 1 where some clips could not be evaluated (the report names them)."""
    from ..metrics.evaluate import REPORT, TABLE, EvaluateOptions, evaluate
    from ..metrics.report import failure_lines
    from ..parallel import RunSums

    options = EvaluateOptions(
        masks=args.masks,
        also=tuple(args.also),
        split=args.split,
        baselines=not args.no_baselines,
        weights={
            name: file
            for name in WEIGHTS
            if (file := getattr(args, name.replace("-", "_"))) is not None
        },
        device=args.device,
        compare=args.compare,
        sheet_clips=args.sheet,
        samples=args.samples,
        seed=args.seed,
        most_clips=args.clips,
        part=args.shard,
        sums=args.dry_run,
    )
    outcome = evaluate(
        args.manifest,
        args.generated,
        args.out,
        options,
        engine=args.engine,
        workers=args.workers,
        progress=progress,
    )
    if isinstance(outcome, RunSums):
        print(outcome)
        return 0
    for line in failure_lines(outcome.errors):
        print(f"not evaluated: {line}")
    count = outcome.clips - len(outcome.errors)
    if not outcome.report:
        print(f"{count} of {outcome.clips} rows of part {args.shard[0]}/{args.shard[1]} are there")
        return SOME_FAILED if outcome.errors else 0
    print(
        f"{count} of {outcome.clips} clips evaluated ({outcome.kept} kept from before): {args.out / TABLE}, "
        f"{args.out / REPORT}"
    )
    return SOME_FAILED if outcome.errors else 0


def masks_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="manifest.jsonl of prepare")
    parser.add_argument(
        "generated", type=Path, help="folder with <clip>.mp4, the generated ego videos"
    )
    parser.add_argument("out", type=Path, help="folder for <clip>.npz, for `evaluate --masks`")
    parser.add_argument("--model", type=Path, required=True, help="folder of a SAM 2 video model")
    parser.add_argument("--split", default="", help=SPLIT_HELP)
    parser.add_argument(
        "--first",
        type=Path,
        help="folder with <clip>.png, the objects of the true video's first "
        "frame: 0 is background; without it what a grid of points hits, for `evaluate --dino`",
    )
    parser.add_argument(
        "--device", default="cpu", help="where the model runs; cuda:0,cuda:1 spreads the workers"
    )
    add_share_arguments(parser, "track part I of N")


def run_masks(args: argparse.Namespace, progress: Progress) -> int:
    """0; 1 where some clips have no masks."""
    from ..metrics.report import failure_lines
    from ..metrics.track_masks import track_masks
    from ..parallel import RunSums

    failures = track_masks(
        args.manifest,
        args.generated,
        args.out,
        args.model,
        first=args.first,
        split=args.split,
        device=args.device,
        engine=args.engine,
        workers=args.workers,
        part=args.shard,
        most_clips=args.clips,
        sums=args.dry_run,
        progress=progress,
    )
    if isinstance(failures, RunSums):
        print(failures)
        return 0
    for line in failure_lines(failures):
        print(f"no masks: {line}")
    print(f"masks of {len(list(args.out.glob('[!.]*.npz')))} clips: {args.out}")
    return SOME_FAILED if failures else 0
