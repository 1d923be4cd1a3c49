"""Does the small model work? Every figure that it must reach, on held-out synthetic takes, paired, with intervals.

    python3 run.py bench small_model [--takes FOLDER | --seeds FIRST COUNT --spec FILE] [--sampler MODULE] [--save]

The model's videos (the demo's steps, no CFG) stand beside the prior with Telea's inpainting, exo resized, exo's mean
colour, "shrink" (0.6 prior + 0.4 exo mean), the same model at LoRA strength 0, what the model's own VAE leaves of the
prior and of the truth, and, on the takes that it was measured on, the model that shipped before. It is judged by what
neither blur nor noise nor sharpening can win (outlines, quiet places, objects' outlines, kernel distance; see ``bench
meter``), flicker, leads in PSNR, retrieval of its own truth, objects in their own colour, and what another take's exo
or prior costs. Each difference is that of the same clips, with a bootstrap interval over takes (95 %). Videos are kept
in ``--work``, so a bench that was stopped goes on.

Takes come from a folder of take folders (``--takes``), from seeds (``--seeds 900000 64``, with ``--spec``, a JSON file
of SyntheticSpec fields), or from the sampler itself. ``--without NAME`` leaves a method out; its bars are then "not
measured". The exit code is 0 only where every bar holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.drawn_features import BEFORE_FILE, FIGURES, KernelDistance, features_of, load_net
from benchmarks.support.record import RESULTS, bench_parser, figure_text, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.bootstrap import Estimate
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import write_whole
from lab.small_model.arguments import LEAST_TAKES, add_take_arguments, held_out_clips, sampler_of
from lab.small_model.contract import Sampler, SampleSettings, VideoStore, facts_of
from lab.small_model.held_out import HeldOutClip, with_exo_of, with_prior_of
from lab.small_model.scores import (
    BARS,
    BASE,
    BEFORE,
    KERNEL,
    MODEL,
    PRIOR_VAE,
    TELEA,
    TRUTH_VAE,
    WRONG_EXO,
    WRONG_PRIOR,
    Bar,
    baseline_videos,
    judge,
    judged,
    mean_of,
    score_method,
)
from lab.small_model.sheet import write_sheet

COLUMNS = (("psnr", "PSNR", 2), ("ssim", "SSIM", 3), ("psnr_inside", "inside", 2), ("psnr_outside", "outside", 2),
           ("retrieval_hit", "retrieval", 2), ("colours_right", "object frames", 2), ("objects_right", "objects", 2),
           ("outlines", "outlines", 2), ("quiet", "quiet places", 1), ("object_outlines", "objects' outlines", 2),
           ("flicker", "flicker", 2))


def main() -> int:
    parser = bench_parser(__doc__)
    add_take_arguments(parser, "small_model")
    parser.add_argument("--steps", type=int, default=SampleSettings().steps)
    parser.add_argument("--seed", type=int, default=1234, help="of the sampling noise")
    parser.add_argument("--without", action="append", default=[], choices=(BASE, PRIOR_VAE, TRUTH_VAE, WRONG_EXO,
                                                                           WRONG_PRIOR), help="a method to leave out")
    parser.add_argument("--zoom", type=int, default=1, help="of the contact sheet")
    args = parser.parse_args()
    sampler = sampler_of(args)
    clips = held_out_clips(args, sampler)
    settings = SampleSettings(steps=args.steps, seed=args.seed)
    store = VideoStore(folder=args.work / "videos", model=sampler.fingerprint())
    result, videos = prove(clips, sampler, settings, store, before=read_before(clips), without=args.without,
                           progress=ProgressLine())
    shown = {name: videos[name] for name in (BASE, MODEL) if name in videos}
    write_sheet(args.work / "contact_sheet.png", clips, shown, zoom=args.zoom, judged=MODEL)
    asked = [bar for bar in result["bars"] if bar["least"] is not None or bar["most"] is not None]
    result = {**result, "steps": args.steps, "cfg": 1.0, "model": facts_of(sampler),
              "passed": len(clips) >= LEAST_TAKES and all(bar["verdict"] == "holds" for bar in asked)}
    table = markdown(result)
    if args.save:
        with write_whole(RESULTS / "small_model.md") as temporary:
            temporary.write_text(table, encoding="utf-8")
    return finish("small_model", result, args, table, result["passed"])


def prove(clips: Sequence[HeldOutClip], sampler: Sampler, settings: SampleSettings, store: VideoStore, *,
          bars: Sequence[Bar] = BARS, before: Before | None = None, without: Sequence[str] = (),
          progress: Progress = no_progress) -> tuple[dict[str, Any], dict[str, list]]:
    """(means and bars, the videos by method)."""
    videos: dict[str, list[np.ndarray]] = {MODEL: store.generated(sampler, clips, settings, MODEL, progress)}
    base = SampleSettings(strength=0.0, steps=settings.steps, seed=settings.seed)
    plain = baseline_videos(clips)
    jobs = {
        BASE: lambda: store.generated(sampler, clips, base, BASE, progress),
        PRIOR_VAE: lambda: store.through_vae(sampler, plain[TELEA], PRIOR_VAE, progress),
        TRUTH_VAE: lambda: store.through_vae(sampler, [c.truth.numpy() for c in clips], TRUTH_VAE, progress),
        WRONG_EXO: lambda: store.generated(sampler, with_exo_of(clips), settings, WRONG_EXO, progress),
        WRONG_PRIOR: lambda: store.generated(sampler, with_prior_of(clips), settings, WRONG_PRIOR, progress),
    }
    videos |= {name: make() for name, make in jobs.items() if name not in without} | plain
    scores = {}
    for count, (name, of_clips) in enumerate(videos.items(), start=1):
        scores[name] = score_method(of_clips, clips)
        progress(count, len(videos), "methods scored")
    distances = kernel_distances(videos, clips, before)
    scores |= {BEFORE: before.scores} if before is not None else {}
    means = {name: {key: estimate.as_dict() for key, _, _ in COLUMNS if (estimate := mean_of(of, key)) is not None}
             for name, of in scores.items()}
    for name, distance in distances.items():
        means[name][KERNEL] = distance.estimate().as_dict()
    return {
        "takes": len(clips), "frames": len(clips[0].truth), "ego_px": clips[0].truth.shape[1],
        "exo_px": list(clips[0].exo.shape[2:0:-1]), "coverage": float(np.mean([c.coverage.numpy().mean()
                                                                               for c in clips])),
        "object_frames": sum(scores[MODEL]["object_frames"].values()),
        "objects": sum(scores[MODEL]["objects"].values()),
        "means": means,
        "bars": [judged(bar, kernel_lead(bar, distances)) if bar.metric == KERNEL else judge(bar, scores)
                 for bar in bars],
        "psnr_of_clips": {clip: round(value, 4) for clip, value in scores[MODEL]["psnr"].items()},
    }, videos


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What ``bench meter --keep`` kept of the model before, for the takes at hand."""

    features: np.ndarray  # [N, T, 32]
    scores: Mapping[str, Mapping[str, float | None]]


