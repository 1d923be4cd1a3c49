"""The subcommands of ``train_egox.py`` that make training sets: ``undistort``, ``prepare`` and
``join``; and options of all that run over many takes."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egox_core.errors import EgoXInputError
from egox_core.progress import Progress
from egox_core.sizes import REFERENCE_EXO_SIZE
from egox_core.takes.exo_camera import EXO_LENSES
from egox_core.takes.metric_scale import parse_scale

from ..parallel import ENGINES, ray_cluster

if TYPE_CHECKING:
    from ..data.prepare import PrepareOutcome


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    try:
        return int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 784x448") from None


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    try:
        return int(number), int(count)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 0/2") from None


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that runs over many takes."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="local",
        help="a pool of processes here, or a Ray cluster",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes at once; on a Ray cluster as many as it has CPUs and GPUs for",
    )
    parser.add_argument(
        "--ray-address",
        default="",
        metavar="ADDRESS",
        help="of the cluster; default: RAY_ADDRESS, else the one that runs on this "
        "machine; local: a private one here with --workers CPUs",
    )


@contextmanager
def engine_of(args: argparse.Namespace) -> Generator[None]:
    """Holds what a command's engine needs, and says on which cluster it runs.

    Raises:
        EgoXInputError: no such cluster, or one that nothing would use.
    """
    if getattr(args, "engine", "") == "ray":
        with ray_cluster(args.ray_address, args.workers) as where:
            print(f"runs on {where}", flush=True)
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


def _picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide how an exo picture looks: ``prepare`` and ``undistort`` must be
    given the same."""
    parser.add_argument(
        "--layout", choices=("auto", "egoexo4d", "released", "take"), default="auto"
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=REFERENCE_EXO_SIZE,
        help="exo size; ego is as high, and square",
    )
    parser.add_argument(
        "--pictures",
        choices=("undistorted", "as-filmed"),
        default="undistorted",
        help="exo pictures of Ego-Exo4D; as-filmed, with the lens as given, is what the released LoRA "
        "was trained on. Takes with a meta.json stay as filmed",
    )
    parser.add_argument(
        "--undistort",
        choices=("inside", "all"),
        default="inside",
        help="no black corner, or everything the lens saw",
    )
    parser.add_argument(
        "--exo-fov", type=float, default=110.0, help="widest view of an undistorted exo, degrees"
    )
    parser.add_argument(
        "--exo-lens",
        choices=sorted(EXO_LENSES),
        help="default: raw for Ego-Exo4D's own folders, as-given for takes with a meta.json and for "
        "pictures as filmed",
    )
    parser.add_argument(
        "--quality", type=int, default=12, help="x264 rate factor of the videos, smaller is better"
    )


def _picture_options(args: argparse.Namespace) -> dict[str, Any]:
    """Those as fields of PrepareOptions."""
    from ..data.prepare_options import EXO_PICTURES

    return {
        "exo_size": args.size,
        "ego_size": args.size[1],
        "pictures": EXO_PICTURES[args.pictures],
        "undistort": args.undistort,
        "exo_fov_deg": args.exo_fov,
        "quality": args.quality,
        "exo_lens": EXO_LENSES[args.exo_lens] if args.exo_lens else None,
    }


def undistort_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, help="Ego-Exo4D folder, released dataset folder, or folder of takes"
    )
    parser.add_argument(
        "out", type=Path, help="folder for <take>__<camera>.mp4, and .json with its camera"
    )
    _picture_arguments(parser)
    add_part_argument(parser, "write part I of N of the videos")
    add_engine_arguments(parser)


def add_part_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--shard",
        type=_part,
        default=(0, 1),
        metavar="I/N",
        help=f"{what} (from 0 on), as one of several processes or machines on one folder",
    )


