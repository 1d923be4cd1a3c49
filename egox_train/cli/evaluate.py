"""Define the subcommands of ``train_egox.py`` that evaluate ego videos: ``masks`` and
``evaluate``."""

import argparse
from collections.abc import Mapping, Set
from pathlib import Path

from egox_core.progress import Progress

from ..metrics.columns import WEIGHTS
from ..options import (
    EvaluateOptions,
    MaskOptions,
    RunOptions,
    add_dataclass_arguments,
    from_arguments,
)
from .data import CLIP_OPTION_NAMES, add_batch_arguments

EXIT_SOME_FAILED = 1
"""Exit code of ``evaluate`` where some clips could not be evaluated."""

FAILED_CLIPS_SHOWN = 3
"""Names of clips in a line about several that failed for one reason."""


def _whole_splits(
    split_by_clip: Mapping[str, str], evaluated_clips: Set[str], failed_clips: Set[str]
) -> str:
    """Name the splits whose clips were all evaluated, as --split takes them, or return "" if a
    failed clip is of one of them."""
    evaluated_splits = {split_by_clip.get(clip, "") for clip in evaluated_clips}
    failed_splits = {split_by_clip.get(clip, "") for clip in failed_clips}
    if not failed_splits or "" in evaluated_splits | failed_splits:
        return ""
    return "" if evaluated_splits & failed_splits else ",".join(sorted(evaluated_splits))


def _add_folders(parser: argparse.ArgumentParser, out_help: str) -> None:
    for name, purpose in (
        (
            "manifest",
            "manifest.jsonl of prepare; with --protocol also a folder of takes, or of <clip>.mp4, "
            "the true ego videos",
        ),
        ("generated", "folder with <clip>.mp4, the generated ego videos"),
        ("out", out_help),
    ):
        parser.add_argument(name, type=Path, help=purpose)


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _add_folders(parser, "folder for report.json, report.md, contact_sheet.png, rows")
    add_dataclass_arguments(parser, EvaluateOptions)
    parser.add_argument(
        "--no-baselines", action="store_true", help="leave out prior, haze, exo and shrink"
    )
    for name, purpose in WEIGHTS.items():
        parser.add_argument(f"--{name}", type=Path, help=purpose)
    add_batch_arguments(parser, *CLIP_OPTION_NAMES)


def run_evaluate(args: argparse.Namespace, progress: Progress) -> int:
    """Run ``evaluate``, and exit with 1 if a clip could not be evaluated."""
    from ..data.manifest import read_splits
    from ..data.set_files import merge_equal_notes
    from ..metrics.evaluate import REPORT_FILE, TABLE_FILE, evaluate
    from ..parallel import RunEstimate

    weights = {name: getattr(args, name.replace("-", "_")) for name in WEIGHTS}
    options = from_arguments(
        EvaluateOptions,
        args,
        baselines=not args.no_baselines,
        weights={name: file for name, file in weights.items() if file is not None},
    )
    run_options = from_arguments(RunOptions, args)
    evaluate_outcome = evaluate(
        args.manifest, args.generated, args.out, options, run_options, progress=progress
    )
    if isinstance(evaluate_outcome, RunEstimate):
        print(evaluate_outcome)
        return 0
    for line in merge_equal_notes(sorted(evaluate_outcome.errors.items()), FAILED_CLIPS_SHOWN):
        print(f"not evaluated: {line}")
    rows = evaluate_outcome.report.get("rows", ())
    whole_splits = _whole_splits(
        read_splits(args.manifest), {row["clip"] for row in rows}, {*evaluate_outcome.errors}
    )
    if whole_splits and not options.split:
        print(f"none of these clips is of {whole_splits}: --split {whole_splits} leaves them out")
    evaluated_count = evaluate_outcome.clips - len(evaluate_outcome.errors)
    if not evaluate_outcome.report:
        print(
            f"{evaluated_count} of {evaluate_outcome.clips} rows of part "
            f"{run_options.part[0]}/{run_options.part[1]} are there"
        )
        return EXIT_SOME_FAILED if evaluate_outcome.errors else 0
    print(
        f"{evaluated_count} of {evaluate_outcome.clips} clips evaluated "
        f"({evaluate_outcome.kept} kept from before): {args.out / TABLE_FILE}, "
        f"{args.out / REPORT_FILE}"
    )
    return EXIT_SOME_FAILED if evaluate_outcome.errors else 0


def masks_arguments(parser: argparse.ArgumentParser) -> None:
    _add_folders(parser, "folder for <clip>.npz, for `evaluate --masks`")
    add_dataclass_arguments(parser, MaskOptions)
    add_batch_arguments(parser, *CLIP_OPTION_NAMES)


def run_masks(args: argparse.Namespace, progress: Progress) -> int:
    """Run ``masks``, and exit with 1 if a clip got no object masks."""
    from ..data.set_files import merge_equal_notes
    from ..metrics.track_masks import track_masks
    from ..parallel import RunEstimate

    failed_clips = track_masks(
        args.manifest,
        args.generated,
        args.out,
        from_arguments(MaskOptions, args),
        from_arguments(RunOptions, args),
        progress=progress,
    )
    if isinstance(failed_clips, RunEstimate):
        print(failed_clips)
        return 0
    for line in merge_equal_notes(sorted(failed_clips.items()), FAILED_CLIPS_SHOWN):
        print(f"no masks: {line}")
    print(f"masks of {len(list(args.out.glob('[!.]*.npz')))} clips: {args.out}")
    return EXIT_SOME_FAILED if failed_clips else 0
