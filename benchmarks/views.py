"""An ego view predicted from exo views without depth, beside all that needs depth: 64 drawn rooms.

    python3 run.py bench views [--weights FILE] [--count 64] [--frames 9] [--sampled] [--save]

For whoever changes the predictor, *Fuse Scenes* or the prior. The rooms are the small model's test
rooms, drawn with four exo cameras; PSNR at 128 px, means over rooms with 95 % intervals, the
differences of the bars paired by room. Without weights only the reference rows are measured: exo's
mean colour, the prior of 1, 2 and 4 cameras with Telea's inpainting in its holes (exact depth, and
depth that is off by 6 % with soft outlines), and the true picture from another take's path. With
``--sampled`` the small model that ships samples from the exact prior and from none, in its steps
(two noises) and in one; sampled rows stand only beside sampled ones. ``--frames 1`` judges the first
frame of each room alone. The record is ``results/views.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, figure_text, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.bootstrap import paired_difference
from egox_core.metrics.image import psnr
from egox_core.predict.files import load_predictor
from egox_core.predict.network import ViewPredictor
from egox_core.predict.rays import batch_views
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.progress import Progress, no_progress
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from lab.drawn import DepthErrors, SyntheticSpec, SyntheticTake, make_take, with_errors
from lab.drawn.gazes import draw_gazes, ego_pictures
from lab.small_model.held_out import PRESET, HeldOutClip, clip_of_take, held_out_rooms
from lab.small_model.moments import moment_of
from lab.small_model.scores import MEAN, TELEA, as_float, baseline_videos, flicker, mean_of

COUNTS = (1, 2, 4)
BAD = "prior + Telea, depth 6 % off"
PREDICTED = "predicted view"
OTHER_PATH, OTHER_EXO = "another take's path", "another take's exo"
NEW_GAZE, OLD_TRUTH, COPIES, TURNED = "new gaze", "new gaze, old truth", "view 1 four times", "views in other order"
GAZE_YAW_DEG, GAZE_PITCH_DEG = (20.0, 45.0), 15.0
NOISES = (1234, 1235)
Rows = dict[str, dict[str, dict[str, float | None]]]
"""Row -> psnr | flicker -> room -> value."""
BARS: tuple[tuple[str, str, str, float], ...] = (
    ("one view over the mean colour", f"{PREDICTED}, 1", f"{MEAN}, 1", 1.5),
    ("a wrong path costs, one view", f"{PREDICTED}, 1", f"{PREDICTED}, 1, {OTHER_PATH}", 1.0),
    ("a wrong path costs, four views", f"{PREDICTED}, 4", f"{PREDICTED}, 4, {OTHER_PATH}", 1.5),
    ("four views over one", f"{PREDICTED}, 4", f"{PREDICTED}, 1", 0.8),
    ("new gaze, less the own", f"{PREDICTED}, 1, {NEW_GAZE}", f"{PREDICTED}, 1", -0.4),
    ("new gaze over its old truth", f"{PREDICTED}, 1, {NEW_GAZE}", f"{PREDICTED}, 1, {OLD_TRUTH}", 0.8),
    ("another take's exo costs", f"{PREDICTED}, 1", f"{PREDICTED}, 1, {OTHER_EXO}", 2.0),
    ("view 1 four times, less one view", f"{PREDICTED}, 1, {COPIES}", f"{PREDICTED}, 1", -0.05),
)
"""Gate F0: name, row, the row it is compared with, least difference in dB."""


def fused_clips(take: SyntheticTake, counts: Sequence[int] = COUNTS, error: float = 0.0) -> dict[int, HeldOutClip]:
    """The take's clip with the prior of its first N cameras, for each N."""
    depths = [view.depth_video() for view in take.views]
    if error:
        errors = DepthErrors(low_frequency=error)
        depths = [with_errors(depth, errors, take.spec.seed + 7 * n) for n, depth in enumerate(depths)]
    scenes = [build_scene(view.exo_frames(), depth) for view, depth in zip(take.views, depths, strict=True)]
    clip, clips = clip_of_take(take), {}
    for count in counts:
        prior = render_ego_prior(fuse_scenes(scenes[:count]), clip.trajectory, prior_preset(PRESET))
        rgb = (prior.rgb * 255).round().clamp(0, 255).to(torch.uint8)
        clips[count] = replace(clip, prior=rgb, coverage=prior.coverage, depth=depths[0])
    return clips


