"""Compare the small model's videos with those of simple methods, on held-out drawn takes.

    python3 run.py bench small_model [--count N] [--save]

For whoever changed the sampling, the conditioning or the small model's training. The model's videos
(the demo's steps, no CFG; also with the observed pixels kept) stand beside the prior with Telea's
inpainting, exo resized, exo's mean colour, "shrink" (0.6 prior + 0.4 exo mean), the same model at
LoRA strength 0, at another take's exo and prior, and the model's own VAE's version of the filled
prior and of the truth. Beside PSNR,
which a blurred mean wins, there are figures that neither blur nor noise nor sharpening can win
(outlines, quiet places, objects' outlines), flicker, retrieval of its own truth, and objects in
their own colour; 95 % bootstrap intervals over takes. Videos are kept in ``output/small_model``,
with a contact sheet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.support.record import RESULTS, bench_parser, figure_text, finish
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import atomic_write
from egox_train.cli.progress_line import ProgressLine
from egox_train.metrics.bootstrap import paired_difference
from lab.small_model.held_out import HeldOutClip, held_out_clips, with_exo_of, with_prior_of
from lab.small_model.sampler import SampleSettings
from lab.small_model.scores import (
    BASE,
    KEPT,
    MODEL,
    PRIOR_VAE,
    TELEA,
    TRUTH_VAE,
    WRONG_EXO,
    WRONG_PRIOR,
    baseline_videos,
    kept_videos,
    mean_of,
    score_method,
)
from lab.small_model.sheet import write_sheet
from lab.small_model.videos import VideoStore

COLUMNS = (
    ("lead", "PSNR that the model leads by", 2),
    ("psnr", "PSNR", 2),
    ("ssim", "SSIM", 3),
    ("psnr_inside", "inside", 2),
    ("psnr_outside", "outside", 2),
    ("psnr_now", "observed now", 2),
    ("psnr_doubtful", "doubtful", 2),
    ("psnr_unobserved", "unobserved", 2),
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
    parser.add_argument("--count", type=int, default=64, help="of takes")
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
    }
    table = markdown(result)
    if args.save:
        with atomic_write(RESULTS / "small_model.md") as temporary:
            temporary.write_text(table, encoding="utf-8")
    return finish("small_model", result, args, table)


def prove(
    clips: Sequence[HeldOutClip], store: VideoStore, progress: Progress = no_progress
) -> tuple[dict[str, Any], dict[str, list]]:
    """(means, the videos by method).

    Raises:
        EgoXInputError: a single clip.
    """
    settings, plain = SampleSettings(), baseline_videos(clips)
    model = store.generated(clips, settings, MODEL, progress)
    videos = {
        MODEL: model,
        KEPT: kept_videos(model, clips),
        BASE: store.generated(clips, SampleSettings(strength=0.0), BASE, progress),
        PRIOR_VAE: store.through_vae(plain[TELEA], PRIOR_VAE, progress),
        TRUTH_VAE: store.through_vae([c.truth.numpy() for c in clips], TRUTH_VAE, progress),
        WRONG_EXO: store.generated(with_exo_of(clips), settings, WRONG_EXO, progress),
        WRONG_PRIOR: store.generated(with_prior_of(clips), settings, WRONG_PRIOR, progress),
        **plain,
    }
    scores, means, names = {}, {}, {clip.name: clip.name for clip in clips}
    for count, (name, of_clips) in enumerate(videos.items(), start=1):
        own = scores[name] = score_method(of_clips, clips)
        found = {key: mean_of(own, key) for key, _, _ in COLUMNS}
        if name != MODEL:
            found["lead"] = paired_difference(scores[MODEL]["psnr"], own["psnr"], names)
        means[name] = {key: value.as_dict() for key, value in found.items() if value is not None}
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
        "psnr_of_clips": {clip: round(value, 4) for clip, value in scores[MODEL]["psnr"].items()},
    }, videos


def markdown(result: Mapping[str, Any]) -> str:
    """The means, for a person."""
    lines = [
        "# The small model on held-out takes",
        "",
        f"{result['takes']} takes, {result['frames']} frames, ego {result['ego_px']} px, exo "
        f"{result['exo_px'][0]}x{result['exo_px'][1]} px; {result['steps']} steps, no CFG. "
        f"The prior covers {100 * result['coverage']:.0f} % of the ego picture. "
        f"{result['objects']:.0f} objects cover 2 % of a true frame while exo sees them, in "
        f"{result['object_frames']:.0f} object frames. Means with 95 % intervals over takes.",
        "",
        f"| | {' | '.join(label for _, label, _ in COLUMNS)} |",
        "| --- " * (len(COLUMNS) + 1) + "|",
    ]
    for name, means in result["means"].items():
        cells = [figure_text(means.get(key), digits) for key, _, digits in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "PSNR and SSIM: means over frames and takes; inside, outside: of the prior's coverage, "
        "and by class of the prior's pixels, pooled per take. Retrieval: share of takes whose own "
        "truth is the nearest of all. "
        "Object frames: share whose mean colour, inside the true mask, is nearer to the "
        "object's own than to its surroundings'; objects: share with at least half of their "
        "frames right. Outlines: the grey picture's gradient projected on the truth's; quiet "
        "places: mean gradient, of 255 per pixel, where the truth's is under 1.5; objects' "
        "outlines: F-score of where colours change, divided by the truth's; flicker: difference "
        "of following frames, times the truth's.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
