"""The subcommand ``evaluate`` of ``train_egox.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..metrics.columns import AMT_WEIGHTS, CLIP_WEIGHTS, DINO_WEIGHTS, FVD_WEIGHTS, LPIPS_WEIGHTS, RAFT_WEIGHTS
from ..progress import Progress
from .data import add_engine_arguments

SOME_FAILED = 1


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not name.strip() or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name.strip(), Path(folder)


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="manifest.jsonl of prepare")
    parser.add_argument("generated", type=Path, help="folder with <clip>.mp4, the generated ego videos")
    parser.add_argument("out", type=Path, help="folder for report.json, report.md, contact_sheet.png, rows")
    parser.add_argument("--masks", type=Path, help="folder with <clip>.npz, object masks: see metrics/mask_files.py")
    parser.add_argument("--also", type=_named_folder, action="append", default=[], metavar="NAME=FOLDER",
                        help="another method's videos of the same clips, in the same tables; may be given again")
    parser.add_argument("--split", default="", help="train, validation or test; without it all clips")
    parser.add_argument("--no-baselines", action="store_true", help="leave out prior, Telea, exo and shrink")
    parser.add_argument("--lpips", type=Path, help=f"weights for LPIPS: {LPIPS_WEIGHTS}")
    parser.add_argument("--clip", type=Path, help=f"weights for CLIP-I: {CLIP_WEIGHTS}")
    parser.add_argument("--raft", type=Path, help=f"weights for Dynamic Degree: {RAFT_WEIGHTS}")
    parser.add_argument("--amt", type=Path, help=f"weights for Motion Smoothness: {AMT_WEIGHTS}")
    parser.add_argument("--fvd", type=Path, help=f"weights for FVD: {FVD_WEIGHTS}")
    parser.add_argument("--dino", type=Path, help=f"matches objects by looks, not by id: {DINO_WEIGHTS}")
    parser.add_argument("--compare", type=Path, help="report.json of another run, for paired differences")
    parser.add_argument("--sheet", type=int, default=12, help="clips on the contact sheet, 0: none")
    parser.add_argument("--samples", type=int, default=2000, help="bootstrap samples")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    add_engine_arguments(parser)


def run_evaluate(chosen: argparse.Namespace, progress: Progress) -> int:
    """0; 1 where some clips could not be evaluated (the report names them)."""
    from ..metrics.evaluate import REPORT, TABLE, EvaluateOptions, evaluate

    weights = {name: getattr(chosen, name) for name in ("lpips", "clip", "raft", "amt", "fvd", "dino")}
    options = EvaluateOptions(
        masks=chosen.masks, also=tuple(chosen.also), split=chosen.split, baselines=not chosen.no_baselines,
        compare=chosen.compare, sheet_clips=chosen.sheet, samples=chosen.samples, seed=chosen.seed, **weights)
    outcome = evaluate(chosen.manifest, chosen.generated, chosen.out, options, engine=chosen.engine,
                       workers=chosen.workers, progress=progress)
    for clip, why in sorted(outcome.errors.items()):
        print(f"not evaluated: {clip}: {why}")
    done = outcome.clips - len(outcome.errors)
    print(f"{done} of {outcome.clips} clips evaluated ({outcome.kept} kept from before): {chosen.out / TABLE}, "
          f"{chosen.out / REPORT}")
    return SOME_FAILED if outcome.errors else 0