@torch.no_grad()
def predicted(model: ViewPredictor, take: SyntheticTake, views: Sequence[int], w2c: Tensor | None = None,
              exo_of: SyntheticTake | None = None) -> Tensor:  # [T, S, S, 3]
    """Each frame by itself; ``w2c`` [T, 3, 4] of another path, ``exo_of`` a take whose exo pictures it is given."""
    frames = []
    for frame in range(len(take.ego_w2c)):
        moment = moment_of(take, frame)
        if exo_of is not None:
            moment = replace(moment, exo=moment_of(exo_of, frame).exo)
        pose = take.ego_w2c if w2c is None else w2c
        batch = batch_views([moment], [views], [pose[frame : frame + 1]])
        size = take.ego_rgb.shape[1]
        frames.append(model(batch, size, size).rgb[0, 0].clamp(0, 1).movedim(0, -1))
    return torch.stack(frames)


def predictor_videos(
    model: ViewPredictor, take: SyntheticTake, other: SyntheticTake
) -> dict[str, tuple[Tensor, Tensor]]:
    """Row -> (video, truth) of all that is asked of a predictor."""
    truth, pose = take.ego_frames(), take.ego_w2c
    rng = np.random.default_rng(take.spec.seed)
    turn = draw_gazes(rng, pose[0], 1, yaw_deg=GAZE_YAW_DEG, pitch_deg=GAZE_PITCH_DEG)[0]
    gaze = turn.expand(len(pose), 3, 4)
    there = as_float(ego_pictures(take, range(len(pose)), gaze))
    videos = {f"{PREDICTED}, {n}": (predicted(model, take, range(n)), truth) for n in COUNTS}
    for n in (1, 4):
        videos[f"{PREDICTED}, {n}, {OTHER_PATH}"] = predicted(model, take, range(n), other.ego_w2c), truth
    new, name = predicted(model, take, (0,), gaze), f"{PREDICTED}, 1, "
    return {
        **videos,
        name + NEW_GAZE: (new, there),
        name + OLD_TRUTH: (new, truth),
        name + OTHER_EXO: (predicted(model, take, (0,), exo_of=other), truth),
        name + COPIES: (predicted(model, take, (0, 0, 0, 0)), truth),
        f"{PREDICTED}, 4, {TURNED}": (predicted(model, take, (2, 0, 3, 1)), truth),
    }


def measure(specs: Sequence[SyntheticSpec], model: ViewPredictor | None, clips: list[HeldOutClip] | None = None,
            progress: Progress = no_progress) -> tuple[Rows, float]:
    """All rows without sampling, and how far another order of views moved a colour; ``clips`` collects exact ones."""
    rows: Rows = {}
    takes, moved = [make_take(spec) for spec in specs], 0.0
    for done, take in enumerate(takes):
        other, truth = takes[(done + 1) % len(takes)], take.ego_frames()
        videos: dict[str, tuple[Tensor, Tensor]] = {}
        for name, error in ((TELEA, 0.0), (BAD, 0.06)):
            fused = fused_clips(take, error=error)
            for n, clip in fused.items():
                videos[f"{name}, {n}"] = as_float(baseline_videos([clip])[TELEA][0]), truth
            if not error:
                videos[f"{MEAN}, 1"] = as_float(baseline_videos([fused[1]])[MEAN][0]), truth
                if clips is not None:
                    clips.append(fused[1])
        path = as_float(ego_pictures(take, range(len(truth)), other.ego_w2c))
        videos[f"truth from {OTHER_PATH}"] = path, truth
        if model is not None:
            videos |= predictor_videos(model, take, other)
            pair = [videos[f"{PREDICTED}, 4{more}"][0] for more in ("", f", {TURNED}")]
            moved = max(moved, float((pair[0] - pair[1]).abs().max()))
        add(rows, clip_name(take), videos)
        progress(done + 1, len(takes), "rooms")
    return rows, moved


