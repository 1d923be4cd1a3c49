"""What each part is worth: the paper's Table 2 and Figure 8 on the small model, and what it can bear.

    python3 run.py bench ablation --base FILE --vae FILE --lora FILE --lora no_gga=FILE --lora no_prior=FILE \\
        --lora no_clean_latent=FILE --seeds FIRST COUNT --spec FILE [--groups parts attention ...] [--save]

Parts: LoRAs trained from the same base with the same steps, without geometry-guided attention, without ego prior (its
condition latent is a grey video's), without clean latent (exo noised alike). Attention: λ_g, modes and rays at
inference. Strength of the LoRA. Robustness: depth off as a network's is, depth missing, poses off, a wrong λ_g; with
and without the trust mask. Each row stands beside the full model on the same takes: the demo's steps, no CFG, 95 %
bootstrap intervals over takes. A row that is done is kept in ``--work``; a bench that was stopped goes on, within a
row by clips. Rows that the record has of the same weights stay in it when others are measured.

With the sampler's own takes and LoRAs (``--sampler``) no files need naming.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.support.record import RESULTS, add_arguments, figure_text, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.bootstrap import paired_difference
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import read_json, write_json, write_whole
from lab.small_model.ablation_rows import DISTURBANCES, GROUPS, Row, rows_of, with_depth_trust
from lab.small_model.arguments import LEAST_TAKES, add_take_arguments, held_out_clips, sampler_of
from lab.small_model.contract import (
    FULL,
    Sampler,
    SampleSettings,
    VideoStore,
    facts_of,
    input_hashes,
    key_of,
)
from lab.small_model.held_out import HeldOutClip
from lab.small_model.scores import Scores, mean_of, score_method

ROW_VERSION = 1  # raised when a disturbance or a score changes its meaning
COLUMNS = (("psnr", "PSNR", 2), ("ssim", "SSIM", 3), ("psnr_inside", "inside", 2), ("psnr_outside", "outside", 2),
           ("outlines", "outlines", 3), ("retrieval_hit", "retrieval", 2), ("colours_right", "object frames", 2))
DIFFERENCES = (("psnr", "Δ PSNR", 2), ("ssim", "Δ SSIM", 3), ("psnr_inside", "Δ inside", 2),
               ("psnr_outside", "Δ outside", 2), ("outlines", "Δ outlines", 3))
TITLES = {"parts": "What each part is worth", "attention": "The attention at inference", "strength": "LoRA strength",
          "robustness": "What it can bear"}
NOTE = "ablation_note.md"
"""Written by a person; it stands below the tables."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_take_arguments(parser, "ablation")
    parser.add_argument("--steps", type=int, default=SampleSettings().steps)
    parser.add_argument("--seed", type=int, default=1234, help="of the sampling noise")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rows", nargs="+", help="only rows of these names (and those that they are compared with)")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument("--trained-by", action="append", default=[], metavar="COMMAND",
                        help="a command that made the LoRAs, for the head of the table; may be given again")
    add_arguments(parser)
    args = parser.parse_args()
    sampler = sampler_of(args)
    rows = rows_of(sampler.loras(), SampleSettings(steps=args.steps, seed=args.seed), args.groups)
    rows = chosen_rows(rows, args.rows)
    if args.list:
        print("\n".join(f"{row.group}: {row.name}" for row in rows))
        return 0
    clips = held_out_clips(args, sampler)
    scores = {row.name: score_row(row, clips, sampler, args.work, ProgressLine()) for row in rows}
    result = {"takes": len(clips), "frames": len(clips[0].truth), "ego_px": clips[0].truth.shape[1],
              "steps": args.steps, "cfg": 1.0, "model": facts_of(sampler),
              "commands": [*args.trained_by, shlex.join(["python3", "run.py", "bench", "ablation", *_named(sys.argv)])],
              "rows": [figures(row, scores) for row in rows]}
    kept = RESULTS / "ablation.json"
    if args.save and kept.is_file():
        result = with_rows_of(read_json(kept, "record of the ablation"), result)
    table = markdown(result)
    if args.save:
        note = RESULTS / NOTE
        text = table + (f"\n{note.read_text(encoding='utf-8')}" if note.is_file() else "")
        with write_whole(RESULTS / "ablation.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
    finish("ablation", result, args, table)
    return 0 if len(clips) >= LEAST_TAKES else 1


def chosen_rows(rows: Sequence[Row], names: Sequence[str] | None) -> list[Row]:
    """The named rows with all that they are compared with, in table order."""
    if names is None:
        return list(rows)
    by_name = {row.name: row for row in rows}
    wanted, queue = {FULL}, [name for name in names if name in by_name]
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue.append(by_name[name].against)
    return [row for row in rows if row.name in wanted]


def score_row(row: Row, clips: Sequence[HeldOutClip], sampler: Sampler, work: Path,
              progress: Progress = no_progress) -> Scores:
    """The scores of one row, from the disk where they are there."""
    weights = sampler.fingerprint(row.settings.lora)  # so that a LoRA that is trained later takes no row along
    made_from = key_of(ROW_VERSION, weights, asdict(row.settings), row.disturbance,
                       *(part for clip in clips for part in (clip.name, *input_hashes(clip))))
    file = work / "rows" / f"{made_from}.json"
    if file.is_file():
        progress(len(clips), len(clips), f"{row.name} (kept)")
        return read_json(file, "row of the ablation")["scores"]
    store = VideoStore(folder=work / "videos", model=weights)
    disturbed = [DISTURBANCES[row.disturbance](clip) for clip in clips]
    if row.settings.soft_trust:
        disturbed = [with_depth_trust(clip) for clip in disturbed]
    scores = score_method(store.generated(sampler, disturbed, row.settings, row.name, progress), clips)
    write_json(file, {"row": row.name, "settings": asdict(row.settings), "disturbance": row.disturbance,
                      "scores": scores})
    return scores


def figures(row: Row, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Means, and differences to what the row is compared with, each with its interval."""
    own, other = scores[row.name], scores[row.against]
    take_of = {clip: clip for clip in own["psnr"]}
    differences = {} if row.name == row.against else {
        key: paired_difference(own[key], other[key], take_of) for key, _, _ in DIFFERENCES}
    return {"row": row.name, "group": row.group, "against": row.against, "settings": asdict(row.settings),
            "disturbance": row.disturbance,
            "means": {key: estimate.as_dict() for key, _, _ in COLUMNS if (estimate := mean_of(own, key)) is not None},
            "differences": {key: estimate.as_dict() for key, estimate in differences.items() if estimate is not None}}


def with_rows_of(before: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """The result with the rows that only the record ``before`` has, where both have the same takes, noise and weights:
    LoRAs of an ablation lie where they were trained, and all rows together take hours."""
    weights = [record["model"]["weights"] for record in (before, result)]
    settings = [record["rows"][0]["settings"] for record in (before, result)]  # of the full model: seed, steps
    same = settings[0] == settings[1] and all(before[key] == result[key] for key in ("takes", "frames", "ego_px"))
    if not same or any(weights[0][part] != weights[1][part] for part in weights[0].keys() & weights[1].keys()):
        return dict(result)
    model = {**result["model"], "weights": weights[0] | weights[1],
             "loras": before["model"]["loras"] | result["model"]["loras"]}
    rows = {row["row"]: row for row in (*before["rows"], *result["rows"])}
    order = [row.name for row in rows_of(tuple(model["loras"]), SampleSettings(steps=result["steps"]))]
    commands = [*before["commands"], *(command for command in result["commands"] if command not in before["commands"])]
    return {**result, "model": model, "commands": commands, "rows": [rows[name] for name in order if name in rows]}


def markdown(result: Mapping[str, Any]) -> str:
    """A table a group, a row a setting."""
    lines = ["# Ablation on the small model", "", "```", *result["commands"], "```", "",
             f"{result['takes']} held-out takes, {result['frames']} frames, ego {result['ego_px']} px; "
             f"{result['steps']} steps, no CFG. Means with 95 % bootstrap intervals over takes; Δ is the row minus "
             "what it is compared with, on the same takes.", ""]
    full = result["rows"][0]
    for group, title in TITLES.items():
        rows = [row for row in result["rows"] if row["group"] == group and row is not full]
        if not rows:
            continue
        lines += [f"## {title}", "", "| | compared with | " + " | ".join(
            label for _, label, _ in (*DIFFERENCES, *COLUMNS)) + " |", "| --- " * (2 + len(DIFFERENCES) + len(COLUMNS))
            + "|"]
        for row in (full, *rows):
            cells = [*(figure_text(row["differences"].get(key), digits, "+") for key, _, digits in DIFFERENCES),
                     *(figure_text(row["means"].get(key), digits) for key, _, digits in COLUMNS)]
            lines.append(f"| {row['row']} | {'' if row is full else row['against']} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _named(arguments: Sequence[str]) -> list[str]:
    """The command's arguments with files by their names: where they lay means nothing elsewhere."""
    out = []
    for text in arguments[1:]:
        name, equals, value = text.partition("=")
        path = Path(value if equals else text)
        out.append((f"{name}=" if equals else "") + path.name if path.is_absolute() else text)
    return out


if __name__ == "__main__":
    raise SystemExit(main())
