"""Define the ``cache`` subcommand of ``train_egox.py``."""

import argparse
from pathlib import Path

from egox_core.progress import Progress

from ..options import CacheSettings, RunOptions, add_dataclass_arguments, from_arguments
from .data import add_batch_arguments


def cache_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="manifest.jsonl of prepare")
    parser.add_argument("out", type=Path, help="cache to make (or to complete)")
    add_dataclass_arguments(parser, CacheSettings)
    add_batch_arguments(parser, "part")


def run_cache(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.cache_build import build_cache

    cache = build_cache(
        args.manifest,
        args.out,
        from_arguments(CacheSettings, args),
        from_arguments(RunOptions, args),
        progress=progress,
    )
    if cache.remake_reason:
        print(f"made anew because of changes in: {cache.remake_reason}")
    for clip, omission_reason in cache.omitted_clips:
        print(f"left out: {clip}: {omission_reason}")
    print(f"{cache.clips} clips; {cache.new} shards made, {cache.kept} kept: {args.out}")
    if cache.missing:
        print(
            f"{cache.missing} shards of other parts aren't there yet; the part that ends last "
            "finishes the cache"
        )
    return 0
