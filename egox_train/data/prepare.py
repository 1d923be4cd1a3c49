"""Turn raw takes into a training set (``prepare``)."""

import contextlib
import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.remarks import Remark, StageReport
from egox_core.safe_files import clear_leftovers, write_json

from ..options import DEFAULT_RUN_OPTIONS, DEFAULT_SET_OPTIONS, RunOptions, TrainingSetOptions
from ..parallel import RemoteModels, WorkerPlan, remote_models, run_items, stage_with_failures
from .clip_writer import ClipJob, OpenMaps, finished_clips, make_clip, takes_with_other_lens
from .manifest import SUBSTITUTE_DEPTH, ClipRecord
from .plan import by_camera
from .planned_run import plan_run
from .prepare_options import PrepareOptions
from .set_files import MANIFEST, Part, join_parts, part_file, write_lists, write_set_files

WRITE_INTERVAL_S = 30.0
"""Between two writings of manifest and splits; more where one takes long."""
MAX_ALIKE = 20
"""Failures of the file system of one kind after which nothing more is tried."""
SYSTEM_ERROR_PATTERN = re.compile(r"(\w*Error: \[Errno \d+\] [^:]*)")


@frozen
class ClipsMade:
    """Result of making the clips of one exo camera."""

    records: tuple[ClipRecord, ...]
    new: int
    skipped: tuple[tuple[str, str], ...]  # (clip, why)
    dark: tuple[str, ...]  # of them, those whose prior covers too little


@frozen
class PrepareOutcome(StageReport):
    """Result of ``prepare``, as in its report."""

    clips: int
    new: int  # this time; the others were there
    skipped: int
    skip_reasons: tuple[tuple[str, str], ...]  # (clip, camera or take, why)
    manifest: Path  # or the part's file


def prepare(
    source: Path,
    root: Path,
    options: PrepareOptions,
    set_options: TrainingSetOptions = DEFAULT_SET_OPTIONS,
    run_options: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    progress: Progress = no_progress,
) -> PrepareOutcome:
    """Prepare all takes of ``source`` into a training set: clips, manifest, splits, contact sheet
    and report.

    Manifest and splits are there from the first half minute on, so that a run that is ended leaves
    what it finished.

    Args:
        set_options: of its splits ``official`` keeps a take in the split that its dataset puts it
            in, ``rooms`` does not; takes without one are split by room, by its shares.
        run_options: its part (i, n) prepares every n-th take from the i-th on, for :func:`join` to
            complete.

    Raises:
        EgoXInputError: no such source or nothing usable in it, bad options or captions, clips of
            another lens of the wearer without ``set_options.new_lens``, a full disk or no
            permission. A bad take or clip never stops the others: it is named in the report.
    """
    start_time_s = time.monotonic()
    planned_run = plan_run(source, options, set_options, run_options, progress)
    shard_part = run_options.part
    part_record, is_complete = planned_run.part, shard_part == (0, 1)
    if not is_complete:  # what join finds is finished
        part_file(root, shard_part).unlink(missing_ok=True)
    clear_leftovers(root / "clips")
    # The clips of one exo camera of a take are what a process does at once.
    jobs = [clips for take_clips in planned_run.clips for clips in by_camera(take_clips)]
    _renew_lenses([clip for clips in jobs for clip in clips], root, set_options.new_lens)
    make_camera_clips = partial(make_clips, root=root, captions=planned_run.captions)
    fingerprints = _fingerprints(jobs, planned_run.captions)
    records = finished_clips(root, fingerprints)  # of a run before, until they were looked at
    next_write_s = start_time_s + WRITE_INTERVAL_S
    failure_counts: Counter[str] = Counter()
    try:
        with remote_models(run_options.engine, planned_run.devices) as models:
            devices = planned_run.devices
            if models:
                make_camera_clips, devices = partial(make_camera_clips, device=models), ()
            worker_plan = WorkerPlan(
                engine=run_options.engine, workers=run_options.workers, devices=devices
            )
            results = run_items(make_camera_clips, jobs, worker_plan)
            for count, (index, result, error) in enumerate(results, 1):
                for clip in jobs[index]:
                    records.pop(clip.name, None)
                if error:
                    first_clip = jobs[index][0]
                    part_record.skipped.append(
                        (f"{first_clip.take.name}__{first_clip.view.name}", error)
                    )
                    failure_counts[_disk_error(error)] += 1
                    if failure_counts[_disk_error(error)] >= MAX_ALIKE and _disk_error(error):
                        break
                else:
                    records |= {record.clip: record for record in result.records}
                    part_record.new += result.new
                    part_record.skipped += result.skipped
                    part_record.dark += result.dark
                if is_complete and records and time.monotonic() >= next_write_s:
                    write_start_s = time.monotonic()
                    write_lists(root, part_record, [*records.values()])
                    next_write_s = time.monotonic() + max(
                        WRITE_INTERVAL_S, 20 * (time.monotonic() - write_start_s)
                    )
                stage_title = stage_with_failures("cameras prepared", sum(failure_counts.values()))
                progress(count, len(jobs), stage_title)
    finally:
        if is_complete and records:
            with contextlib.suppress(OSError):
                write_lists(root, part_record, [*records.values()])
    disk_errors = [
        (skipped_item, skip_reason)
        for skipped_item, skip_reason in part_record.skipped
        if _disk_error(skip_reason)
    ]
    if disk_errors:  # a set that lacks clips because of the disk must not look finished
        raise EgoXInputError(
            "prepare",
            got=f"{len(disk_errors)} cameras that could not be written, of {len(jobs)}; first "
            f"{disk_errors[0][0]}: {disk_errors[0][1]}",
            expected="room on the disk, and the right to write",
            fix="mend it and start again: the clips that are done are kept, "
            "and those of the manifest can be used",
        )
    if not records and is_complete:
        first_reason = part_record.skipped[0][1] if part_record.skipped else "none"
        raise EgoXInputError(
            "prepare",
            got=f"no clip from {len(part_record.takes)} takes; first reason: {first_reason}",
            expected="at least one clip",
            fix="see the reasons; fewer frames fit shorter takes",
        )
    part_record.seconds = time.monotonic() - start_time_s
    if is_complete:
        return _make_outcome(
            part_record,
            len(records),
            root / MANIFEST,
            write_set_files(root, part_record, records.values()),
        )
    part_record.clips = {name: fingerprints[name] for name in records}
    write_json(part_file(root, shard_part), asdict(part_record))
    return _make_outcome(part_record, len(records), part_file(root, shard_part), ())


