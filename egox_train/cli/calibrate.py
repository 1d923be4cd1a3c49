"""The ``calibrate`` subcommand of ``train_egox.py``."""

import argparse
import math
from pathlib import Path

from egox_core.progress import Progress

from ..options import CalibrateOptions, add_dataclass_arguments, from_arguments


def calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recording",
        type=Path,
        help="folder with ego.mp4, exo.mp4 (or exo1.mp4, exo2.mp4, ...) and, if there are any, "
        "key points exo_keypoints.json",
    )
    parser.add_argument("out", type=Path, help="folder for the takes")
    add_dataclass_arguments(parser, CalibrateOptions)


def run_calibrate(args: argparse.Namespace, progress: Progress) -> int:
    from ..calibrate.recording import calibrate

    options = from_arguments(CalibrateOptions, args)
    outcome = calibrate(args.recording, args.out, options, progress)
    for note in outcome.notes:
        print(f"note: {note}")
    print(f"scale: {outcome.scale.how}")
    for exo in outcome.exos:
        known = (
            f", {100 * exo.sd_m:.0f} cm and {exo.sd_deg:.1f} degrees (sd) at {exo.distance_m:.1f} m"
        )
        print(f"{exo.name}: {exo.how}{'' if math.isnan(exo.sd_m) else known}")
        if exo.clocks is not None:
            print(
                f"{exo.name}: ego is {exo.clocks.offset_s:+.4f} s later, sd "
                f"{1000 * exo.clocks.sd_s:.0f} ms, {exo.clocks.how}"
            )
        for note in exo.notes:
            print(f"{exo.name}: {note}")
    print(f"{len(outcome.takes)} takes: {args.out}")
    return 0 if outcome.takes else 2