def read_before(clips: Sequence[HeldOutClip], file: Path = BEFORE_FILE) -> Before | None:
    """Of these clips; None where any is another than those that it was kept for."""
    with np.load(file) as archive:
        kept = {name: archive[name] for name in archive.files}
    row_of = {name: row for row, name in enumerate(kept["clips"].tolist())}
    if any(clip.name not in row_of for clip in clips):
        return None
    rows = [row_of[clip.name] for clip in clips]
    return Before(features=kept["features"][rows].astype(np.float64), scores={
        name: {clip.name: None if np.isnan(kept[name][row]) else float(kept[name][row])
               for clip, row in zip(clips, rows, strict=True)} for name in FIGURES})


def kernel_distances(videos: Mapping[str, Sequence[np.ndarray]], clips: Sequence[HeldOutClip],
                     before: Before | None) -> dict[str, KernelDistance]:
    """Of each method's videos to the truths; none of a single take."""
    if len(clips) < 2:
        return {}
    net = load_net()
    true = features_of(net, [clip.truth.numpy() for clip in clips])
    features = {name: features_of(net, of) for name, of in videos.items()}
    features |= {BEFORE: before.features} if before is not None else {}
    return {name: KernelDistance.between(of, true) for name, of in features.items()}


def kernel_lead(bar: Bar, distances: Mapping[str, KernelDistance]) -> Estimate | None:
    """The model's distance less the bar's multiple of another's."""
    if MODEL not in distances or bar.against not in distances:
        return None
    return distances[MODEL].estimate(distances[bar.against], bar.times)


def markdown(result: Mapping[str, Any]) -> str:
    """Bars and means, for a person."""
    lines = ["# The small model on held-out takes", "",
             f"{result['takes']} takes, {result['frames']} frames, ego {result['ego_px']} px, exo "
             f"{result['exo_px'][0]}x{result['exo_px'][1]} px; {result['steps']} steps, no CFG. The prior covers "
             f"{100 * result['coverage']:.0f} % of the ego picture. {result['objects']:.0f} objects cover 2 % of a "
             f"true frame while exo sees them, in {result['object_frames']:.0f} object frames. Means with 95 % "
             "intervals over takes.", "",
             "| bar | asked | measured | |", "| --- | --- | --- | --- |"]
    for bar in result["bars"]:
        figure = "–" if bar["verdict"] == "not measured" else figure_text(bar, 2)
        limit = next((f"{sign} {bar[key]:g}" for sign, key in (("≥", "least"), ("≤", "most"))
                      if bar[key] is not None), "–")
        lines.append(f"| {bar['bar']} | {limit} | {figure} | {bar['verdict']} |")
    columns = (*COLUMNS, (KERNEL, KERNEL, 3))
    lines += ["", f"| | {' | '.join(label for _, label, _ in columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for name, means in result["means"].items():
        cells = [figure_text(means.get(key), digits) for key, _, digits in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "PSNR and SSIM: means over frames and takes; inside, outside: of the prior's coverage, pooled a "
              "take. Retrieval: share of takes whose own truth is the nearest of all. Object frames: share whose mean "
              "colour, inside the true mask, is nearer to the object's own than to its surroundings'; objects: share "
              "with at least half of their frames right. Outlines: the grey picture's gradient projected on the "
              "truth's; quiet places: mean gradient, of 255 a pixel, where the truth's is under 1.5; objects' "
              "outlines: F-score of where colours change, divided by the truth's; flicker: difference of following "
              "frames, times the truth's. Kernel distance: to the truths of other takes, by a classifier of drawn "
              "rooms (`run.py bench meter`).", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
