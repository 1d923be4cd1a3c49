"""Make a first-person video without a model: ``run.py preview --take FOLDER --out FOLDER``.

Writes preview.mp4, film.mp4 (exo, prior and preview side by side), seen.mkv (which pixels exo
observed) and report.json, through the same functions as the nodes."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from egox_core.choices import FILL_CHOICES, SHADING_CHOICES, check_gain
from egox_core.errors import EgoXInputError
from egox_core.file_names import SEEN
from egox_core.progress import Progress
from egox_core.safe_files import require_there
from egox_core.sizes import PIXEL_STEP, REFERENCE_SIZE

from ..options import declared_of, parse_scale
from .prior import (
    Laps,
    add_rendering_arguments,
    read_take,
    render_prior,
    run_and_report,
    write_prior_report,
)

if TYPE_CHECKING:
    from egox_core.take import Take

FILES = ("video", "depth", "ego_path")
"""Arguments that replace a take's folder together."""


def main(arguments: list[str] | None = None) -> int:
    """Make the preview of one take from command line arguments, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="run.py preview",
        description="Make a first-person video from the exo video, its depth and the head's path, "
        "without a model.",
    )
    parser.add_argument("--take", type=Path, metavar="FOLDER", help="exo.mp4, depth.npz, meta.json")
    parser.add_argument("--video", type=Path, metavar="FILE", help="the exo video, without a take")
    parser.add_argument(
        "--depth", type=Path, metavar="FILE", help="its depth in metres, as in a take"
    )
    parser.add_argument(
        "--ego-path",
        type=Path,
        metavar="FILE",
        help="path of the head: keyframes of the pose editor, our JSON, or another program's file",
    )
    parser.add_argument(
        "--exo-fov",
        type=float,
        default=0.0,
        metavar="DEGREES",
        help="width of the exo camera's view, if neither video nor depth tells it",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where the results go"
    )
    parser.add_argument(
        "--fill",
        choices=FILL_CHOICES,
        default=FILL_CHOICES[0],
        help="room: wide holes show walls guessed from the scene; haze: what is around them "
        "(default: room)",
    )
    parser.add_argument(
        "--shading",
        choices=SHADING_CHOICES,
        default="auto",
        help="darken the rim as Aria glasses do (default: auto, for their lens by file or choice)",
    )
    parser.add_argument(
        "--gain", type=float, default=1.0, metavar="NUMBER", help="brightness (default: 1)"
    )
    add_rendering_arguments(parser, preset="exact")
    args = parser.parse_args(arguments)
    return run_and_report("preview", write_preview, args)


def write_preview(args: argparse.Namespace) -> dict:
    """Render the prior of a take or of single files, write its preview, and return the report."""
    laps = Laps()
    given_files = [name for name in FILES if getattr(args, name) is not None]
    if given_files != ([] if args.take else list(FILES)):
        raise EgoXInputError(
            "input of the preview",
            got=", ".join(f"--{name.replace('_', '-')}" for name in given_files) or "no file",
            expected="--take, or --video with --depth and --ego-path",
            fix="give one of the two",
        )
    check_gain(args.gain)
    for name in given_files:
        require_there(getattr(args, name), f"--{name.replace('_', '-')}")
    from egox_core.frame_store import store_frames
    from egox_core.prior import RoomGuess, iter_ego_preview, preview_note
    from egox_core.video import exo_label, iter_side_by_side

    from ..video_writer import write_levels, write_video

    take = read_take(args, laps.progress) if args.take else read_files(args, laps.progress)
    rendered = render_prior(args, take, laps)
    laps.end("prior")
    ego, fps = rendered.prior.trajectory.ego, take.frames.fps
    room = RoomGuess(rendered.scene, ego) if args.fill == "room" else None
    holes = ~rendered.prior.coverage
    frames = store_frames(
        iter_ego_preview(
            rendered.prior.rgb,
            holes,
            ego.camera,
            depth_m=rendered.prior.depth_m,
            room=room,
            shading=args.shading,
            lens_guessed=ego.lens_guessed,
            gain=args.gain,
            progress=laps.progress,
        ),
        len(holes),
    )
    laps.end("preview")
    args.out.mkdir(parents=True, exist_ok=True)
    labels = [exo_label(rendered.scene.exo.lens_guessed), "prior", "preview"]
    clips = [rendered.exo_frames, rendered.prior.rgb, frames]
    film = iter_side_by_side(clips, labels, progress=laps.progress)
    write_video(args.out / "preview.mp4", frames, fps)
    write_video(args.out / "film.mp4", film, fps)
    if rendered.prior.seen is not None:
        write_levels(args.out / SEEN, rendered.prior.seen, fps)
    laps.end("write")
    note = preview_note(
        holes, ego.camera, args.shading, args.gain, room=room, lens_guessed=ego.lens_guessed
    )
    notes = [note, *rendered.report["notes"]]
    report = {
        **rendered.report,
        "fill": args.fill,
        "shading": args.shading,
        "gain": args.gain,
        "notes": notes,
    }
    return write_prior_report(args.out, report, laps)


def frame_size(
    video: Path, height: int, progress: Progress, exo_part: str = "whole"
) -> tuple[int, int]:
    """Compute width and height of the frames in use, about as high as wanted, never enlarged."""
    from egox_core.video import probe_video

    info = probe_video(video, progress)
    own_width, own_height = (info.width, info.height) if info.part is None else info.part[2:]
    own_width //= 2 if exo_part in ("left", "right") else 1
    height = max(PIXEL_STEP, min(height, own_height) // PIXEL_STEP * PIXEL_STEP)
    steps = round(own_width * height / own_height / PIXEL_STEP)
    return max(1, steps) * PIXEL_STEP, height


def read_files(args: argparse.Namespace, progress: Progress) -> Take:
    """Load a video, its depth and the head's path from single files, as if they were a take."""
    from egox_core.facts import NOTHING_DECLARED
    from egox_core.stages import align, path
    from egox_core.take import DEFAULT_FRAMES, Take
    from egox_core.takes import read_meta
    from egox_core.video import exo_label, open_clip

    file_facts = NOTHING_DECLARED
    if args.ego_path.suffix.lower() == ".json":
        with suppress(EgoXInputError):  # of another form, which path reads or refuses
            file_facts = read_meta(args.ego_path, args.entry, args.video).declared
    declared = declared_of(args.declare)
    video_facts = declared.part("exo.part").over(file_facts.part("exo.part"))
    picture_height = args.size or REFERENCE_SIZE
    width, height = frame_size(args.video, picture_height, progress, video_facts.exo_part)
    frame_count = DEFAULT_FRAMES if args.frames is None else args.frames or None
    clip = open_clip(
        args.video,
        width=width,
        height=height,
        start_frame=args.start,
        frame_count=frame_count,
        one_shot=args.one_shot,
        exo_part=video_facts.exo_part,
        progress=progress,
    )
    clip = replace(clip, selection=replace(clip.selection, facts=video_facts.rows("exo.part")))
    trajectory, notes = path(
        args.ego_path,
        frames=clip.selection,
        camera=args.camera,
        ego_size=args.size,
        entry=args.entry,
        file_frames=args.file_frames,
        declared=declared.part(("ego.", "exo.")).without("exo.part").without("exo.fov_deg"),
    )
    path_exo, lens_and_maps = trajectory.exo, ("depth.", "exo.fov_deg")
    depth, report = align(
        args.depth,
        frames=clip.selection,
        camera=None if path_exo is None or path_exo.lens_guessed else path_exo.lens,
        fov_deg=args.exo_fov,
        scale=parse_scale(args.scale) if args.scale else "as is",
        file_frames=args.file_frames,
        declared=declared.part(lens_and_maps).over(file_facts.part(lens_and_maps)),
        progress=progress,
    )
    return Take(
        name=args.video.stem,
        folder=args.video.parent,
        clip=clip,
        depth=depth,
        trajectory=trajectory,
        notes=notes,
        lens_note=f"{exo_label(depth.exo.lens_guessed)}: {depth.exo.camera.words}",
        report=report,
    )


if __name__ == "__main__":
    raise SystemExit(main())
