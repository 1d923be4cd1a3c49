"""Evaluate a folder of generated ego videos against a manifest: metrics per clip, a report, and a
contact sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from egox_core.errors import EgoXInputError
from egox_core.file_names import EXO, PRIOR, TRUTH
from egox_core.frame_store import sample_frames
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import atomic_write, clear_leftovers, require_folder, write_json
from egox_core.video import Tint
from egox_core.wan import read_header, read_tensor, write_streamed

from ..contact_sheet import SheetRow, make_contact_sheet, write_png
from ..data.clip_files import middle_picture
from ..data.manifest import ClipRecord, read_splits
from ..options import DEFAULT_RUN_OPTIONS, EvaluateOptions, RunOptions
from ..parallel import (
    RunEstimate,
    WorkerPlan,
    estimate_run,
    run_all,
    select_shard,
)
from ..wan.weights import weights_bytes, weights_hash
from .baselines import BASELINE_NAMES
from .clip_lists import clips_of
from .clip_row import (
    GENERATED,
    SET_METRIC_KEYS,
    TRUE_NAME,
    RowJob,
    features_file,
    features_key,
    make_row,
    network,
)
from .columns import DINO_WEIGHTS
from .protocols import Protocol, protocol_named
from .report import SEED, build_report, markdown_report, protocol_of, references_of, seed_name

REPORT_FILE, TABLE_FILE, SHEET_FILE, ROWS_FOLDER = (
    "report.json",
    "report.md",
    "contact_sheet.png",
    "rows",
)


@frozen
class EvaluateOutcome:
    """Result of evaluating a folder of generated ego videos."""

    report: dict[str, Any]  # empty of a part, whose rows a call for the whole takes up
    clips: int
    kept: int  # rows that were there already
    errors: Mapping[str, str]  # clip -> why it has no row


def evaluate(
    manifest: Path,
    generated: Path,
    out: Path,
    options: EvaluateOptions | None = None,
    run: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    progress: Progress = no_progress,
) -> EvaluateOutcome | RunEstimate:
    """Evaluate the generated ego video ``generated``/<clip>.mp4 of every clip in a manifest.

    Writes report.json, report.md and contact_sheet.png to ``out``.

    Finished rows stay in ``out``/rows and are taken as they are while their files and settings are
    the same, so a call that was killed goes on, and gives the report that it would have given. A
    clip that can't be evaluated is named in the report with the reason; the others are evaluated.

    Raises:
        EgoXInputError: nothing to evaluate, bad manifest, missing folders, weights missing or of
            another network.
    """
    options = options or EvaluateOptions()
    protocol = protocol_named(options.protocol)
    _check_weights(options, protocol)
    if options.fit_colour is not None:
        read_header(options.fit_colour, "LoRA")  # before hours of rows
    if not protocol.with_prior:
        options = replace(options, baselines=False, sheet_clips=0)
    all_records, root, records = clips_of(manifest, options.split, options.protocol)
    records = select_shard(records, run.part, run.clips)
    videos = _with_seed_numbers(((GENERATED, generated), *options.also))
    _check_folders(videos, options)
    for require_package in protocol.require_packages:
        require_package()
    worker_plan = WorkerPlan.of(run, options.device, weights_bytes(*options.weights.values()))
    in_this_process = worker_plan.in_this_process
    weight_hashes = {
        name: weights_hash(file, f"{name} weights") for name, file in options.weights.items()
    }
    for name, file in options.weights.items():  # a wrong one must not cost a day of rows
        network_name = protocol.feature_network if name == "dino" else name
        network(network_name, file, worker_plan.devices[0] if in_this_process else "cpu")
        if not in_this_process:  # the workers open their own
            network.cache_clear()
    jobs = [
        RowJob(
            root=root,
            record=r,
            videos=videos,
            rows=out / ROWS_FOLDER,
            options=options,
            hashes=weight_hashes,
            one_thread=not in_this_process,
        )
        for r in records
    ]
    if run.dry_run:
        return estimate_run(make_row, jobs, "rows", worker_plan)
    names = [record.clip for record in records]
    clear_leftovers(out / ROWS_FOLDER, names=set(names))
    errors_by_clip, results = run_all(
        make_row, jobs, names, worker_plan, stage="evaluating clips", progress=progress
    )
    rows = sorted((row for row, _ in results), key=lambda row: row["clip"])
    reused_count = sum(not is_new for _, is_new in results)
    if run.part != (0, 1):
        return EvaluateOutcome(
            report={}, clips=len(records), kept=reused_count, errors=errors_by_clip
        )
    set_features = (
        _load_features(rows, out / ROWS_FOLDER) if SET_METRIC_KEYS & options.weights.keys() else {}
    )
    report = build_report(
        rows,
        dict(sorted(errors_by_clip.items())),
        options=_report_options(options, run),
        weights=weight_hashes,
        protocol=protocol_of(records, weight_hashes, options.protocol, rows),
        columns=protocol.columns,
        references=references_of(options.split) if options.protocol else {},
        sets_of=lambda clips: _set_distances(
            [set_features[clip] for clip in clips if clip in set_features],
            [name for name, _ in videos],
            options.weights,
        ),
        groups=_groups(all_records, records, read_splits(manifest)) if protocol.with_prior else {},
    )
    write_json(out / REPORT_FILE, report)
    with atomic_write(out / TABLE_FILE) as temporary_file:
        temporary_file.write_text(markdown_report(report), "utf-8")
    if options.fit_colour is not None and rows:
        _keep_tint(options.fit_colour, rows, len({r.room or r.take for r in records}))
    if options.sheet_clips > 0 and rows:
        good_clips = {row["clip"] for row in rows}
        good_records = [r for r in records if r.clip in good_clips]
        write_png(
            out / SHEET_FILE,
            make_contact_sheet(
                [
                    _sheet_row(manifest.parent, good_records[index], generated)
                    for index in sample_frames(len(good_records), options.sheet_clips)
                ]
            ),
        )
    return EvaluateOutcome(
        report=report, clips=len(records), kept=reused_count, errors=errors_by_clip
    )


def _keep_tint(lora: Path, rows: Sequence[Mapping[str, Any]], sites: int) -> None:
    """Fit the gains that take a LoRA's tint back, and write them into its metadata."""
    drawn_means, true_means = (
        torch.tensor([row["mean_colours"][name] for row in rows]) for name in (GENERATED, TRUE_NAME)
    )
    header = dict(read_header(lora, "LoRA"))
    metadata = header.pop("__metadata__", {})

    def tensor_of(name: str) -> torch.Tensor:
        return read_tensor(lora, header, name, "LoRA")

    write_streamed(
        lora,
        {name: (tuple(entry["shape"]), tensor_of(name).dtype) for name, entry in header.items()},
        tensor_of,
        {**metadata, Tint.KEY: Tint.fit(drawn_means, true_means, sites).text()},
    )


