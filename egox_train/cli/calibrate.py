"""Define the ``calibrate`` subcommand of ``train_egox.py``."""

import argparse
import math
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.progress import Progress
from egox_core.safe_files import write_json

from ..options import CalibrateOptions, add_dataclass_arguments, from_arguments

CHECK_FILE = "check.json"
UNTESTED_CODE = 3


def calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recording",
        type=Path,
        help="folder with ego.mp4, exo.mp4 (or exo1.mp4, exo2.mp4, ...) and, if there are any, "
        "key points exo_keypoints.json",
    )
    parser.add_argument(
        "out",
        type=Path,
        nargs="?",
        help=f"folder for the takes; with --check, for {CHECK_FILE}, if it is wanted",
    )
    add_dataclass_arguments(parser, CalibrateOptions)
    parser.add_argument(
        "--point",
        type=Path,
        metavar="FILE",
        help=(
            "the first is a fixed camera's video, the second the JSON file to write: find the "
            "camera by a point of known places, such as a robot's gripper; FILE is a CSV table "
            "with time_s, x, y, z (metres), u, v (pixels, empty where it isn't seen)"
        ),
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help=(
            "the first folder is a set that has cameras (take folders, Ego-Exo4D, a set of "
            "prepare, a LeRobot set of ours): tell which episodes' clocks, turns and places are "
            "wrong"
        ),
    )
    parser.add_argument(
        "--depth-sd",
        type=float,
        metavar="SHARE",
        help=(
            "with --check: how far the depth's size may be off (standard deviation, a share of "
            "it), such as 0.02 of a depth camera; else the wearer tells it where seen, and 0.3 is "
            "taken of a network's depth"
        ),
    )


def run_calibrate(args: argparse.Namespace, progress: Progress) -> int:
    if args.check:
        return _run_check(args, progress)
    if args.point is not None and args.out is not None:
        return _run_with_point_log(args)
    if args.out is None:
        raise EgoXInputError(
            "calibrate",
            got="no folder for the takes",
            expected="RECORDING OUT, SET --check, or EXO.mp4 CAMERA.json --point FILE",
            fix="see docs/own_recordings.md",
        )
    from ..calibrate.recording import calibrate

    options = from_arguments(CalibrateOptions, args)
    calibration = calibrate(args.recording, args.out, options, progress)
    for calibration_note in calibration.notes:
        print(f"note: {calibration_note}")
    print(f"scale: {calibration.scale.how_found}")
    for camera in calibration.exos:
        accuracy = (
            f", {100 * camera.sd_m:.0f} cm and {camera.sd_deg:.1f} degrees (sd) at "
            f"{camera.distance_m:.1f} m"
        )
        print(f"{camera.name}: {camera.how_found}{'' if math.isnan(camera.sd_m) else accuracy}")
        if camera.clocks is not None:
            print(
                f"{camera.name}: ego is {camera.clocks.offset_s:+.4f} s later, sd "
                f"{1000 * camera.clocks.sd_s:.0f} ms, {camera.clocks.how_found}"
            )
        for calibration_note in camera.notes:
            print(f"{camera.name}: {calibration_note}")
    print(f"{len(calibration.takes)} takes: {args.out}")
    return 0 if calibration.takes else 2


def _run_with_point_log(args: argparse.Namespace) -> int:
    """Run ``calibrate`` for a fixed camera that sees a point with a logged path, such as a robot's
    gripper."""
    from ..calibrate.logged_point import write_camera_from_log

    solved_camera = write_camera_from_log(
        args.recording, args.point, args.out, args.exo_lens, args.offset_s
    )
    median_deg, largest_deg = solved_camera.residual_deg
    print(
        f"{args.recording.name}: {100 * solved_camera.sd_m:.1f} cm and {solved_camera.sd_deg:.2f} "
        f"degrees (sd) at {solved_camera.distance_m:.1f} m; the point is off by {median_deg:.2f} / "
        f"{largest_deg:.2f} degrees (90 %), the log {1000 * solved_camera.lag_s:+.0f} ms late (sd "
        f"{1000 * solved_camera.lag_sd_s:.0f}): {args.out}"
    )
    return 0


def _run_check(args: argparse.Namespace, progress: Progress) -> int:
    """Run ``calibrate --check``, and print one line per episode.

    The exit code is 1 if a camera is wrong, and 3 if no episode could be tested."""
    from ..calibrate.check import check_set
    from ..calibrate.check_row import table

    if args.depth_sd is not None and not 0 <= args.depth_sd < math.inf:
        raise EgoXInputError(
            "--depth-sd",
            got=args.depth_sd,
            expected="0 or more",
            fix="give the share by which the depth's size may be off, e.g. 0.02",
        )
    rows = check_set(args.recording, progress, depth_sd=args.depth_sd)
    for line in table(rows):
        print(line)
    wrong_episode_count = sum(row.is_wrong for row in rows)
    print(f"{wrong_episode_count} of {len(rows)} episodes are wrong")
    clock_count = sum(row.is_clock_tested for row in rows)
    view_count = sum(row.is_view_tested for row in rows)
    print(
        f"testable: the clock of {clock_count} of {len(rows)} by the head's turns, the turn "
        f"of {view_count} of {len(rows)} by its view of the scene"
    )
    if args.out is not None:
        write_json(args.out / CHECK_FILE, [row.to_json() for row in rows])
    if wrong_episode_count:
        return 1
    return 0 if clock_count or view_count else UNTESTED_CODE
