"""Render an ego prior from the command line: ``run.py prior --take FOLDER --out FOLDER``.

Writes prior.mp4 (stored, that is upright, orientation), coverage.mp4, seen.mkv (which pixels exo
observed) and report.json, through the same functions as the nodes."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from egox_core.choices import (
    DYNAMIC_CHOICES,
    HIDDEN_LINES,
    EgoCameraPreset,
    Motion,
    PriorPreset,
)
from egox_core.errors import EgoXInputError
from egox_core.file_names import SEEN
from egox_core.progress import Progress
from egox_core.remarks import facts_text
from egox_core.safe_files import atomic_write, require_there, require_writable, write_json

from ..options import DECLARE_KEYWORDS, EXO_LENSES, FILE_FRAMES_KEYWORDS, declared_of, parse_scale
from .advice import in_flags
from .progress_line import ProgressLine

if TYPE_CHECKING:
    from torch import Tensor

    from egox_core.take import Take
    from egox_core.types import EgoPrior, PointCloud


class Laps:
    """Measure the stages of a command, and show their progress in a line."""

    def __init__(self) -> None:
        self.progress, self.seconds = ProgressLine(), dict[str, float]()
        self._start_s = time.perf_counter()

    def end(self, name: str) -> None:
        """Store the time since the last stage ended."""
        now_s = time.perf_counter()
        self.seconds[name], self._start_s = round(now_s - self._start_s, 3), now_s


def peak_memory_bytes() -> int | None:
    """Measure the peak memory of this process in bytes, or return None on systems without such a
    figure.

    Pages of files mapped into memory count while they are resident, though the system may drop them
    at any time."""
    if find_spec("resource") is not None:
        import resource

        peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak_rss if sys.platform == "darwin" else peak_rss * 1024)
    if find_spec("psutil") is not None:  # Windows; the host brings it
        import psutil

        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0)) or None
    return None


def main(arguments: list[str] | None = None) -> int:
    """Render the ego prior of one take from command line arguments, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="run.py prior", description="Render the ego prior of a take."
    )
    parser.add_argument(
        "--take", type=Path, required=True, metavar="FOLDER", help="exo.mp4, depth.npz, meta.json"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where the results go"
    )
    add_rendering_arguments(parser, preset="released")
    parser.add_argument(
        "--ply", action="store_true", help="write the scene of the first frame as scene.ply, too"
    )
    args = parser.parse_args(arguments)
    return run_and_report("prior", render_take, args)


def run_and_report(
    name: str, make_report: Callable[[argparse.Namespace], dict[str, Any]], args: argparse.Namespace
) -> int:
    """Run a command on a take and print its report, or one line for what a user can mend."""
    try:
        require_writable(args.out, "output folder")
        require_there(args.take, "--take")
        report = make_report(args)
    except (EgoXInputError, OSError) as error:  # of the disk
        print(f"run.py {name}: {in_flags(error, args)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # run.py says so
        return 130
    print_report(report, args.out)
    return 0


def print_report(report: dict[str, Any], folder: Path) -> None:
    """Print the figures and notes of a report."""
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in report["seconds"].items())
    print(
        f"{report['frames']} frames of {report['size'][0]}x{report['size'][1]} px, coverage "
        f"{100 * report['coverage_mean']:.1f} %; {seconds}\nresults in {folder}"
    )
    for report_note in report["notes"]:
        print(f"note: {report_note}")
    print("facts:", *report["facts"], sep="\n  ")


def add_rendering_arguments(parser: argparse.ArgumentParser, preset: str) -> None:
    """Add the arguments that say how a prior is rendered, with ``preset`` as the default."""
    parser.add_argument("--preset", choices=sorted(get_args(PriorPreset)), default=preset)
    parser.add_argument(
        "--exo-lens",
        choices=sorted(EXO_LENSES),
        help=(
            "the file's K, or the raw lens of Ego-Exo4D's videos (default: as-given; preset exact: "
            "raw where it is known)"
        ),
    )
    parser.add_argument(
        "--scale",
        metavar="as-is|wearer|NUMBER",
        help="of the depth: as it is, from where the wearer's head and trunk must be, or a factor "
        "(default: as-is; preset exact: wearer where he can be seen)",
    )
    parser.add_argument(
        "--dynamic", choices=DYNAMIC_CHOICES, help="moving points (default: the preset's)"
    )
    parser.add_argument(
        "--hidden-lines",
        choices=HIDDEN_LINES,
        help="points that are seen through places which no exo frame has seen empty (default: the "
        "preset's)",
    )
    parser.add_argument(
        "--scene-scale",
        type=float,
        metavar="NUMBER",
        help="size of the scene against one of people's size, for lengths of the wearer's head "
        "(default: 1; a toy room: 0.1)",
    )
    parser.add_argument(
        "--exo-motion",
        choices=get_args(Motion),
        default="auto",
        help="motion of the exo camera, if its poses aren't given (default: auto, detected)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="device that draws the points: cpu, cuda, xpu (default: auto, a GPU if there is one)",
    )
    parser.add_argument(
        "--camera",
        choices=sorted(get_args(EgoCameraPreset)),
        help="the ego camera, if the take states none",
    )
    parser.add_argument(
        "--start", type=int, default=0, metavar="N", help="first frame (default: 0)"
    )
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="frames, 4n+1; 0: all (default: all of a take)",
    )
    parser.add_argument(
        "--size", type=int, metavar="PX", help="side of the picture (default: the exo height)"
    )
    parser.add_argument(
        "--entry", default="", help="the take's name, where meta.json lists several"
    )
    parser.add_argument("--file-frames", **FILE_FRAMES_KEYWORDS)
    parser.add_argument("--declare", **DECLARE_KEYWORDS)
    parser.add_argument(
        "--one-shot",
        action="store_true",
        help="take what looks like a cut as none: a lamp, a shadow or a person made the change",
    )
    parser.add_argument(
        "--draw-anyway",
        action="store_true",
        help="also where the ego camera can't be, seen from exo; the notes then report it",
    )