def clip_name(take: SyntheticTake) -> str:
    return f"seed {take.spec.seed}"


def add(rows: Rows, room: str, videos: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """The room's scores in each row."""
    for name, (video, truth) in videos.items():
        row = rows.setdefault(name, {"psnr": {}, "flicker": {}})
        row["psnr"][room] = float(psnr(video, truth).mean())
        row["flicker"][room] = flicker(video, truth)


def add_sampled(rows: Rows, clips: Sequence[HeldOutClip], progress: Progress) -> None:
    """Rows of the small model: from the exact prior and from a grey one without attention's guidance."""
    from lab.small_model.sampler import GREY, SampleSettings
    from lab.small_model.videos import VideoStore

    store, shipped = VideoStore(), SampleSettings()
    grey = [replace(clip, prior=torch.full_like(clip.prior, GREY)) for clip in clips]
    for given, some, own in (("", clips, {}), (", no prior", grey, {"lambda_g": 0.0})):
        for steps, seeds in ((shipped.steps, NOISES), (1, NOISES[:1])):
            made = [store.generated(some, replace(shipped, steps=steps, seed=seed, **own), given, progress)
                    for seed in seeds]
            for number, clip in enumerate(clips):
                several = torch.cat([as_float(videos[number]) for videos in made])
                add(rows, clip.name, {f"EgoX{given}, steps {steps}": (several, as_float(clip.truth).repeat(
                    len(seeds), 1, 1, 1))})


def judged(rows: Rows) -> list[dict[str, Any]]:
    """The bars of gate F0, as far as their rows are there."""
    bars = []
    for name, row, against, least in BARS:
        if row in rows and against in rows:
            pair = [rows[key]["psnr"] for key in (row, against)]
            difference = paired_difference(*pair, {room: room for room in pair[0]}).as_dict()
            bars.append({"bar": name, "least": least, "difference": difference,
                         "verdict": "holds" if difference["mean"] >= least else "fails"})
    return bars


def markdown(rows: Rows, bars: Sequence[Mapping[str, Any]]) -> str:
    """Both tables, for a person."""
    lines = ["| | PSNR | flicker |", "| --- | --- | --- |"]
    for name, row in rows.items():
        cells = [None if (e := mean_of(row, key)) is None else e.as_dict() for key in ("psnr", "flicker")]
        lines.append(f"| {name} | {figure_text(cells[0], 2)} | {figure_text(cells[1], 2)} |")
    lines += ["", "| bar | dB | at least | |", "| --- | --- | --- | --- |"] if bars else []
    for bar in bars:
        lines.append(f"| {bar['bar']} | {figure_text(bar['difference'], 2)} | {bar['least']} | {bar['verdict']} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--weights", type=Path, help="of a predictor, as task predict leaves them")
    parser.add_argument("--count", type=int, default=64, help="of rooms")
    parser.add_argument("--frames", type=int, default=9, help="of each room, from its first on")
    parser.add_argument("--sampled", action="store_true", help="the small model's videos, too")
    args = parser.parse_args(arguments)
    progress, clips = ProgressLine(), [] if args.sampled else None
    specs = [first_frames(spec, args.frames) for spec in held_out_rooms(args.count, max(COUNTS))]
    model = None if args.weights is None else load_predictor(args.weights)
    rows, moved = measure(specs, model, clips, progress)
    if clips is not None:
        add_sampled(rows, clips, progress)
    bars = judged(rows)
    result = {"rooms": args.count, "frames": args.frames, "order_moves": moved, "bars": bars, "rows": {
        name: mean_of(row, "psnr").as_dict() for name, row in rows.items()}}
    return finish("views", result, args, markdown(rows, bars) + f"\n\nanother order of views moves {moved:.1e}")


def first_frames(spec: SyntheticSpec, frames: int) -> SyntheticSpec:
    """The same room and motion drawn with fewer frames: the clip's length in seconds stays."""
    return replace(spec, frames=frames, fps=spec.fps * frames / spec.frames)


if __name__ == "__main__":
    raise SystemExit(main())
