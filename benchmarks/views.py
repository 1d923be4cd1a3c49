"""An ego view predicted from exo views without depth, beside what needs depth: 64 drawn rooms.

    python3 run.py bench views [--weights FILE] [--count 64] [--frames 9] [--sampled] [--save]

For whoever changes the predictor, *Fuse Scenes* or the prior. The rooms are the small model's test
rooms, drawn with four exo cameras; PSNR at 128 px, means over rooms with 95 % intervals, the
differences of the bars paired by room. Without weights the reference rows are measured: exo's mean
colour, the prior of 1, 2 and 4 cameras with Telea's inpainting in its holes (exact depth, and depth
that is off by 6 % with soft outlines), the true picture from another take's path; with
``--sampled`` the small model that ships from the exact prior and from none, in its steps (two
noises) and in one, which stand only beside sampled rows. With the weights of a predictor its rows
and bars are measured. ``--frames 1`` judges the first frame of each room alone. The record is
``results/views.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, figure_text, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.baselines import exo_mean_colour
from egox_core.metrics.bootstrap import paired_difference
from egox_core.metrics.image import psnr
from egox_core.predict.files import load_predictor
from egox_core.predict.network import ViewPredictor
from egox_core.predict.rays import batch_views
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.progress import Progress
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from lab.drawn import DepthErrors, SyntheticSpec, SyntheticTake, make_take, with_errors
from lab.drawn.gazes import draw_gazes, ego_pictures
from lab.small_model.held_out import PRESET, clip_of_take, held_out_rooms
from lab.small_model.moments import moment_of
from lab.small_model.scores import TELEA, as_float, baseline_videos, flicker, mean_of

COUNTS = (1, 2, 4)
MEAN, BAD = "exo mean colour", "prior + Telea, depth 6 % off"
BARS = (
    ("one view over the mean colour", "predicted, 1", MEAN, 1.5),
    ("a wrong path costs, one view", "predicted, 1", "predicted, 1, another path", 1.0),
    ("a wrong path costs, four views", "predicted, 4", "predicted, 4, another path", 1.5),
    ("four views over one", "predicted, 4", "predicted, 1", 0.8),
    ("new gaze, less the own", "predicted, 1, new gaze", "predicted, 1", -0.4),
    ("new gaze over its old truth", "predicted, 1, new gaze", "predicted, 1, old truth", 0.8),
    ("another take's exo costs", "predicted, 1", "predicted, 1, another exo", 2.0),
    ("view 1 four times, less one view", "predicted, 1, four times", "predicted, 1", -0.05),
    ("another order, less this one", "predicted, 4, other order", "predicted, 4", -1e-4),
)
"""Gate F0: name, row, the row it is compared with, least difference in dB."""
Videos = dict[str, object]
Rows = dict[str, dict[str, dict[str, float | None]]]
"""Row -> psnr | flicker -> room -> value."""


def fused_clips(take: SyntheticTake, counts: Sequence[int] = COUNTS, error: float = 0.0) -> dict:
    """Number -> the take's clip with the prior of its first N cameras, for each N."""
    errors, seed, depths = DepthErrors(low_frequency=error), take.spec.seed, []
    for number, depth in enumerate(view.depth_video() for view in take.views):
        depths.append(with_errors(depth, errors, seed + 7 * number) if error else depth)
    scenes = [build_scene(v.exo_frames(), d) for v, d in zip(take.views, depths, strict=True)]
    clip, clips = clip_of_take(take), {}
    for count in counts:
        prior = render_ego_prior(fuse_scenes(scenes[:count]), clip.trajectory, prior_preset(PRESET))
        rgb = (prior.rgb * 255).round().clamp(0, 255).to(torch.uint8)
        clips[count] = replace(clip, prior=rgb, coverage=prior.coverage)
    return clips


def reference_videos(take: SyntheticTake, other: SyntheticTake) -> Videos:
    """What needs no predictor."""
    made = {"truth from another path": ego_pictures(take, range(len(other.ego_w2c)), other.ego_w2c)}
    for name, error in ((TELEA, 0.0), (BAD, 0.06)):
        fused = fused_clips(take, error=error)
        made |= {f"{name}, {n}": baseline_videos([c])[TELEA][0] for n, c in fused.items()}
    return made


@torch.no_grad()
def predicted(
    model: ViewPredictor, take: SyntheticTake, views: Sequence[int],
    w2c: Tensor | None = None, exo_of: SyntheticTake | None = None,
) -> Tensor:  # [T, S, S, 3]
    """Each frame by itself; ``w2c`` [T, 3, 4] of another path, ``exo_of`` whose exo it is given."""
    frames, pose, size = [], take.ego_w2c if w2c is None else w2c, take.ego_rgb.shape[1]
    for frame in range(len(pose)):
        moment = replace(moment_of(take, frame), exo=moment_of(exo_of or take, frame).exo)
        rgb = model(batch_views([moment], [views], [pose[frame : frame + 1]]), size, size).rgb
        frames.append(rgb[0, 0].clamp(0, 1).movedim(0, -1))
    return torch.stack(frames)


