"""``prepare``: raw takes to a training set; goes on where it stopped, skips what can't be used and says why."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..errors import EgoXInputError
from ..parallel import (
    RemoteModels,
    cluster_cpus,
    devices_of,
    has_gpu,
    part_of,
    remote_models,
    run_items,
)
from ..progress import Progress, no_progress
from .captions import read_captions
from .clip_masks import check_mask_source
from .clip_writer import ClipJob, OpenMaps, clear_leftovers, make_clip
from .egoexo4d import NO_TASK
from .manifest import ClipRecord, check_fractions, read_manifest
from .object_masks import objects_of
from .parts import (
    MANIFEST,
    Part,
    SplitSource,
    finish,
    join_parts,
    part_file,
    write_lists,
    write_part,
)
from .plan import TakeJob, TakePlan, most_of, plan_take
from .prepare_options import PrepareOptions
from .raw_take import RawTake
from .sources import list_takes

KEPT_EVERY_S = 30.0
"""Between two writings of manifest and splits; more where one takes long."""
MOST_ALIKE = 20
"""Failures of the file system of one kind after which nothing more is tried."""
SYSTEM_ERROR = re.compile(r"(\w*Error: \[Errno \d+\] [^:]*)")
MEASURED = 4  # clips that are made to tell what all of them take
FILES_OF_A_CLIP = 6  # exo, prior, depth, coverage, meta.json, clip.json
FILES_OF_A_SET = 6  # manifest, report, contact sheet, three splits
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraJob:
    """The clips of one exo camera of a take: what a process does at once."""

    clips: tuple[ClipJob, ...]
    root: Path
    captions: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.clips[0].take.name}__{self.clips[0].view.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipsMade:
    """Clips of one camera, made or not."""

    records: tuple[ClipRecord, ...]
    new: int
    skipped: tuple[tuple[str, str], ...]  # (clip, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOutcome:
    """What ``prepare`` did, as its report says."""

    clips: int
    new: int  # this time; the others were there
    skipped: int
    manifest: Path  # or the part's file
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareSums:
    """Sums of a whole run: what it would leave, and how long it would take."""

    takes: int
    clips: int
    skipped: int
    files: int
    size_bytes: int
    hours: float
    at_once: int  # clips that are made at the same time
    measured: int  # clips that were made, to tell


@dataclass(slots=True, kw_only=True)
class _Planned:
    """A run up to its first frame."""

    part: Part
    plans: list[TakePlan]
    devices: tuple[str, ...]
    options: PrepareOptions
    captions: Mapping[str, str]


def prepare(
    source: Path,
    root: Path,
    options: PrepareOptions,
    *,
    layout: str = "auto",
    engine: str = "local",
    workers: int = 1,
    captions: Path | None = None,
    fractions: Mapping[str, float] | None = None,
    split_seed: int = 0,
    splits: SplitSource = "official",
    part: tuple[int, int] = (0, 1),
    progress: Progress = no_progress,
) -> PrepareOutcome:
    """Prepares all takes of ``source`` into ``root``: clips, manifest, splits, contact sheet, report.

    Manifest and splits are there from the first half minute on, so that a run that is ended leaves
    what it finished.

    Args:
        splits: ``official`` keeps a take in the split that its dataset puts it in, ``rooms`` does not; takes without
            one are split by room, by ``fractions``.
        part: (i, n) prepares every n-th take from the i-th on, for :func:`join` to complete.

    Raises:
        EgoXInputError: no such source or nothing usable in it, bad options or captions, a full disk
            or no permission. A bad take or clip never stops the others: it is named in the report.
    """
    started = time.monotonic()
    run = _planned(
        source,
        root,
        options,
        layout,
        engine,
        workers,
        captions,
        fractions,
        split_seed,
        splits,
        part,
        progress,
    )
    own = run.part
    clear_leftovers(root / "clips")
    jobs = [
        CameraJob(clips=tuple(clips), root=root, captions=run.captions)
        for plan in run.plans
        for clips in _by_camera(plan.clips)
    ]
    keeper = _Keeper(root=root, part=own, place=part, jobs=jobs)
    failed: Counter[str] = Counter()
    try:
        with remote_models(engine, run.devices) as models:
            work, devices = (
                (partial(make_clips, device=models), ()) if models else (make_clips, run.devices)
            )
            results = run_items(work, jobs, engine=engine, workers=workers, devices=devices)
            for count, (index, result, error) in enumerate(results, 1):
                keeper.done(index)
                if error:
                    own.skipped.append((jobs[index].name, error))
                    failed[_kind(error)] += 1
                    if failed[_kind(error)] >= MOST_ALIKE and _kind(error):
                        break
                else:
                    own.records += result.records
                    own.new += result.new
                    own.skipped += result.skipped
                keeper.now_and_then(started)
                lost = sum(failed.values())
                progress(
                    count, len(jobs), "cameras prepared" + (f", {lost} failed" if lost else "")
                )
    except BaseException:
        with contextlib.suppress(OSError):
            keeper.write(started)
        raise
    disk = [(what, why) for what, why in own.skipped if _kind(why)]
    if disk:  # a set that lacks clips because of the disk must not look finished
        with contextlib.suppress(OSError):
            keeper.write(started)
        raise EgoXInputError(
            "prepare",
            got=f"{len(disk)} cameras that could not be written, of {len(jobs)}; first "
            f"{disk[0][0]}: {disk[0][1]}",
            expected="room on the disk, and the right to write",
            fix="mend it and start again: the clips that are done are kept, "
            "and those of the manifest can be used",
        )
    if not own.records and part == (0, 1):
        reason = own.skipped[0][1] if own.skipped else "none"
        raise EgoXInputError(
            "prepare",
            got=f"no clip from {len(own.takes)} takes; first reason: {reason}",
            expected="at least one clip",
            fix="see the reasons; fewer frames fit shorter takes",
        )
    own.finished = True
    if part == (0, 1):
        own.seconds = time.monotonic() - started
        return _outcome(own, root / MANIFEST, finish(root, own))
    keeper.write(started)
    return _outcome(own, part_file(root, part), ())


def join(root: Path) -> PrepareOutcome:
    """The set of all parts that lie in ``root``.

    Raises:
        EgoXInputError: as :func:`.parts.join_parts`; no clip in any.
    """
    whole = join_parts(root)
    if not whole.records:
        raise EgoXInputError(
            "parts", got="no clip in any", expected="at least one clip", fix="see their reasons"
        )
    return _outcome(whole, root / MANIFEST, finish(root, whole))


def _outcome(part: Part, manifest: Path, warnings: tuple[str, ...]) -> PrepareOutcome:
    return PrepareOutcome(
        clips=len(part.records),
        new=part.new,
        skipped=len(part.skipped),
        manifest=manifest,
        warnings=warnings,
    )


def dry_run(
    source: Path,
    root: Path,
    options: PrepareOptions,
    *,
    layout: str = "auto",
    engine: str = "local",
    workers: int = 1,
    captions: Path | None = None,
    part: tuple[int, int] = (0, 1),
    progress: Progress = no_progress,
) -> PrepareSums:
    """Sums of a :func:`prepare`: clips and files are counted, bytes and hours follow from a few
    clips.

    Those are made in a folder that is removed again; only the plans stay in ``root``.

    Raises:
        EgoXInputError: as :func:`prepare`; no clip could be made.
    """
    run = _planned(
        source,
        root,
        options,
        layout,
        engine,
        workers,
        captions,
        None,
        0,
        "official",
        part,
        progress,
    )
    clips = [clip for plan in run.plans for clip in plan.clips]
    if not clips:
        raise EgoXInputError(
            "prepare",
            got=f"no clip from {len(run.part.takes)} takes",
            expected="at least one clip",
            fix="start without --dry-run and see the reasons",
        )
    sizes, times, why = [], [], ""
    with tempfile.TemporaryDirectory(prefix="egox-") as folder, OpenMaps() as maps:
        for index in range(min(MEASURED, len(clips))):
            clip = clips[(2 * index + 1) * len(clips) // (2 * min(MEASURED, len(clips)))]
            device = (
                run.devices[0] if run.devices and engine != "ray" else None
            )  # a cluster's aren't here
            clip = replace(clip, options=replace(clip.options, device=device))
            began = time.monotonic()
            try:
                record, _ = make_clip(clip, Path(folder), run.captions, maps)
            except EgoXInputError as error:
                why = str(error)
                continue
            times.append(time.monotonic() - began)
            sizes.append(
                sum(file.stat().st_size for file in (Path(folder) / record.folder).iterdir())
            )
            progress(index + 1, MEASURED, "clips measured")
    if not sizes:
        raise EgoXInputError(
            "prepare",
            got=f"none of {MEASURED} clips that could be made; {why}",
            expected="clips to measure",
            fix="see the reason",
        )
    # The first one has the models to load, which a run does once.
    each_s = sorted(times)[(len(times) - 1) // 2]
    at_once = min(
        len(clips), cluster_cpus() if engine == "ray" else max(workers, len(run.devices), 1)
    )
    files = sum(
        FILES_OF_A_CLIP
        + (clip.take.ego_video is not None)
        + (objects_of(clip.take.ego_video) is not None)
        for clip in clips
    )
    plans = len(list((root / "plans").glob("*.json")))
    return PrepareSums(
        takes=sum(bool(plan.clips) for plan in run.plans),
        clips=len(clips),
        skipped=len(run.part.skipped),
        files=files + FILES_OF_A_SET + plans,
        size_bytes=round(sum(sizes) / len(sizes) * len(clips)),
        measured=len(sizes),
        hours=each_s * len(clips) / at_once / 3600,
        at_once=at_once,
    )


def _planned(
    source: Path,
    root: Path,
    options: PrepareOptions,
    layout: str,
    engine: str,
    workers: int,
    captions: Path | None,
    fractions: Mapping[str, float] | None,
    split_seed: int,
    splits: SplitSource,
    place: tuple[int, int],
    progress: Progress,
) -> _Planned:
    """All that is looked at before a frame is decoded."""
    fractions = check_fractions(
        fractions if fractions is not None else {"validation": 0.05, "test": 0.05}
    )
    prompts = read_captions(captions) if captions is not None else {}
    skipped: list[tuple[str, str]] = []
    takes = list(list_takes(source, layout, skipped, options.source_lens))
    if not takes:
        raise EgoXInputError(
            "source",
            got="no usable take" + (f"; first: {skipped[0][1]}" if skipped else ""),
            expected="at least one",
            fix="see the messages; check the folder's layout",
        )
    _refuse_twins(takes)
    devices = _model_devices(options, engine)
    if devices:  # a cluster's workers get theirs later; the checks here run on what is here
        options = replace(options, device=None if engine == "ray" else devices[0])
    _check_depth_source(takes, options)
    alone = len(takes) == 1
    takes = [_with_task(take, options, alone) for take in sorted(takes, key=lambda take: take.name)]
    takes = part_of(takes, place)
    check_mask_source(options)
    if options.caption_model is not None:
        from .captions import load_caption_model

        load_caption_model(
            options.caption_model, options.device
        )  # a folder that is none must not cost a day's clips
    root.mkdir(parents=True, exist_ok=True)
    own = Part.of(
        takes,
        {
            "options": {
                k: str(v) if isinstance(v, Path) else v for k, v in options.content().items()
            },
            "fractions": dict(fractions),
            "split_seed": split_seed,
            "splits": splits,
        },
    )
    own.skipped += skipped
    plans, unread = [], []
    jobs = [TakeJob(take=t, root=root, options=options) for t in takes]
    for count, (index, plan, error) in enumerate(
        run_items(plan_take, jobs, engine=engine, workers=workers), 1
    ):
        name = takes[index].name
        if error:
            own.skipped.append((name, error))
        else:
            plans.append((name, plan))
            own.skipped += plan.skipped
            unread += plan.skipped[-plan.unread :] if plan.unread else ()
            if plan.notes:
                own.notes[name] = list(plan.notes)
        progress(count, len(jobs), "takes checked")
    if unread:
        logger.warning(
            "%d clips or cameras are left out, whose depth or mask can't be had; first %s: %s",
            len(unread),
            *unread[0],
        )
    most = options.most_clips // place[1] + (place[0] < options.most_clips % place[1])
    plans = [plan for _, plan in sorted(plans, key=lambda named: named[0])]
    return _Planned(
        part=own,
        devices=devices,
        options=options,
        captions=prompts,
        plans=most_of(plans, most, options) if options.most_clips else plans,
    )


@dataclass(slots=True, kw_only=True)
class _Keeper:
    """Writes what is finished while the rest is made."""

    root: Path
    part: Part
    place: tuple[int, int]
    jobs: Sequence[CameraJob]
    next_s: float = field(default_factory=lambda: time.monotonic() + KEPT_EVERY_S)
    waiting: set[str] = field(init=False)  # clips that weren't looked at yet
    before: list[ClipRecord] = field(init=False)  # of an earlier run

    def __post_init__(self) -> None:
        self.waiting = {clip.name for job in self.jobs for clip in job.clips}
        file = self.root / MANIFEST
        self.before = (
            read_manifest(file, check_files=False)
            if file.is_file() and self.place == (0, 1)
            else []
        )

    def done(self, index: int) -> None:
        """The clips of this job are made, or can't be."""
        self.waiting -= {clip.name for clip in self.jobs[index].clips}

    def now_and_then(self, started: float) -> None:
        """Writes, unless it did a moment ago."""
        if time.monotonic() < self.next_s:
            return
        began = time.monotonic()
        self.write(started)
        self.next_s = time.monotonic() + max(KEPT_EVERY_S, 20 * (time.monotonic() - began))

    def write(self, started: float) -> None:
        """Manifest and splits, or the part's file. Clips that weren't looked at again are those of
        the run before."""
        self.part.seconds = time.monotonic() - started
        if self.place != (0, 1):
            write_part(part_file(self.root, self.place), self.part)
            return
        records = self.part.records + [
            record for record in self.before if record.clip in self.waiting
        ]
        if records:
            write_lists(self.root, self.part, records)