@dataclass(frozen=True)
class RenderedTake:
    """Take with its rendered prior."""

    take: Take
    exo_frames: Tensor  # [T, H, W, 3] uint8
    scene: PointCloud
    prior: EgoPrior
    report: dict[str, Any]


def render_take(args: argparse.Namespace) -> dict[str, Any]:
    """Render a take's ego prior from its files, write it, and return the report."""
    from egox_core.scene import write_ply

    from ..video_writer import write_levels, write_video

    laps = Laps()
    rendered = render_prior(args, read_take(args, laps.progress), laps)
    args.out.mkdir(parents=True, exist_ok=True)
    ego_prior, fps = rendered.prior, rendered.take.frames.fps
    masks = (mask.byte() * 255 for mask in ego_prior.coverage)
    for name, frames in (("prior.mp4", ego_prior.rgb), ("coverage.mp4", masks)):
        write_video(args.out / name, frames, fps)
    if ego_prior.seen is not None:
        write_levels(args.out / SEEN, ego_prior.seen, fps)
    laps.end("render and write")
    if args.ply:
        with atomic_write(args.out / "scene.ply") as path, path.open("wb") as file:
            write_ply(rendered.scene.points(0), file)
    return write_prior_report(args.out, rendered.report, laps)


def read_take(args: argparse.Namespace, progress: Progress) -> Take:
    """Load the take that the arguments name."""
    from egox_core.prior import prior_preset
    from egox_core.take import load_take

    preset = prior_preset(args.preset)
    declared = declared_of(args.declare)
    scale = "as is" if declared.value("depth.scale") else preset.scale or "as is"
    return load_take(
        args.take,
        start_frame=args.start,
        frame_count=args.frames or None,
        camera_preset=args.camera,
        ego_size=args.size,
        entry=args.entry,
        exo_lens=EXO_LENSES[args.exo_lens] if args.exo_lens else preset.exo_lens or "as given",
        scale=parse_scale(args.scale) if args.scale else scale,
        file_frames=args.file_frames,
        one_shot=args.one_shot,
        declared=declared,
        progress=progress,
    )


def render_prior(args: argparse.Namespace, take: Take, laps: Laps) -> RenderedTake:
    """Render the ego prior of a loaded take, with classes of its pixels and a report."""
    from egox_core.prior import prior_preset
    from egox_core.scene import estimate_exo_motion
    from egox_core.stages import prior, scene

    exo_frames = take.read_exo(laps.progress)
    laps.end("load")
    depth, exo_motion_report = estimate_exo_motion(
        exo_frames, take.depth, args.exo_motion, progress=laps.progress
    )
    scene_points, _ = scene(exo_frames, depth, progress=laps.progress)
    laps.end("scene")
    ego_prior, prior_report = prior(
        scene_points,
        take.trajectory,
        args.preset,
        dynamic=args.dynamic,
        hidden_lines=args.hidden_lines,
        scene_scale=args.scene_scale,
        classes=True,
        draw_anyway=args.draw_anyway,
        device=args.device,
        progress=laps.progress,
    )
    report = {
        "take": take.name,
        "preset": args.preset,
        "hidden_lines": args.hidden_lines or prior_preset(args.preset).hidden_lines,
        "camera": args.camera or "the take's own, else aria_released",
        "exo_lens": take.lens_note,
        "scale": take.report.scale.content(),
        "exo_motion": exo_motion_report.content(),
        "frames": scene_points.frame_count,
        "size": list(take.trajectory.ego.camera.stored_size),
        "coverage_mean": round(float(prior_report.covered.mean()), 5),
        "coverage": [round(covered_share, 5) for covered_share in prior_report.covered.tolist()],
        "static_points": len(scene_points.static),
        "notes": [
            in_flags(note)
            for note in (
                take.lens_note,
                *filter(None, [take.notes.placed, size_note(args.size, take)]),
                take.report.scale.text(),
                *take.report.warnings(),
                *exo_motion_report.notes,
                *prior_report.notes[1:],
            )
        ],
        "facts": facts_text((*take.facts, *prior_report.facts)).splitlines(),
    }
    return RenderedTake(take, exo_frames, scene_points, ego_prior, report)


def size_note(wanted_px: int | None, take: Take) -> str:
    """Say that a take keeps the size of the ego camera that it states, "" where it has none."""
    width, height = take.trajectory.ego.camera.stored_size
    if wanted_px is None or (width, height) == (wanted_px, wanted_px):
        return ""
    return f"the take states its ego camera of {width}x{height} px: --size changes nothing"


def write_prior_report(folder: Path, report: dict[str, Any], laps: Laps) -> dict[str, Any]:
    """Write report.json with the times, the peak memory and the versions, and return it."""
    import torch

    peak_bytes = peak_memory_bytes()
    report = {
        **report,
        "seconds": laps.seconds,
        "peak_memory_mb": None if peak_bytes is None else round(peak_bytes / 2**20, 1),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    write_json(folder / "report.json", report)
    return report


if __name__ == "__main__":
    raise SystemExit(main())
