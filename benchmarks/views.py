"""Do several exo cameras help without training? The prior fused from N of them.

    python3 run.py bench views [--count 64] [--sampled] [--save]

For whoever changes *Fuse Scenes* or the prior. The rooms are the small model's test rooms, each
drawn with four exo cameras. The prior is rendered from the exact depth of the first 1, 2 and 4 of
them, fused into one scene; its holes are filled by Telea's inpainting. With ``--sampled`` the small
model that ships, trained on the prior of one camera, samples from each prior too (the demo's steps,
no CFG; its attention is guided by the first camera's depth). Every N is compared with one camera on
the same rooms, with a bootstrap interval over rooms (95 %). The record is ``results/views.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.support.record import bench_parser, figure_text, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.bootstrap import paired_difference
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.progress import Progress, no_progress
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.small_model.held_out import PRESET, HeldOutClip, clip_of_take, held_out_rooms
from lab.small_model.scores import TELEA, Scores, baseline_videos, mean_of, score_method

COUNTS = (1, 2, 4)
COLUMNS = (
    ("psnr", "PSNR", 2),
    ("ssim", "SSIM", 3),
    ("psnr_inside", "inside", 2),
    ("psnr_outside", "outside", 2),
    ("coverage", "coverage", 3),
)
"""The last is the share of the ego picture that the prior covers."""
SAMPLED = "EgoX, the small model"


def fused_clips(take: SyntheticTake, counts: Sequence[int]) -> dict[int, HeldOutClip]:
    """The take's clip with the prior of its first N cameras, for each N."""
    scenes = [build_scene(view.exo_frames(), view.depth_video()) for view in take.views]
    clip, clips = clip_of_take(take), {}
    for count in counts:
        prior = render_ego_prior(fuse_scenes(scenes[:count]), clip.trajectory, prior_preset(PRESET))
        clips[count] = replace(
            clip,
            prior=(prior.rgb * 255).round().clamp(0, 255).to(torch.uint8),
            coverage=prior.coverage,
        )
    return clips


def measure(
    specs: Sequence[SyntheticSpec],
    methods: Mapping[str, Callable[[Sequence[HeldOutClip]], list]],
    counts: Sequence[int] = COUNTS,
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """One row per method and N: means, and differences to the first N, with intervals."""
    clips: dict[int, list[HeldOutClip]] = {count: [] for count in counts}
    for done, spec in enumerate(specs, start=1):
        for count, clip in fused_clips(make_take(spec), counts).items():
            clips[count].append(clip)
        progress(done, len(specs), "rooms")
    rows = []
    for name, make in methods.items():
        scores = {
            count: {
                **score_method(make(of_count), of_count),
                "coverage": {clip.name: float(clip.coverage.float().mean()) for clip in of_count},
            }
            for count, of_count in clips.items()
        }
        rows += [
            {"method": name, "views": count, **row(scores[count], scores[counts[0]])}
            for count in counts
        ]
    return rows


def row(scores: Scores, against: Scores) -> dict[str, Any]:
    """Means and paired differences of one row, for every column that has values."""
    means = {
        key: estimate.as_dict()
        for key, _, _ in COLUMNS
        if (estimate := mean_of(scores, key)) is not None
    }
    takes = {name: name for name in scores["psnr"]}
    differences = {
        key: paired_difference(scores[key], against[key], takes).as_dict() for key in means
    }
    return {"means": means, "differences": differences}


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, for a person."""
    lines = [
        f"| | views | {' | '.join(label for _, label, _ in COLUMNS)} | Δ PSNR | Δ coverage |",
        "| --- " * (len(COLUMNS) + 4) + "|",
    ]
    for values in rows:
        cells = [figure_text(values["means"].get(key), digits) for key, _, digits in COLUMNS]
        cells += [
            figure_text(values["differences"][key], digits)
            for key, digits in (("psnr", 2), ("coverage", 3))
        ]
        lines.append(f"| {values['method']} | {values['views']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--count", type=int, default=64, help="of rooms")
    parser.add_argument("--sampled", action="store_true", help="the small model's videos, too")
    args = parser.parse_args(arguments)
    methods, progress = {TELEA: lambda clips: baseline_videos(clips)[TELEA]}, ProgressLine()
    if args.sampled:  # needs the train extra; the rest doesn't
        from lab.small_model.sampler import SampleSettings
        from lab.small_model.videos import VideoStore

        store = VideoStore()
        methods[SAMPLED] = lambda clips: store.generated(clips, SampleSettings(), SAMPLED, progress)
    rows = measure(held_out_rooms(args.count, max(COUNTS)), methods, progress=progress)
    return finish(
        "views", {"rooms": args.count, "preset": PRESET, "rows": rows}, args, markdown(rows)
    )


if __name__ == "__main__":
    raise SystemExit(main())