def _sheet_row(root: Path, record: ClipRecord, generated: Path) -> SheetRow:
    """Build a contact sheet row with the middle frames of a clip's videos."""
    folder = root / record.folder
    files = (folder / EXO, folder / PRIOR, generated / f"{record.clip}.mp4", folder / TRUTH)
    return SheetRow(
        pictures=[middle_picture(file, record.frames) for file in files],
        labels=(f"{record.clip[-28:]} exo", "prior", "generated", "truth"),
    )


def _with_seed_numbers(videos: Sequence[tuple[str, Path]]) -> tuple[tuple[str, Path], ...]:
    """Add seed numbers to the names of methods that have several video folders."""
    names = [name for name, _ in videos]
    return tuple(
        (seed_name(name, 1 + names[:index].count(name)), folder)
        for index, (name, folder) in enumerate(videos)
    )


def _groups(
    everyone: Sequence[ClipRecord], records: Sequence[ClipRecord], split_of: Mapping[str, str]
) -> dict[str, dict[str, list[str]]]:
    """Group the evaluated clips by split, scene and task.

    Clips whose group isn't known are left out.
    """
    training_rooms = {r.room for r in everyone if split_of.get(r.clip) == "train"}
    groups: dict[str, dict[str, list[str]]] = {}
    for record in records:
        scene_group = "seen in training" if record.room in training_rooms else "unseen"
        names = {
            "split": split_of.get(record.clip, ""),
            "seen and unseen scenes": scene_group if record.room else "",
            "scene": record.room,
            "task": record.task,
        }
        for group_kind, name in names.items():
            if name:
                groups.setdefault(group_kind, {}).setdefault(name, []).append(record.clip)
    return {
        group_kind: dict(sorted(clips_by_name.items()))
        for group_kind, clips_by_name in groups.items()
        if len(clips_by_name) > 1
    }


