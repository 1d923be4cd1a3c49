"""Define the ``cache`` subcommand of ``train_egox.py``."""

import argparse
from pathlib import Path

from egox_core.progress import Progress

from ..options import CacheSettings, RunOptions, add_dataclass_arguments, from_arguments
from .data import add_run_arguments


def cache_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="manifest.jsonl of prepare")
    parser.add_argument("out", type=Path, help="cache to make (or to complete)")
    add_dataclass_arguments(parser, CacheSettings)
    add_run_arguments(parser, "part")


def run_cache(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.cache_build import build_cache

    outcome = build_cache(
        args.manifest,
        args.out,
        from_arguments(CacheSettings, args),
        from_arguments(RunOptions, args),
        progress=progress,
    )
    if outcome.remade_because:
        print(f"made anew because of changes in: {outcome.remade_because}")
    for clip, reason in outcome.left_out:
        print(f"left out: {clip}: {reason}")
    print(f"{outcome.clips} clips; {outcome.new} shards made, {outcome.kept} kept: {args.out}")
    if outcome.missing:
        print(
            f"{outcome.missing} shards of other parts aren't there yet; the part that ends last finishes the cache"
        )
    return 0
