"""Define the ``headpose`` subcommand of ``train_egox.py``."""

import argparse
from pathlib import Path

from egox_core.progress import Progress

from ..options import HeadOptions, add_dataclass_arguments, from_arguments


def headpose_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "take",
        type=Path,
        help="folder with exo.mp4, meta.json (the exo camera) and, if known, depth",
    )
    parser.add_argument(
        "--keypoints",
        type=Path,
        required=True,
        metavar="FILE",
        help=(
            "folder of OpenPose JSON files, one JSON file with all frames, or an npz of SAM 3D Body"
        ),
    )
    add_dataclass_arguments(parser, HeadOptions)
    parser.add_argument(
        "--meta", action="store_true", help="write the poses into meta.json, which `prepare` reads"
    )
    parser.add_argument("--replace", action="store_true", help="write over a file that is there")


def run_headpose(args: argparse.Namespace, progress: Progress) -> int:
    from ..takes.head_files import choose_pose_file, estimate_take, write_head

    choose_pose_file(args.take, meta=args.meta, replace=args.replace)
    options = from_arguments(HeadOptions, args)
    trajectory, report, extra_fields = estimate_take(args.take, args.keypoints, options, progress)
    path = write_head(args.take, trajectory, extra_fields, meta=args.meta, replace=args.replace)
    print(f"{report.text()}: {path}")
    for note in report.notes:
        print(f"note: {note}")
    return 0
