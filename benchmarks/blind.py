"""A blind look: is a person able to tell from the small model's video which room it is?

    python3 run.py bench blind [--takes FOLDER | --seeds FIRST COUNT --spec FILE] [--sampler MODULE] [--save]
    python3 run.py bench blind --picks A C B ... [--save]

The first call writes a sheet for each of twelve held-out takes into ``--work``: three frames of the model's video (seed
1234, the demo's steps), below them the same frames of four truths, of which one is its own; whose, and where, is drawn.
The right letters lie in ``answers.json`` beside them, and three takes' frames above their own truth in ``frames.png``
(with ``--save`` in the card's picture too): look at both afterwards. The second call counts the picks, in the order of
the sheets. One in four would be right by chance.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.support.record import RESULTS, bench_parser, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.errors import EgoXInputError
from egox_core.previews.contact_sheet import SheetRow, make_contact_sheet, spread, write_png
from egox_core.safe_files import read_json, write_json, write_whole
from lab.small_model.arguments import add_take_arguments, held_out_clips, sampler_of
from lab.small_model.contract import SampleSettings, VideoStore
from lab.small_model.held_out import HeldOutClip

LOOKED_AT, SHOWN, CHOICES, ZOOM = 12, 3, 4, 2
LETTERS = "ABCD"
ANSWERS = "answers.json"
FRAMES = RESULTS.parents[1] / "docs" / "img" / "small_model_frames.jpg"


def write_sheets(folder: Path, clips: Sequence[HeldOutClip], videos: Mapping[int, np.ndarray]) -> list[str]:
    """A sheet for each clip that has a video; the right letters.

    Args:
        videos: the model's, by the clip's number.

    Raises:
        EgoXInputError: fewer clips than a sheet has truths.
    """
    if len(clips) < CHOICES:
        raise EgoXInputError("blind look", got=f"{len(clips)} takes", expected=f"at least {CHOICES}",
                             fix="name more held-out takes")
    draw, answers = random.Random(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for number, own in enumerate(videos, start=1):
        shown = [own, *draw.sample([i for i in range(len(clips)) if i != own], CHOICES - 1)]
        draw.shuffle(shown)
        answers.append(LETTERS[shown.index(own)])
        rows = [_row(videos[own], "the model's video")]
        rows += [_row(clips[i].truth.numpy(), letter) for letter, i in zip(LETTERS, shown, strict=True)]
        write_png(folder / f"take_{number:02d}.png", make_contact_sheet(rows, ZOOM * clips[own].truth.shape[1], gap=2))
    write_json(folder / ANSWERS, {"answers": answers})
    return answers


def frames_picture(
    clips: Sequence[HeldOutClip], videos: Mapping[int, np.ndarray],  # by the clip's number
) -> np.ndarray:  # [H, W, 3] uint8
    """Of :data:`SHOWN` of the takes that are looked at, spread evenly: the model's frames above the true ones."""
    asked = list(videos)
    rows = [_row(of, name) for i in (asked[j] for j in spread(len(asked), SHOWN))
            for of, name in ((videos[i], "the model's video"), (clips[i].truth.numpy(), "the truth"))]
    return make_contact_sheet(rows, 3 * clips[0].truth.shape[1] // 2, gap=2)


def _row(video: np.ndarray, label: str) -> SheetRow:
    """Three neighbouring frames."""
    middle = len(video) // 2
    return SheetRow(pictures=list(video[middle - 1 : middle + 2]), labels=(label,))


def score(picks: Sequence[str], answers: Sequence[str]) -> dict[str, Any]:
    """How many are right, and how likely so many or more would be by chance.

    Raises:
        EgoXInputError: another number of picks, or a letter that no truth has.
    """
    if len(picks) != len(answers) or not set(picks) <= set(LETTERS):
        raise EgoXInputError("picks", got=" ".join(picks), expected=f"{len(answers)} letters of {', '.join(LETTERS)}",
                             fix="give one for each sheet, in their order")
    right, count, chance = sum(a == b for a, b in zip(picks, answers, strict=True)), len(answers), 1 / CHOICES
    by_chance = sum(comb(count, k) * chance**k * (1 - chance) ** (count - k) for k in range(right, count + 1))
    return {"takes": count, "right": right, "by_chance": by_chance, "picks": list(picks), "answers": list(answers)}


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    add_take_arguments(parser, "blind")
    parser.add_argument("--picks", nargs="+", help="what was picked, a letter a sheet")
    args = parser.parse_args(arguments)
    if args.picks:
        result = score(args.picks, read_json(args.work / ANSWERS, "answers of the blind look")["answers"])
        return finish("blind", result, args, f"{result['right']} of {result['takes']} are right; by chance so many or "
                      f"more come with probability {result['by_chance']:.1g}.")
    sampler = sampler_of(args)
    clips = held_out_clips(args, sampler)
    store = VideoStore(folder=args.work / "videos", model=sampler.fingerprint())
    asked = spread(len(clips), LOOKED_AT)
    made = store.generated(sampler, [clips[i] for i in asked], SampleSettings(), "blind look", ProgressLine())
    videos = dict(zip(asked, made, strict=True))
    count, picture = len(write_sheets(args.work, clips, videos)), frames_picture(clips, videos)
    write_png(args.work / "frames.png", picture)
    if args.save:
        with write_whole(FRAMES) as temporary:
            Image.fromarray(picture).save(temporary, quality=70, optimize=True, progressive=True)
    print(f"{count} sheets in {args.work}; then: python3 run.py bench blind --picks ...")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
