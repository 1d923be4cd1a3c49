"""What several exo cameras are worth without any training: the ego prior fused from N of them, on held-out rooms.

    python3 run.py bench views [--count 64] [--views 1 2 4] [--preset clean] [--sampled] [--save]
    python3 run.py bench views --gate [views_gate_long] [--count 64] [--save]

The rooms are the small model's test rooms, each drawn with as many exo cameras as are asked for. The prior is rendered
from the exact depth of the first N of them, fused into one scene; its holes are filled by Telea's inpainting, as in the
small model's bench. Every N stands beside one camera on the same rooms, with a bootstrap interval over rooms (95 %).
With ``--sampled`` the small model that ships, trained on the prior of one camera, samples from each prior too (the
demo's steps, no CFG; its attention is guided by the first camera's depth). Its row is what a model that takes several
views at once, in the style of Exo2EgoSyn, has to be compared with: it takes the same views without a new trained
weight.

With ``--gate`` the arms of ``run.py train-demo --stage views_gate`` are judged instead: short LoRAs of the small model
that see one exo view and no depth, without and with the rays of the cameras. Each figure is the mean over two noises
and the trainings' seeds. The gate holds where the whole interval of an arm's gain lies above zero, and another take's
path costs it at least 1 dB.

Below it stands what such a model's canvas costs at full size (14B, 49 frames, 448 px), by arithmetic: tokens,
operations of a forward and the blocks' checkpoints in training, of each layout of the views. With ``--save`` all that
is kept in ``views.md`` too, with the gates that were judged and what ``benchmarks/results/views_note.md`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.support import record as _record
from benchmarks.support.record import bench_parser, figure_text, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.bootstrap import paired_difference
from egox_core.prior.options import PRIOR_PRESETS, prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import read_json, write_whole
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from egox_core.types import Panels
from egox_core.wan.step_memory import ModelSize, TrainSetting, canvas_tokens, estimate
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.small_model.arguments import WORK
from lab.small_model.clips import clip_spec
from lab.small_model.contract import DEFAULT_SAMPLER, SampleSettings, Videos, VideoStore, facts_of, load_sampler
from lab.small_model.held_out import HeldOutClip, clip_of_take
from lab.small_model.scores import TELEA, Scores, baseline_videos, mean_of, score_method
from lab.small_model.settings import FIRST_SEED, VIEWS_GATES, DemoTraining
from tools.rigs.wan_shapes import CLIPS, forward_flops

COLUMNS = (("psnr", "PSNR", 2), ("ssim", "SSIM", 3), ("psnr_inside", "inside", 2), ("psnr_outside", "outside", 2),
           ("coverage", "coverage", 3))
"""The last is the share of the ego picture that the prior covers."""
SAMPLED = "EgoX, the small model"
NOTE = "views_note.md"
"""Written by a person; it stands below the tables."""
LAYOUTS = (Panels(), Panels(views=2), Panels(views=4), Panels(views=4, layout="mosaic"))


def layout_cost(panels: Panels) -> dict[str, Any]:
    """Tokens, PFLOP of a forward for one prompt, and GB (10^9) of checkpoints, of the 14B on the released clip."""
    tokens = canvas_tokens(panels, CLIPS["14b"].grid)
    return {"views": panels.views, "layout": panels.layout, "tokens": tokens,
            "pflop": forward_flops("14b", tokens) / 1e15,
            "checkpoints_gb": estimate(ModelSize(), TrainSetting(tokens=tokens)).checkpoints / 1e9}


def held_out_rooms(count: int, views: int) -> list[SyntheticSpec]:
    """The first held-out rooms of the small model, with so many exo cameras."""
    clips = DemoTraining().clips
    return [replace(clip_spec(FIRST_SEED["test"] + number, clips), exo_views=views) for number in range(count)]


def fused_clips(take: SyntheticTake, counts: Sequence[int], preset: str) -> dict[int, HeldOutClip]:
    """The take's clip with the prior of its first N cameras, for each N."""
    scenes = [build_scene(view.exo_frames(), view.depth_video()) for view in take.views]
    clip, clips = clip_of_take(take, preset), {}
    for count in counts:
        prior = render_ego_prior(fuse_scenes(scenes[:count]), clip.trajectory, prior_preset(preset))
        clips[count] = replace(clip, prior=(prior.rgb * 255).round().clamp(0, 255).to(torch.uint8),
                               coverage=prior.coverage)
    return clips


def inpainted(clips: Sequence[HeldOutClip]) -> Videos:
    """The priors, their holes filled."""
    return baseline_videos(clips)[TELEA]


def measure(specs: Sequence[SyntheticSpec], counts: Sequence[int], preset: str,
            methods: Mapping[str, Callable[[Sequence[HeldOutClip]], Videos]],
            progress: Progress = no_progress) -> list[dict[str, Any]]:
    """A row for each method and N: means, and what it is above the first N; each with its interval."""
    clips: dict[int, list[HeldOutClip]] = {count: [] for count in counts}
    for done, spec in enumerate(specs, start=1):
        for count, clip in fused_clips(make_take(spec), counts, preset).items():
            clips[count].append(clip)
        progress(done, len(specs), "rooms")
    rows = []
    for name, make in methods.items():
        scores = {count: {**score_method(make(of_count), of_count),
                          "coverage": {clip.name: float(clip.coverage.float().mean()) for clip in of_count}}
                  for count, of_count in clips.items()}
        rows += [{"method": name, "views": count, **row(scores[count], scores[counts[0]])} for count in counts]
    return rows


