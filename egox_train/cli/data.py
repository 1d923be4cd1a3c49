"""Define the subcommands of ``train_egox.py`` that make training sets: ``undistort``, ``prepare``
and ``join``."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from egox_core.errors import EgoXInputError
from egox_core.progress import Progress
from egox_core.safe_files import require_there

from ..data.prepare_options import PARTS_FOLDER, PICTURE_OPTION_NAMES, PrepareOptions
from ..options import (
    ENGINE_OPTION_NAMES,
    RunOptions,
    TrainingSetOptions,
    add_dataclass_arguments,
    from_arguments,
)
from ..parallel import ray_cluster

if TYPE_CHECKING:
    from ..data.prepare import PrepareOutcome


def add_batch_arguments(parser: argparse.ArgumentParser, *extra_options: str) -> None:
    """Add the command line arguments that all commands on many takes share, and selected further
    ones."""
    add_dataclass_arguments(parser, RunOptions, field_names=(*ENGINE_OPTION_NAMES, *extra_options))
    parser.add_argument(
        "--ray-address",
        default="",
        metavar="ADDRESS",
        help="of the cluster; default: RAY_ADDRESS, else the one that runs on this "
        "machine; local: a private one here with --workers CPUs",
    )


SKIP_LINES = 10
"""Reasons that ``prepare`` prints. Its report has all of them."""
CLIP_OPTION_NAMES = ("part", "clips", "dry_run")
"""Of RunOptions, what commands that run models over the clips of a set have beside it."""


@contextmanager
def ray_connection(args: argparse.Namespace) -> Generator[None]:
    """Connect to the Ray cluster within a ``with`` block, if the command uses one.

    Raises:
        EgoXInputError: no such cluster, or one that nothing would use.
    """
    if getattr(args, "engine", "") == "ray":
        with ray_cluster(args.ray_address, args.workers) as cluster_description:
            print(f"runs on {cluster_description}", flush=True)
            yield
    elif getattr(args, "ray_address", ""):
        raise EgoXInputError(
            "--ray-address",
            got=f"it with --engine {args.engine}",
            expected="--engine ray",
            fix="give both, or neither",
        )
    else:
        yield


def undistort_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, help="Ego-Exo4D folder, released dataset folder, or folder of takes"
    )
    parser.add_argument(
        "out", type=Path, help="folder for <take>__<camera>.mp4, and .json with its camera"
    )
    add_dataclass_arguments(parser, TrainingSetOptions, field_names=("layout",))
    add_dataclass_arguments(parser, PrepareOptions, field_names=PICTURE_OPTION_NAMES)
    add_batch_arguments(parser, "part")


def run_undistort(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.undistort_videos import undistort_videos

    result = undistort_videos(
        args.source,
        args.out,
        from_arguments(PrepareOptions, args, ego_size=args.exo_size[1]),
        args.layout,
        from_arguments(RunOptions, args),
        progress=progress,
    )
    for video, skip_reason in result.skipped:
        print(f"left out: {video}: {skip_reason}")
    print(f"{result.videos} exo videos ({result.new} made now): {args.out}")
    return 0


def prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, help="Ego-Exo4D folder, released dataset folder, or folder of takes"
    )
    parser.add_argument("out", type=Path, help="training set to make (or to complete)")
    add_dataclass_arguments(parser, TrainingSetOptions)
    add_dataclass_arguments(parser, PrepareOptions)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say how many clips, files, GB and hours it would be; makes a few clips to measure",
    )
    add_batch_arguments(parser, "part")


def run_prepare(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.dry_run import estimate_preparation
    from ..data.prepare import prepare
    from ..data.set_files import REPORT

    metric_model, relative_model, *extra_models = (*(args.depth_model or ()), None, None)
    if len(extra_models) > 2:
        raise EgoXInputError(
            "--depth-model",
            got=f"{len(args.depth_model)} folders",
            expected="one or two",
            fix="a metric model, and optionally a relative one",
        )
    options = from_arguments(
        PrepareOptions,
        args,
        ego_size=args.exo_size[1],
        depth=args.depth or ("model" if metric_model else "files"),
        depth_model=metric_model,
        relative_depth_model=relative_model,
    )
    run_options = (
        options,
        from_arguments(TrainingSetOptions, args),
        from_arguments(RunOptions, args),
    )
    if args.dry_run:
        estimate = estimate_preparation(args.source, *run_options, progress=progress)
        print(
            f"{estimate.clips} clips of {estimate.takes} takes ({estimate.skipped} skipped), "
            f"{estimate.files} files, {estimate.size_bytes / 1e9:.3g} GB, {estimate.hours:.2g} "
            f"hours with {estimate.parallel_clips} at once ({estimate.measured_clips} clips were "
            "made to measure)"
        )
        return 0
    prepare_outcome = prepare(args.source, args.out, *run_options, progress=progress)
    _print_outcome(
        prepare_outcome, args.out / REPORT if args.part == (0, 1) else prepare_outcome.manifest
    )
    return 0


def _print_outcome(outcome: PrepareOutcome, folder: Path) -> None:
    from ..data.set_files import merge_equal_notes

    for warning_text in outcome.warnings():
        print(f"warning: {warning_text}")
    for line in merge_equal_notes(outcome.skip_reasons)[:SKIP_LINES]:
        print(f"left out: {line}")
    print(
        f"{outcome.clips} clips ({outcome.new} made now), {outcome.skipped} skipped: see {folder}"
    )


def join_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "out", type=Path, help="training set whose parts `prepare --shard` has made"
    )


def run_join(args: argparse.Namespace, progress: Progress) -> int:
    require_there(args.out / PARTS_FOLDER, "parts of the training set")
    from ..data.prepare import join
    from ..data.set_files import REPORT

    _print_outcome(join(args.out), args.out / REPORT)
    return 0