def _by_camera(clips: Sequence[ClipJob]) -> list[list[ClipJob]]:
    cameras: dict[str, list[ClipJob]] = {}
    for clip in clips:
        cameras.setdefault(clip.view.name, []).append(clip)
    return list(cameras.values())


def _kind(error: str) -> str:
    """Of an error of the file system, what is the same for all files; "" of any other."""
    found = SYSTEM_ERROR.match(error)
    return found[1] if found else ""


def _model_devices(options: PrepareOptions, engine: str) -> tuple[str, ...]:
    """Where depth, mask and caption models run; none where there are none."""
    if options.depth != "model" and options.mask_model is None and options.caption_model is None:
        return ()
    return devices_of(options.device or ("cuda" if has_gpu(engine) else "cpu"), engine)


def make_clips(job: CameraJob, device: str | RemoteModels | None = None) -> ClipsMade:
    """All clips of one camera; a clip that fails is reported and the next one is made.

    Args:
        device: for the models, instead of the options'.
    """
    records, new, skipped = [], 0, []
    with OpenMaps() as maps:
        for clip in job.clips:
            if device is not None:
                clip = replace(clip, options=replace(clip.options, device=device))
            try:
                record, is_new = make_clip(clip, job.root, job.captions, maps)
            except EgoXInputError as error:
                skipped.append((clip.name, str(error)))
                continue
            records.append(record)
            new += is_new
    return ClipsMade(records=tuple(records), new=new, skipped=tuple(skipped))