def row(scores: Scores, against: Scores) -> dict[str, Any]:
    """Means and paired differences of one row, for every column that has values."""
    means = {key: estimate.as_dict() for key, _, _ in COLUMNS if (estimate := mean_of(scores, key)) is not None}
    takes = {name: name for name in scores["psnr"]}
    differences = {key: paired_difference(scores[key], against[key], takes).as_dict() for key in means}
    return {"means": means, "differences": differences}


def markdown(rows: Sequence[Mapping[str, Any]], costs: Sequence[Mapping[str, Any]]) -> str:
    """Rows and costs, for a person."""
    lines = [f"| | views | {' | '.join(label for _, label, _ in COLUMNS)} | Δ PSNR | Δ coverage |",
             "| --- " * (len(COLUMNS) + 4) + "|"]
    for values in rows:
        cells = [figure_text(values["means"].get(key), digits) for key, _, digits in COLUMNS]
        cells += [figure_text(values["differences"][key], digits) for key, digits in (("psnr", 2), ("coverage", 3))]
        lines.append(f"| {values['method']} | {values['views']} | {' | '.join(cells)} |")
    lines += ["", "| layout | tokens | PFLOP | of one view's | checkpoints, GB |", "| --- " * 5 + "|"]
    lines += [f"| {cost['views']} {cost['layout']} | {cost['tokens']:,} | {cost['pflop']:.2f} | "
              f"{cost['pflop'] / costs[0]['pflop']:.2f} | {cost['checkpoints_gb']:.1f} |" for cost in costs]
    return "\n".join(lines)


def gate_markdown(judged: Mapping[str, Any]) -> str:
    """A gate's arms and its verdict, for a person."""
    lines = ["| arm | PSNR | gain, dB | another take's path costs, dB | |", "| --- " * 5 + "|"]
    for values in judged["rows"]:
        cells = [figure_text(values.get(key), 2) for key in ("psnr", "gain", "path_cost")]
        lines.append(f"| {values['arm']} | {' | '.join(cells)} | {'holds' if values.get('holds') else ''} |")
    return "\n".join([*lines, "", f"The gate {'holds' if judged['holds'] else 'FAILS'}."])


def page(table: str, rooms: int) -> str:
    """The table with its head, the gates that were judged, and the note."""
    parts = [f"# Several exo views\n\n{rooms} rooms that no training saw. Means with 95 % intervals over rooms; Δ is "
             f"against one view on the same rooms.\n\n## The prior of more cameras, without any training\n\n{table}"]
    for stage in VIEWS_GATES:
        file = _record.RESULTS / f"{stage}.json"
        if file.is_file():
            judged = read_json(file, "gate")
            parts.append(f"## The gate after {judged['steps']} steps\n\n{judged['rooms']} rooms, one exo view, neither "
                         f"depth nor prior: LoRAs with the cameras' rays and without.\n\n{gate_markdown(judged)}")
    note = _record.RESULTS / NOTE
    if note.is_file():
        parts.append(note.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--count", type=int, default=64, help="of rooms")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4], help="compared with the first")
    parser.add_argument("--preset", choices=sorted(PRIOR_PRESETS), help="clean, or with --sampled the model's own")
    parser.add_argument("--sampled", action="store_true", help="the small model's videos, too")
    parser.add_argument("--gate", nargs="?", choices=tuple(VIEWS_GATES), const=next(iter(VIEWS_GATES)),
                        help="judge the trained arms of a gate")
    args = parser.parse_args(arguments)
    if args.gate:
        from lab.small_model.views_gate import judge_trained_arms  # needs the train extra; the rest doesn't

        judged = judge_trained_arms(held_out_rooms(args.count, 1), args.gate, ProgressLine())
        return finish(args.gate, judged, args, gate_markdown(judged), judged["holds"])
    preset, methods, model = args.preset or "clean", {TELEA: inpainted}, {}
    if args.sampled:
        sampler = load_sampler(DEFAULT_SAMPLER)
        preset, model = args.preset or sampler.PRIOR_PRESET, {"model": facts_of(sampler)}
        store = VideoStore(folder=WORK / "views" / "videos", model=sampler.fingerprint())
        methods[SAMPLED] = lambda clips: store.generated(sampler, clips, SampleSettings(), SAMPLED, ProgressLine())
    specs = held_out_rooms(args.count, max(args.views))
    rows = measure(specs, args.views, preset, methods, ProgressLine())
    result = {"rooms": args.count, "preset": preset, **model, "frames": specs[0].frames, "ego_px": specs[0].ego_size,
              "rows": rows, "layouts": [layout_cost(panels) for panels in LAYOUTS]}
    table = markdown(rows, result["layouts"])
    if args.save:
        with write_whole(_record.RESULTS / "views.md") as temporary:
            temporary.write_text(page(table, args.count), encoding="utf-8")
    return finish("views", result, args, table)


if __name__ == "__main__":
    raise SystemExit(main())