def join(root: Path) -> PrepareOutcome:
    """Join the parts that several ``prepare`` processes have made into one training set.

    Raises:
        EgoXInputError: as :func:`.set_files.join_parts`; no clip in any.
    """
    joined_part, records = join_parts(root)
    if not records:
        raise EgoXInputError(
            "parts", got="no clip in any", expected="at least one clip", fix="see their reasons"
        )
    return _make_outcome(
        joined_part, len(records), root / MANIFEST, write_set_files(root, joined_part, records)
    )


def _make_outcome(
    part: Part, clips: int, manifest: Path, notes: tuple[Remark, ...]
) -> PrepareOutcome:
    return PrepareOutcome(
        clips=clips,
        new=part.new,
        skipped=len(part.skipped),
        skip_reasons=tuple(part.skipped),
        manifest=manifest,
        notes=notes,
    )


def _renew_lenses(clips: Sequence[ClipJob], root: Path, new_lens: bool) -> None:
    """Delete clips that were made with another head camera lens, or refuse them without
    ``new_lens``."""
    other_lenses = takes_with_other_lens(clips, root)
    if other_lenses and not new_lens:
        take, (old_lens, current_lens) = next(iter(other_lenses.items()))
        raise EgoXInputError(
            "the wearer's lens",
            got=f"clips of {len(other_lenses)} takes with another one, first {take}: {old_lens}",
            expected=f"{current_lens}",
            fix="versions up to 1.2 read the lens of Ego-Exo4D's glasses 2.27 % too short. Prepare "
            "into a new folder, or give --new-lens to make those clips again",
        )
    for clip in clips:
        if clip.take.name in other_lenses:
            shutil.rmtree(root / "clips" / clip.name, ignore_errors=True)


def _fingerprints(jobs: Sequence[Sequence[ClipJob]], captions: Mapping[str, str]) -> dict[str, str]:
    """Compute the fingerprint of each clip, by name.

    Clips with an unusable caption are left out, and reported when they are made."""
    fingerprints = {}
    for clip in (clip for clips in jobs for clip in clips):
        with contextlib.suppress(EgoXInputError):
            fingerprints[clip.name] = clip.fingerprint(captions)
    return fingerprints


def _disk_error(error: str) -> str:
    """Describe a file system error that concerns all files, such as a full disk, or return ""."""
    error_match = SYSTEM_ERROR_PATTERN.match(error)
    return error_match[1] if error_match else ""


def _covers_too_little(record: ClipRecord, least_coverage: float) -> bool:
    """Check whether too little of a clip's prior is covered."""
    has_real_depth = record.depth != SUBSTITUTE_DEPTH
    return has_real_depth and (record.coverage <= 0 or record.coverage < least_coverage)


def make_clips(
    clips: Sequence[ClipJob],
    device: str | RemoteModels | None = None,
    *,
    root: Path,
    captions: Mapping[str, str],
) -> ClipsMade:
    """Make all clips of one exo camera, and report those that fail.

    Args:
        device: for the models, instead of the options'.
    """
    records, new_count, skipped_clips, low_coverage_clips = [], 0, [], []
    with OpenMaps() as open_maps:
        for clip in clips:
            if device is not None:
                clip = replace(clip, options=replace(clip.options, device=device))
            try:
                record, is_new = make_clip(clip, root, captions, open_maps)
            except EgoXInputError as error:
                skipped_clips.append((clip.name, str(error)))
                continue
            if _covers_too_little(record, clip.options.least_coverage):
                low_coverage_clips.append(clip.name)
                skipped_clips.append(
                    (clip.name, f"its prior covers {record.coverage:.1%} of the picture")
                )
                continue
            records.append(record)
            new_count += is_new
    return ClipsMade(
        records=tuple(records),
        new=new_count,
        skipped=tuple(skipped_clips),
        dark=tuple(low_coverage_clips),
    )