def predictor_videos(model: ViewPredictor, take: SyntheticTake, other: SyntheticTake) -> Videos:
    """All that is asked of a predictor; beside a video its truth where that isn't the take's."""
    turned = np.random.default_rng(take.spec.seed), take.ego_w2c[0], 1
    gaze = draw_gazes(*turned, yaw_deg=(20, 45), pitch_deg=15)[0].expand(take.ego_w2c.shape)
    new = predicted(model, take, (0,), gaze)
    made = {f"predicted, {n}": predicted(model, take, range(n)) for n in COUNTS}
    for n in (1, 4):
        made[f"predicted, {n}, another path"] = predicted(model, take, range(n), other.ego_w2c)
    return {
        **made,
        "predicted, 1, new gaze": (new, ego_pictures(take, range(len(gaze)), gaze)),
        "predicted, 1, old truth": new,
        "predicted, 1, another exo": predicted(model, take, (0,), exo_of=other),
        "predicted, 1, four times": predicted(model, take, (0, 0, 0, 0)),
        "predicted, 4, other order": predicted(model, take, (2, 0, 3, 1)),
    }


def measure(specs: Sequence[SyntheticSpec], model: ViewPredictor | None, tell: Progress) -> Rows:
    """All rows without sampling."""
    rows, takes = {}, [make_take(spec) for spec in specs]
    for done, take in enumerate(takes):
        other, truth = takes[(done + 1) % len(takes)], take.ego_frames()
        videos = {MEAN: exo_mean_colour(take.exo_frames(), truth, truth)}
        more = (take, other) if model is None else (model, take, other)
        videos |= (reference_videos if model is None else predictor_videos)(*more)
        for name, made in videos.items():
            video, own = made if isinstance(made, tuple) else (made, truth)
            add(rows, name, f"seed {take.spec.seed}", as_float(video), as_float(own))
        tell(done + 1, len(takes), "rooms")
    return rows


def add(rows: Rows, name: str, room: str, video: Tensor, truth: Tensor) -> None:
    """A room's scores in a row."""
    row = rows.setdefault(name, {"psnr": {}, "flicker": {}})
    row["psnr"][room] = float(psnr(video, truth).mean())
    row["flicker"][room] = flicker(video, truth)


def add_sampled(rows: Rows, specs: Sequence[SyntheticSpec], progress: Progress) -> None:
    """The small model from the exact prior, and from a grey one without guided attention."""
    from lab.small_model.sampler import GREY, SampleSettings
    from lab.small_model.videos import VideoStore

    store, own = VideoStore(), SampleSettings()
    clips = [clip_of_take(make_take(spec)) for spec in specs]
    grey = [replace(clip, prior=torch.full_like(clip.prior, GREY)) for clip in clips]
    for given, some, lambda_g in (("", clips, None), (", no prior", grey, 0.0)):
        for steps, seeds in ((own.steps, (1234, 1235)), (1, (1234,))):
            settings = [replace(own, steps=steps, seed=n, lambda_g=lambda_g) for n in seeds]
            made = [store.generated(some, asked, given, progress) for asked in settings]
            for clip, *videos in zip(clips, *made, strict=True):
                pair = (as_float(np.concatenate(v)) for v in (videos, [clip.truth] * len(videos)))
                add(rows, f"EgoX{given}, steps {steps}", clip.name, *pair)


def judged(rows: Rows) -> list[dict[str, object]]:
    """The bars of gate F0, where a predictor was measured."""
    bars = []
    for name, row, against, least in BARS if "predicted, 1" in rows else ():
        pair = [rows[key]["psnr"] for key in (row, against)]
        found = paired_difference(*pair, {room: room for room in pair[0]}).as_dict()
        bar = {"bar": name, "least": least, "difference": found}
        bars.append({**bar, "verdict": "holds" if found["mean"] >= least else "fails"})
    return bars


def markdown(rows: Rows, bars: Sequence[Mapping]) -> str:
    """Both tables, for a person."""
    lines = ["| | PSNR | flicker |", "| --- | --- | --- |"]
    for name, row in rows.items():
        found = (mean_of(row, key) for key in ("psnr", "flicker"))
        cells = [figure_text(e and e.as_dict(), 2) for e in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for bar in bars:
        cells = bar["bar"], figure_text(bar["difference"], 2), str(bar["least"])
        lines.append(f"| {' | '.join(cells)}: {bar['verdict']} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--weights", type=Path, help="of a predictor, as task predict leaves them")
    parser.add_argument("--count", type=int, default=64, help="of rooms")
    parser.add_argument("--frames", type=int, default=9, help="of each room")
    parser.add_argument("--sampled", action="store_true", help="the small model's videos, too")
    args = parser.parse_args(arguments)
    specs = held_out_rooms(args.count, max(COUNTS))
    rate = specs[0].fps / specs[0].frames * args.frames  # the clip's length in seconds stays
    specs = [replace(spec, frames=args.frames, fps=rate) for spec in specs]
    model = load_predictor(args.weights) if args.weights else None
    rows = measure(specs, model, ProgressLine())
    if args.sampled and model is None:
        add_sampled(rows, specs, ProgressLine())
    result = {"rooms": args.count, "frames": args.frames, "bars": judged(rows)}
    result["psnr"] = {name: mean_of(row, "psnr").as_dict() for name, row in rows.items()}
    name = "views_predicted" if args.weights else "views"
    return finish(name, result, args, markdown(rows, result["bars"]))


if __name__ == "__main__":
    raise SystemExit(main())
