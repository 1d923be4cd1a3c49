"""Cost of a kept exo half in pictures, and the time that it saves (input *Recompute exo*).

    python3 run.py bench exo_cache [--count N] [--steps 20 ...] [--save]
    python3 run.py bench exo_cache --time [--frames 49] [--save]

For whoever changes the cache, the schedule or the small model. Pictures: the small model's videos
of the held-out takes, from the same noise, with exo computed at every step, every 2nd, 4th, 8th
and once; scores as in ``bench small_model``, each beside every step's on the same takes, with
95 % bootstrap intervals over takes. Other takes' exo and prior are tried at the steps and
settings of the bars. Time: the host's sampler and a random Wan of two blocks with 8 heads of
128 at the released 28,028 tokens; full and kept steps take turns. ``results/exo_cache.md`` has
the table with its note, kept by hand."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.support.record import bench_parser, figure_text, finish
from egox_core.progress import Progress, no_progress
from egox_train.cli.progress_line import ProgressLine
from egox_train.metrics.bootstrap import bootstrap_mean, paired_difference
from lab.small_model.held_out import HeldOutClip, held_out_clips, with_exo_of, with_prior_of
from lab.small_model.sampler import SampleSettings
from lab.small_model.scores import mean_of, pictures_move, score_method
from lab.small_model.videos import VideoStore

STEPS = (8, 20, 50)
EVERY = (1, 2, 4, 8, 0)
SWAPPED = {20: (1, 4)}
"""Steps -> settings that are tried with another take's exo and prior too."""
SWAPS = {"wrong_exo": with_exo_of, "wrong_prior": with_prior_of}
COLUMNS = (
    ("psnr", "PSNR", 2),
    ("psnr_outside", "outside", 2),
    ("outlines", "outlines", 3),
    ("quiet", "quiet", 2),
    ("flicker", "flicker", 2),
)
COSTS = (("wrong_exo", "another exo costs", 2), ("wrong_prior", "another prior costs", 2))
NAMES = {0: "once", 1: "every step", 2: "every 2nd", 4: "every 4th", 8: "every 8th"}
ROUNDS = 5


def measure(
    clips: Sequence[HeldOutClip],
    store: VideoStore,
    counts: Sequence[int] = STEPS,
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """A row per number of steps and setting."""
    takes = {clip.name: clip.name for clip in clips}
    rows = []
    for steps in counts:
        first = None
        for every in EVERY:
            settings = SampleSettings(steps=steps, recompute_exo=every)
            label = f"{steps} steps, {NAMES[every]}"
            videos = store.generated(clips, settings, label, progress)
            scores = score_method(videos, clips)
            first = first or (videos, scores)
            row = {"row": label, "means": {}, "leads": {}}
            for key, _, _ in COLUMNS:
                row["means"][key] = mean_of(scores, key).as_dict()
                lead = paired_difference(scores[key], first[1][key], takes)
                row["leads"][key] = lead.as_dict()
            moved = pictures_move(videos, first[0])
            row["moved"] = bootstrap_mean(moved, list(takes)).as_dict()
            for name, swap in SWAPS.items() if every in SWAPPED.get(steps, ()) else ():
                other = store.generated(swap(clips), settings, f"{label}, {name}", progress)
                lost = paired_difference(scores["psnr"], score_method(other, clips)["psnr"], takes)
                row["means"][name] = lost.as_dict()
            rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, for a person."""
    heads = ["", *(label for _, label, _ in COLUMNS), "Δ PSNR", "pictures move"]
    heads += [label for _, label, _ in COSTS]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows:
        cells = [figure_text(row["means"][key], digits) for key, _, digits in COLUMNS]
        cells += [figure_text(row["leads"]["psnr"], 2, "+"), figure_text(row["moved"], 2)]
        cells += [figure_text(row["means"].get(key), digits) for key, _, digits in COSTS]
        lines.append(f"| {row['row']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def time_steps(frames: int) -> dict[str, Any]:
    """Seconds of full and kept forwards through the host's sampler, plain and guided."""
    import torch

    from tools.rigs import pack_in_process, standins
    from tools.rigs.standin_shapes import TransformerForm
    from tools.setup.layout import REPO_ROOT

    with pack_in_process.pack_on_host("bench exo_cache --time") as (_, pack):
        import comfy.sd

        from tools.rigs import model_rig

        size = model_rig.RigSize(frames=frames, exo_width=784, height=448)
        form = TransformerForm(
            dim=1024, ffn_dim=2816, heads=8, text_dim=1024, image_embedding=False
        )
        tensors, metadata = standins.transformer(form)
        with torch.inference_mode():
            rig = model_rig.random_rig(pack, REPO_ROOT / "models", size)
            rig.model = comfy.sd.load_diffusion_model_state_dict(tensors, metadata=metadata)
            return {
                name: _times(rig, lambda_g) for name, lambda_g in (("plain", 0.0), ("guided", 3.0))
            }


def _times(rig: Any, lambda_g: float) -> dict[str, Any]:
    """Medians of ROUNDS full and kept steps in turns, and eight steps of which two are full."""
    model = rig.patch(lambda_g=lambda_g, recompute_exo=2)
    cache = rig.nodes("patch.patch").patch_calls(model).exo_cache
    seconds: dict[bool, list[float]] = {False: [], True: []}
    most = 0

    def timed(executor: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal most
        kept, begin = cache.kept, time.perf_counter()
        out = executor(*args, **kwargs)
        seconds[cache.kept > kept].append(time.perf_counter() - begin)
        most = max(most, cache.kept_bytes)
        return out

    model.add_wrapper_with_key("apply_model", "timed", timed)
    rig.ksample(model, steps=2 * ROUNDS, cfg=1.0)
    full, kept = float(np.median(seconds[False])), float(np.median(seconds[True]))
    return {
        "full_seconds": seconds[False],
        "kept_seconds": seconds[True],
        "kept_of_full": kept / full,
        "eight_at_every_4th": (2 * full + 6 * kept) / (8 * full),
        "kept_mb": most / 2**20,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--count", type=int, default=64, help="of takes")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--time", action="store_true", help="seconds of a step instead of pictures")
    parser.add_argument("--frames", type=int, default=49, help="of the timed clip")
    args = parser.parse_args(arguments)
    if args.time:
        times = time_steps(args.frames)
        table = "\n".join(
            f"{name}: a kept step takes {of['kept_of_full']:.3f} of a full one, eight steps at "
            f"every 4th {of['eight_at_every_4th']:.3f}; {of['kept_mb']:.0f} MB kept"
            for name, of in times.items()
        )
        return finish("exo_cache_time", times, args, table)
    store = VideoStore()
    rows = measure(held_out_clips(args.count), store, args.steps, ProgressLine())
    result = {"takes": args.count, "weights": store.sampler.parts, "rows": rows}
    table = markdown(rows)
    return finish("exo_cache", result, args, table)


if __name__ == "__main__":
    raise SystemExit(main())
