"""Count right, wrong and missing warnings about the ego camera's place, on drawn takes whose files
are right or have a known error.

    python3 run.py bench alarms [--first-seed 0] [--takes 40] [--save]

To be run again after a change of ``egox_core/prior/placement.py``, with seeds that nobody has seen.
A wrong file is silent, named rightly (alone or as one of two), or named as something else. A word
alone names nothing. Each remedy is followed as it is worded: the second one where the first leaves
the prior wrong. Rows have a mask of the wearer or none, and those of two people a mask of both."""

from collections import Counter
from dataclasses import replace
from itertools import product
from typing import Any

import torch

from benchmarks.support.file_errors import (
    FILE_ERRORS,
    TWO_PEOPLE_ERRORS,
    TakeFiles,
    apply_remedy,
)
from benchmarks.support.record import bench_parser, finish
from egox_core import stages
from egox_core.cameras import compose, invert
from egox_core.errors import EgoXInputError
from egox_core.remarks import RemarkKind
from egox_core.types import CameraTrajectory, DepthVideo
from lab.drawn import DepthErrors, SyntheticSpec, SyntheticTake, add_depth_errors, make_take
from lab.drawn.bystander import add_bystander
from lab.drawn.spec import CHOICES

PLACE_KINDS = (RemarkKind.IMPOSSIBLE_PLACE, RemarkKind.STRANGE_PLACE, RemarkKind.WARNING)
WORLD_FROM_DRAWN = [[0.6, 0.0, 0.8, 0.5], [0.0, 1.0, 0.0, -0.4], [-0.8, 0.0, 0.6, 0.7]]
"""The take's world against the drawn one."""
MOST_RELATIVE_ERROR = 0.4
"""Median error of points over their depth up to which a take is right: that of depth x 1.4."""
ESTIMATE_ERRORS = DepthErrors(bend=0.1, flicker=0.15)
"""Errors of a network's depth: a take of one frame has the flicker as its scale."""
SMALL = SyntheticSpec(
    texture="plain", exo_width=160, exo_height=96, ego_size=64, frames=1, edge_samples=1
)
COLUMNS = ("silent", "right", "word", "wrong", "first remedy", "second remedy")
COLUMNS += ("still wrong, cries", "still wrong, silent")


def right_files(take: SyntheticTake, has_mask: bool) -> TakeFiles:
    """Make a drawn take's files without an error, with or without the mask."""
    mask = take.exo_dynamic if has_mask else None
    drawn_from_world = invert(torch.tensor(WORLD_FROM_DRAWN, dtype=torch.float64))
    files = TakeFiles(take.exo_depth_m, take.ego.upright, take.exo, mask)
    return files.changed("ego exo", lambda w2c: compose(w2c, drawn_from_world))


def placement_remark(take: SyntheticTake, files: TakeFiles) -> str:
    """Draw a take's prior, and return what is said about the ego camera's place, if anything."""
    depth = DepthVideo(depth_m=files.depth_m.clamp(max=1000), exo=files.exo, dynamic=files.mask)
    scene, _ = stages.scene(take.exo_rgb, depth)
    try:
        notes = stages.prior(scene, CameraTrajectory(ego=files.ego, exo=files.exo))[1].notes
    except EgoXInputError as refusal:
        return f"refused: {refusal}"
    texts = (note.text for note in notes if note.kind in PLACE_KINDS and "ego camera" in note.text)
    return next(texts, "")


def rate_remark(remark: str, cause: str) -> str:
    """Rate a remark: silent, right (it names the cause), wrong (it names another) or a word."""
    named = remark.partition("would be right with ")[2]
    return ("right" if cause in named else "wrong") if named else "word" if remark else "silent"


def count_remarks(takes: list[SyntheticTake], has_mask: bool, error: str) -> Counter:
    """Count the remarks about takes with one file error, and what following them leads to."""
    row = Counter()
    names, change, cause = FILE_ERRORS.get(error, ("", torch.clone, "nothing"))
    for take in takes:
        true_files = right_files(take, has_mask)
        files = true_files.changed(names, change)
        remark = placement_remark(take, files)
        row[rate_remark(remark, cause)] += 1
        outcomes = []
        text = remark.partition("would be right with ")[2].partition("; draw_anyway")[0]
        for remedy in filter(None, text.split("; if the prior is still wrong then, with ")):
            mended = apply_remedy(files, remedy, true_files.depth_m)
            distances = (mended.points() - true_files.points()).norm(dim=-1)
            is_right = (distances / true_files.depth_m).nanmedian() <= MOST_RELATIVE_ERROR
            cries = not is_right and placement_remark(take, mended)
            outcomes.append("right" if is_right else "cries" if cries else "silent")
        if outcomes:
            is_mended = "right" in outcomes
            place = f"{('first', 'second')[outcomes.index('right')]} remedy" if is_mended else ""
            row[place or f"still wrong, {outcomes[-1]}"] += 1
    return row


def draw_take(seed: int, **settings: Any) -> SyntheticTake:
    """Draw one small frame of a take."""
    return make_take(replace(SMALL, seed=seed, wearer="drawn", **settings))


def draw_unusual(seed: int) -> SyntheticTake:
    """Draw any posture and place of exo, some with a hidden head or an upright picture."""
    places = list(product(CHOICES["posture"], CHOICES["exo_place"]))
    posture, exo_place = places[seed % len(places)]
    settings: dict[str, Any] = {"exo_sees_head": False} if seed % 5 == 0 else {}
    settings |= {"exo_width": 96, "exo_height": 160} if seed % 7 == 0 else {}
    return draw_take(seed, posture=posture, exo_place=exo_place, **settings)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--takes", type=int, default=40)
    args = parser.parse_args(arguments)
    seeds = range(args.first_seed, args.first_seed + args.takes)
    takes = [draw_take(seed) for seed in seeds]
    right_takes = {
        "right, usual": takes,
        "right, any posture and camera": [draw_unusual(seed) for seed in seeds],
    }
    rows, alarms = {}, []
    for has_mask in (True, False):
        end = "" if has_mask else ", no mask"
        for (group, drawn), is_estimated in product(right_takes.items(), (False, True)):
            name = group + (", estimated" if is_estimated else "") + end
            rows[name] = Counter()
            for take in drawn:
                files = right_files(take, has_mask)
                if is_estimated:
                    estimate = add_depth_errors(take.depth_video(), ESTIMATE_ERRORS, take.spec.seed)
                    files = files._replace(depth_m=estimate.depth_m)
                remark = placement_remark(take, files)
                rows[name][rate_remark(remark, "nothing")] += 1
                alarms += [f"{name}: {take.spec.seed}: {remark}"] if remark else []
        rows |= {error + end: count_remarks(takes, has_mask, error) for error in FILE_ERRORS}
    two = [add_bystander(take) for take in takes]
    for error in ("right", *TWO_PEOPLE_ERRORS):
        rows[f"two people, {error}"] = count_remarks(two, True, error)
    table = [f"| files | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    table += [
        f"| {name} | {' | '.join(str(row[x]) for x in COLUMNS)} |" for name, row in rows.items()
    ]
    result = {"first_seed": args.first_seed, "takes": args.takes, "rows": rows}
    return finish("alarms", result, args, "\n".join([*table, *alarms]))


if __name__ == "__main__":
    raise SystemExit(main())