def _check_weights(options: EvaluateOptions, protocol: Protocol) -> None:
    """Refuse network weights and masks that the evaluation protocol doesn't use."""
    if protocol.with_prior:
        return
    metric_keys = {metric.key for metric in protocol.columns}
    if unused_weights := (SET_METRIC_KEYS & options.weights.keys()) - metric_keys:
        raise EgoXInputError(
            f"--{min(unused_weights)}",
            got=f"weights with --protocol {options.protocol}",
            expected="weights of its columns",
            fix=f"leave --{min(unused_weights)} out, or leave --protocol out",
        )
    if options.masks is not None and "dino" not in options.weights:
        raise EgoXInputError(
            "--masks",
            got="no --dino",
            expected=f"both: --protocol {options.protocol} matches objects by their looks",
            fix=DINO_WEIGHTS,
        )


def _check_folders(videos: Sequence[tuple[str, Path]], options: EvaluateOptions) -> None:
    reserved_names = {TRUE_NAME, *BASELINE_NAMES}
    if any(n in reserved_names or not n.strip() or SEED in n for n, _ in options.also):
        raise EgoXInputError(
            "--also",
            got=", ".join(n for n, _ in options.also),
            expected=f"{GENERATED}, or names of their own",
            fix=f"don't use {', '.join(sorted(reserved_names))}",
        )
    for folder_name, folder in (*videos, ("masks", options.masks)):
        require_folder(folder, f"folder of {folder_name}", "a folder with one file per clip")


def _report_options(options: EvaluateOptions, run: RunOptions) -> dict[str, Any]:
    """List the evaluation options for the report, without file paths."""
    return {
        "split": options.split or "all",
        **({"clips": run.clips} if run.clips else {}),
        "baselines": options.baselines,
    }


def _load_features(rows: list[dict[str, Any]], folder: Path) -> dict[str, dict[str, np.ndarray]]:
    features_by_clip = {}
    for row in rows:
        with np.load(features_file(folder, row["clip"]), allow_pickle=False) as archive:
            features_by_clip[row["clip"]] = {name: archive[name] for name in archive.files}
    return features_by_clip


def _set_distances(
    clip_arrays: list[dict[str, np.ndarray]], methods: Sequence[str], weights: Mapping[str, Path]
) -> dict[str, dict[str, float]]:
    """Compute distances between sets of videos, such as FVD, for each method.

    The baselines' would take as long again for each.
    """
    if len(clip_arrays) < 2:
        return {}
    from .fvd import frechet_distance

    return {
        column: {
            name: round(
                frechet_distance(
                    *(
                        [arrays[features_key(column, video)] for arrays in clip_arrays]
                        for video in (name, TRUE_NAME)
                    )
                ),
                4,
            )
            for name in methods
        }
        for column in sorted(SET_METRIC_KEYS & weights.keys())
    }
