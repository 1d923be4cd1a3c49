"""The ``headpose`` subcommand of ``train_egox.py``."""

import argparse
from pathlib import Path

from egox_core.progress import Progress

from ..options import EXO_LENSES


def _triple(text: str) -> tuple[float, float, float]:
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers such as 0,-1,0") from None
    return first, second, third


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
        help="folder of OpenPose JSON files, one JSON file with all frames, or an npz of SAM 3D Body",
    )
    parser.add_argument(
        "--person",
        type=int,
        metavar="N",
        help="who wears the camera, where several are seen; from 0",
    )
    parser.add_argument(
        "--mask",
        type=Path,
        help="of the wearer: video, npz or folder of PNG; chooses the person, too",
    )
    parser.add_argument(
        "--offset",
        type=_triple,
        default=(0.0, 0.0, 0.0),
        metavar="RIGHT,DOWN,FORWARD",
        help="metres by which the camera sits elsewhere than that of Aria glasses",
    )
    parser.add_argument("--pitch", type=float, default=0.0, help="degrees that it looks further up")
    parser.add_argument(
        "--exo-lens",
        choices=sorted(EXO_LENSES),
        default="as-given",
        help="the exo camera's lens: the file's K, or the raw lens of Ego-Exo4D's videos",
    )
    parser.add_argument(
        "--up",
        type=_triple,
        metavar="X,Y,Z",
        help="upwards in the take's world (default: the world's axis near the exo camera's own up)",
    )
    parser.add_argument(
        "--look-at",
        type=_triple,
        action="append",
        default=[],
        metavar="FRAME,X,Y",
        help="what the wearer looks at in a frame, in pixels of exo.mp4; may be given again",
    )
    parser.add_argument(
        "--entry", default="", help="the take's name, where meta.json lists several"
    )
    parser.add_argument(
        "--meta", action="store_true", help="write the poses into meta.json, which `prepare` reads"
    )
    parser.add_argument("--replace", action="store_true", help="write over a file that is there")


def run_headpose(args: argparse.Namespace, progress: Progress) -> int:
    from ..takes.head_files import HeadOptions, estimate_take, head_target, write_head

    head_target(args.take, meta=args.meta, replace=args.replace)
    options = HeadOptions(
        offset=args.offset,
        pitch_deg=args.pitch,
        person=args.person,
        mask=args.mask,
        exo_lens=EXO_LENSES[args.exo_lens],
        up=args.up,
        entry=args.entry,
        clicks=tuple(args.look_at),
    )
    trajectory, report, more = estimate_take(args.take, args.keypoints, options, progress)
    path = write_head(args.take, trajectory, more, meta=args.meta, replace=args.replace)
    print(f"{report.text()}: {path}")
    for note in report.notes:
        print(f"note: {note}")
    return 0
