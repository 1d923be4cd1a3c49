"""The ``cache`` subcommand of ``train_egox.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from egox_core.progress import Progress

from .data import add_engine_arguments, add_part_argument


def cache_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="manifest.jsonl of prepare")
    parser.add_argument("out", type=Path, help="cache to make (or to complete)")
    parser.add_argument(
        "--vae", type=Path, required=True, help="diffusers folder, or ComfyUI's Wan VAE file"
    )
    parser.add_argument(
        "--text",
        required=True,
        help="text encoder (folder or ComfyUI's file), a file with one fixed "
        "embedding, or zeros:TOKENSxDIM",
    )
    parser.add_argument(
        "--clip-vision", type=Path, help="for models with an image embedding (Wan 2.1 I2V)"
    )
    parser.add_argument(
        "--image-embedding",
        default="released",
        choices=("released", "exo+prior", "exo only", "trainer", "none"),
    )
    parser.add_argument(
        "--rays", default="released", choices=("released", "exact", "pinhole", "trainer")
    )
    parser.add_argument(
        "--text-encoding",
        default="released",
        choices=("released", "trainer"),
        help="trainer: unmasked and padded, as the released trainer encodes",
    )
    parser.add_argument(
        "--views", action="store_true", help="also what training a base on single views needs"
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument(
        "--shard-clips", type=int, default=16, help="most clips in a shard, all of one take"
    )
    parser.add_argument(
        "--device", default="cpu", help="where the encoders run; cuda:0,cuda:1 spreads the workers"
    )
    add_part_argument(parser, "make part I of N")
    add_engine_arguments(parser)


def run_cache(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.cache_build import build_cache
    from ..data.clip_tensors import CacheSettings

    settings = CacheSettings(
        vae=args.vae,
        text=args.text,
        clip_vision=args.clip_vision,
        image_embedding=args.image_embedding,
        rays=args.rays,
        views=args.views,
        text_encoding=args.text_encoding,
        dtype=args.dtype,
        shard_clips=args.shard_clips,
        device=args.device,
    )
    outcome = build_cache(
        args.manifest,
        args.out,
        settings,
        engine=args.engine,
        workers=args.workers,
        part=args.shard,
        progress=progress,
    )
    if outcome.remade_because:
        print(f"made anew because of changes in: {outcome.remade_because}")
    for clip, why in outcome.left_out:
        print(f"left out: {clip}: {why}")
    print(f"{outcome.clips} clips; {outcome.new} shards made, {outcome.kept} kept: {args.out}")
    if outcome.missing:
        print(
            f"{outcome.missing} shards of other parts aren't there yet; the part that ends last finishes the cache"
        )
    return 0