def _check_depth_source(takes: list[RawTake], options: PrepareOptions) -> None:
    """What no take of the run could be prepared without, before anything else is looked at."""
    if (
        options.depth == "files"
        and options.depth_root is None
        and all(t.layout == "egoexo4d" for t in takes)
    ):
        raise EgoXInputError(
            "prepare",
            got="--depth files without --depth-root, of a dataset that holds no depth",
            expected="depth of its exo videos",
            fix="give --depth-model FOLDER; or write the videos "
            "with `train_egox.py undistort`, run any depth tool on them and give --depth-root "
            "FOLDER; "
            "--depth plane is a stand-in to try the way with",
        )
    if options.depth_root is not None and not options.depth_root.is_dir():
        raise EgoXInputError(
            "depth root",
            got=f"{options.depth_root.name!r}, which is no folder",
            expected="the folder of <take>__<camera>.npz",
            fix="check the path",
        )
    if options.depth == "model":
        from .depth_model import check_models

        check_models(options)


def _with_task(take: RawTake, options: PrepareOptions, alone: bool) -> RawTake:
    """The take with the task that was asked for: of the only take, or where the source doesn't say."""
    if options.task_s is not None and (alone or take.task_s is None):
        take = replace(take, task_s=options.task_s)
    if take.task_s is None and take.layout == "egoexo4d":
        take = replace(take, notes=(*take.notes, NO_TASK))
    return take


def _refuse_twins(takes: list[RawTake]) -> None:
    names = [t.name for t in takes]
    twins = sorted({n for n in names if names.count(n) > 1})
    if twins:
        raise EgoXInputError(
            "source",
            got=f"two takes named {twins[0]}",
            expected="a name of its own for each",
            fix="rename one: clips and splits go by the take's name",
        )
