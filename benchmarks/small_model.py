"""Does the small model work? Its bars on held-out drawn takes, paired, with intervals.

    python3 run.py bench small_model [--count N] [--save]

For whoever changed the sampling, the conditioning or the small model's training. The model's videos
(the demo's steps, no CFG) are compared with the prior with Telea's inpainting, exo resized, exo's
mean colour, "shrink" (0.6 prior + 0.4 exo mean), the same model at LoRA strength 0, and the model's
own VAE's version of the filled prior and of the truth. It is judged by figures that neither blur
nor noise nor sharpening can win (outlines, quiet places, objects' outlines, kernel distance),
flicker, leads in PSNR, retrieval of its own truth, objects in their own colour, and the cost of
another take's exo or prior. Each difference is that of the same clips, with a bootstrap interval
over takes (95 %). Outlines are held against the filled prior after one pass through the same VAE,
which costs a third of them. Videos are kept in ``output/small_model``, with a contact sheet. The
exit code is 0 only where every bar holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.support.drawn_features import KernelDistance, features_of, load_net
from benchmarks.support.record import RESULTS, bench_parser, figure_text, finish
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import atomic_write
from egox_train.cli.progress_line import ProgressLine
from lab.small_model.held_out import HeldOutClip, held_out_clips, with_exo_of, with_prior_of
from lab.small_model.sampler import SampleSettings
from lab.small_model.scores import (
    BARS,
    BASE,
    KERNEL,
    MODEL,
    PRIOR_VAE,
    TELEA,
    TRUTH_VAE,
    WRONG_EXO,
    WRONG_PRIOR,
    baseline_videos,
    judged,
    lead_of,
    mean_of,
    score_method,
)
from lab.small_model.sheet import write_sheet
from lab.small_model.videos import VideoStore

TAKES = 64
COLUMNS = (
    ("psnr", "PSNR", 2),
    ("ssim", "SSIM", 3),
    ("psnr_inside", "inside", 2),
    ("psnr_outside", "outside", 2),
    ("retrieval_hit", "retrieval", 2),
    ("colours_right", "object frames", 2),
    ("objects_right", "objects", 2),
    ("outlines", "outlines", 2),
    ("quiet", "quiet places", 1),
    ("object_outlines", "objects' outlines", 2),
    ("flicker", "flicker", 2),
)


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--count", type=int, default=TAKES, help="of takes")
    args = parser.parse_args()
    clips, store = held_out_clips(args.count), VideoStore()
    result, videos = prove(clips, store, ProgressLine())
    write_sheet(
        store.folder.parent / "contact_sheet.png",
        clips,
        {name: videos[name] for name in (BASE, MODEL)},
    )
    result = {
        **result,
        "steps": SampleSettings().steps,
        "cfg": 1.0,
        "weights": store.sampler.parts,
        "passed": len(clips) >= TAKES and all(bar["verdict"] == "holds" for bar in result["bars"]),
    }
    table = markdown(result)
    if args.save:
        with atomic_write(RESULTS / "small_model.md") as temporary:
            temporary.write_text(table, encoding="utf-8")
    return finish("small_model", result, args, table, result["passed"])


def prove(
    clips: Sequence[HeldOutClip], store: VideoStore, progress: Progress = no_progress
) -> tuple[dict[str, Any], dict[str, list]]:
    """(means and bars, the videos by method).

    Raises:
        EgoXInputError: a single clip.
    """
    settings, plain = SampleSettings(), baseline_videos(clips)
    videos = {
        MODEL: store.generated(clips, settings, MODEL, progress),
        BASE: store.generated(clips, SampleSettings(strength=0.0), BASE, progress),
        PRIOR_VAE: store.through_vae(plain[TELEA], PRIOR_VAE, progress),
        TRUTH_VAE: store.through_vae([c.truth.numpy() for c in clips], TRUTH_VAE, progress),
        WRONG_EXO: store.generated(with_exo_of(clips), settings, WRONG_EXO, progress),
        WRONG_PRIOR: store.generated(with_prior_of(clips), settings, WRONG_PRIOR, progress),
        **plain,
    }
    net = load_net()
    true = features_of(net, [clip.truth.numpy() for clip in clips])
    scores, distances, means = {}, {}, {}
    for count, (name, of_clips) in enumerate(videos.items(), start=1):
        scores[name] = score_method(of_clips, clips)
        distances[name] = KernelDistance.between(features_of(net, of_clips), true)
        means[name] = {
            key: estimate.as_dict()
            for key, _, _ in COLUMNS
            if (estimate := mean_of(scores[name], key)) is not None
        }
        means[name][KERNEL] = distances[name].estimate().as_dict()
        progress(count, len(videos), "methods scored")
    return {
        "takes": len(clips),
        "frames": len(clips[0].truth),
        "ego_px": clips[0].truth.shape[1],
        "exo_px": list(clips[0].exo.shape[2:0:-1]),
        "coverage": float(np.mean([c.coverage.numpy().mean() for c in clips])),
        "object_frames": sum(scores[MODEL]["object_frames"].values()),
        "objects": sum(scores[MODEL]["objects"].values()),
        "means": means,
        "bars": [
            judged(
                bar,
                distances[MODEL].estimate(distances[bar.against])
                if bar.metric == KERNEL
                else lead_of(bar, scores),
            )
            for bar in BARS
        ],
        "psnr_of_clips": {clip: round(value, 4) for clip, value in scores[MODEL]["psnr"].items()},
    }, videos


def markdown(result: Mapping[str, Any]) -> str:
    """Bars and means, for a person."""
    lines = [
        "# The small model on held-out takes",
        "",
        f"{result['takes']} takes, {result['frames']} frames, ego {result['ego_px']} px, exo "
        f"{result['exo_px'][0]}x{result['exo_px'][1]} px; {result['steps']} steps, no CFG. "
        f"The prior covers {100 * result['coverage']:.0f} % of the ego picture. "
        f"{result['objects']:.0f} objects cover 2 % of a true frame while exo sees them, in "
        f"{result['object_frames']:.0f} object frames. Means with 95 % intervals over takes.",
        "",
        "| bar | asked | measured | |",
        "| --- | --- | --- | --- |",
    ]
    for bar in result["bars"]:
        figure = "–" if bar["verdict"] == "not measured" else figure_text(bar, 2)
        limit = f"≤ {bar['most']:g}" if bar["least"] is None else f"≥ {bar['least']:g}"
        lines.append(f"| {bar['bar']} | {limit} | {figure} | {bar['verdict']} |")
    columns = (*COLUMNS, (KERNEL, KERNEL, 3))
    lines += [
        "",
        f"| | {' | '.join(label for _, label, _ in columns)} |",
        "| --- " * (len(columns) + 1) + "|",
    ]
    for name, means in result["means"].items():
        cells = [figure_text(means.get(key), digits) for key, _, digits in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "PSNR and SSIM: means over frames and takes; inside, outside: of the prior's coverage, "
        "pooled per take. Retrieval: share of takes whose own truth is the nearest of all. "
        "Object frames: share whose mean colour, inside the true mask, is nearer to the "
        "object's own than to its surroundings'; objects: share with at least half of their "
        "frames right. Outlines: the grey picture's gradient projected on the truth's; quiet "
        "places: mean gradient, of 255 per pixel, where the truth's is under 1.5; objects' "
        "outlines: F-score of where colours change, divided by the truth's; flicker: difference "
        "of following frames, times the truth's. Kernel distance: to the truths of other takes, "
        "by a classifier of drawn rooms (`meter.json`). The bar of outlines is the filled prior "
        "after one pass through the same VAE, which costs a third of its outlines.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