def add_share_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options of commands that run models over the clips of a set."""
    parser.add_argument(
        "--clips", type=int, default=0, metavar="N", help="only N clips, spread over all"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="make one clip on --device in a folder that is removed again, and say device hours, "
        "GB, and hours with 1, 8 and 64 devices",
    )
    add_part_argument(parser, what)
    add_engine_arguments(parser)


def run_undistort(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.prepare_options import PrepareOptions
    from ..data.undistort_videos import undistort_videos

    outcome = undistort_videos(
        args.source,
        args.out,
        PrepareOptions(**_picture_options(args)),
        layout=args.layout,
        engine=args.engine,
        workers=args.workers,
        part=args.shard,
        progress=progress,
    )
    for what, why in outcome.skipped:
        print(f"left out: {what}: {why}")
    print(f"{outcome.videos} exo videos ({outcome.new} made now): {args.out}")
    return 0


def prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, help="Ego-Exo4D folder, released dataset folder, or folder of takes"
    )
    parser.add_argument("out", type=Path, help="training set to make (or to complete)")
    _picture_arguments(parser)
    parser.add_argument("--frames", type=int, default=49, help="frames a clip, 4n+1")
    parser.add_argument(
        "--stride", type=int, default=49, help="source frames from one clip's start to the next"
    )
    parser.add_argument("--step", type=int, default=1, help="take every n-th source frame")
    parser.add_argument(
        "--task",
        type=float,
        nargs=2,
        metavar=("START", "END"),
        help="seconds of the video between which clips are taken, of one take or of those that "
        "takes.json doesn't time",
    )
    parser.add_argument("--clips-per-camera", type=int, default=0, help="at most so many, 0: all")
    parser.add_argument(
        "--clips-per-take", type=int, default=0, help="at most so many of all its cameras, 0: all"
    )
    parser.add_argument(
        "--most-clips",
        type=int,
        default=0,
        help="at most so many of all takes, of each as evenly as can be, 0: all",
    )
    parser.add_argument(
        "--draw",
        choices=("spread", "random"),
        default="spread",
        help="which clips, where there are more: evenly over the take's time, or by chance",
    )
    parser.add_argument("--draw-seed", type=int, default=0, help="of --draw random")
    parser.add_argument(
        "--cameras", type=int, default=0, help="keep the best so many exo cameras of a take, 0: all"
    )
    parser.add_argument(
        "--depth",
        choices=("files", "plane", "model"),
        help="default: model where --depth-model is given, else files; plane: the floor under the "
        "wearer as stand-in depth",
    )
    parser.add_argument(
        "--depth-root",
        type=Path,
        help="depth <take>__<camera> (.npz, .npy, .zip or a folder) of the videos of undistort",
    )
    parser.add_argument(
        "--depth-model",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="a metric depth model, and optionally a relative one that is aligned to it",
    )
    parser.add_argument(
        "--mask-root",
        type=Path,
        help="masks <take>__<camera> (.mkv, .mp4, .npz or a folder of PNG) of what moves there",
    )
    parser.add_argument(
        "--mask-model", type=Path, help="folder of a segmentation model, where there are no masks"
    )
    parser.add_argument(
        "--mask-classes",
        nargs="+",
        metavar="LABEL",
        help="labels of --mask-model that count as moving (default: people, animals, vehicles, balls)",
    )
    parser.add_argument(
        "--device",
        help="where depth, mask and caption models run; default: a GPU where there is one",
    )
    parser.add_argument(
        "--eye-height", type=float, default=1.6, help="of the wearer, metres, for --depth plane"
    )
    parser.add_argument(
        "--prior",
        default="released",
        help="preset of the prior renderer: released, released_wild "
        "(with what moves), clean or exact (with the raw lens and the wearer's scale)",
    )
    parser.add_argument(
        "--scale",
        type=parse_scale,
        metavar="as-is|wearer|NUMBER",
        help="of the depth (default: as-is)",
    )
    parser.add_argument("--captions", type=Path, help="JSON: prompt by clip or take name")
    parser.add_argument(
        "--caption-model",
        type=Path,
        help="folder of a vision-language model, for clips without a caption of their own",
    )
    parser.add_argument(
        "--validation", type=float, default=0.05, help="share of takes held out for validation"
    )
    parser.add_argument(
        "--test", type=float, default=0.05, help="share of takes held out for tests"
    )
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument(
        "--splits",
        choices=("official", "rooms"),
        default="official",
        help="official: the dataset's own where it has one; rooms: by room or recording alone",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say how many clips, files, GB and hours it would be; makes a few clips to measure",
    )
    add_part_argument(
        parser, "prepare part I of N of the takes, of which `train_egox.py join` makes one set"
    )
    add_engine_arguments(parser)


def run_prepare(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.dry_run import dry_run
    from ..data.parts import REPORT
    from ..data.prepare import prepare
    from ..data.prepare_options import MOVING_CLASSES, PrepareOptions

    metric, relative, *more = (*(args.depth_model or ()), None, None)
    if len(more) > 2:
        raise EgoXInputError(
            "--depth-model",
            got=f"{len(args.depth_model)} folders",
            expected="one or two",
            fix="a metric model, and optionally a relative one",
        )
    options = PrepareOptions(
        frames=args.frames,
        stride=args.stride,
        step=args.step,
        clips_per_camera=args.clips_per_camera,
        clips_per_take=args.clips_per_take,
        most_clips=args.most_clips,
        draw=args.draw,
        draw_seed=args.draw_seed,
        task_s=tuple(args.task) if args.task else None,
        cameras=args.cameras,
        depth=args.depth or ("model" if metric else "files"),
        depth_root=args.depth_root,
        depth_model=metric,
        relative_depth_model=relative,
        caption_model=args.caption_model,
        device=args.device,
        mask_root=args.mask_root,
        mask_model=args.mask_model,
        mask_classes=tuple(args.mask_classes or MOVING_CLASSES),
        eye_height_m=args.eye_height,
        prior=args.prior,
        scale=args.scale,
        **_picture_options(args),
    )
    how = {
        "layout": args.layout,
        "engine": args.engine,
        "workers": args.workers,
        "captions": args.captions,
        "part": args.shard,
        "progress": progress,
    }
    if args.dry_run:
        sums = dry_run(args.source, args.out, options, **how)
        print(
            f"{sums.clips} clips of {sums.takes} takes ({sums.skipped} skipped), "
            f"{sums.files} files, "
            f"{sums.size_bytes / 1e9:.3g} GB, {sums.hours:.2g} hours with {sums.at_once} at once "
            f"({sums.measured} clips were made to measure)"
        )
        return 0
    outcome = prepare(
        args.source,
        args.out,
        options,
        split_seed=args.split_seed,
        splits=args.splits,
        fractions={"validation": args.validation, "test": args.test},
        **how,
    )
    _say_prepared(outcome, args.out / REPORT if args.shard == (0, 1) else outcome.manifest)
    return 0


def _say_prepared(outcome: PrepareOutcome, where: Path) -> None:
    for warning in outcome.warnings:
        print(f"warning: {warning}")
    print(f"{outcome.clips} clips ({outcome.new} made now), {outcome.skipped} skipped: see {where}")


def join_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "out", type=Path, help="training set whose parts `prepare --shard` has made"
    )


def run_join(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.parts import REPORT
    from ..data.prepare import join

    _say_prepared(join(args.out), args.out / REPORT)
    return 0
