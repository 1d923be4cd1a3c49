"""``prepare``: raw takes to a training set; goes on where it stopped, skips what can't be used and says why."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import EgoXInputError
from ..file_names import EXO, PRIOR, TRUTH
from ..parallel import devices_of, has_gpu, run_items
from ..previews.contact_sheet import SheetRow, make_contact_sheet, spread, write_png
from ..prior.rank import ExoCandidate, rank_exo_cameras
from ..progress import Progress, no_progress
from ..safe_files import write_json, write_whole
from ..types import CameraTrajectory
from ..video.reader import probe_video
from ..video.selection import VideoInfo
from .captions import read_captions
from .clip_files import clip_windows, longest_known, middle_picture
from .clip_masks import check_mask_source, with_mask
from .clip_writer import ClipJob, OpenMaps, clear_leftovers, clips_without_depth, make_clip
from .egoexo4d import NO_TASK
from .exo_pictures import exo_pictures, turned_against
from .ground_plane import GroundPlane, ground_plane, plane_coverage
from .manifest import ClipRecord, check_fractions, split_lists, write_manifest
from .prepare_options import PrepareOptions
from .raw_take import ExoView, RawTake
from .sources import list_takes

MANIFEST, REPORT, SHEET = "manifest.jsonl", "report.json", "contact_sheet.png"
SplitSource = Literal["official", "rooms"]
logger = logging.getLogger(__name__)
DEPTH_SUFFIXES = (".npz", ".npy", ".zip", "")  # of --depth-root; the last: a folder of frames
SHEET_CLIPS, SHEET_HEIGHT = 24, 112  # of the contact sheet: clips shown, px of their pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeJob:
    """One take to prepare; picklable, so that a process or a Ray worker can have it."""

    take: RawTake
    root: Path
    options: PrepareOptions
    captions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePlan:
    """The clips of a take, exo camera by exo camera, after their inputs were checked; nothing is decoded yet."""

    clips: tuple[ClipJob, ...]
    root: Path
    captions: Mapping[str, str]
    skipped: tuple[tuple[str, str], ...]  # (clip or camera, why)
    unread: int  # of them, clips and cameras whose depth or mask can't be had
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeResult:
    """What became of a take's clips."""

    records: tuple[ClipRecord, ...]
    new: int
    skipped: tuple[tuple[str, str], ...]  # (clip, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOutcome:
    """What ``prepare`` did, as its report says."""

    clips: int
    new: int  # this time; the others were there
    skipped: int
    manifest: Path
    warnings: tuple[str, ...] = ()


def prepare(source: Path, root: Path, options: PrepareOptions, *, layout: str = "auto", engine: str = "local",
            workers: int = 1, captions: Path | None = None, fractions: Mapping[str, float] | None = None,
            split_seed: int = 0, splits: SplitSource = "official", progress: Progress = no_progress) -> PrepareOutcome:
    """Prepares all takes of ``source`` into ``root``: clips, manifest, splits, contact sheet, report.

    Args:
        splits: ``official`` keeps a take in the split that its dataset puts it in, ``rooms`` does not; takes without
            one are split by room, by ``fractions``.

    Raises:
        EgoXInputError: no such source or nothing usable in it, bad options or captions. A bad take or clip never stops
            the others: it is named in the report.
    """
    fractions = check_fractions(fractions if fractions is not None else {"validation": 0.05, "test": 0.05})
    prompts = read_captions(captions) if captions is not None else {}
    skipped: list[tuple[str, str]] = []
    takes = list(list_takes(source, layout, skipped, options.source_lens))
    if not takes:
        raise EgoXInputError("source", got="no usable take" + (f"; first: {skipped[0][1]}" if skipped else ""),
                             expected="at least one", fix="see the messages; check the folder's layout")
    _refuse_twins(takes)
    devices = _model_devices(options, engine)
    if devices:  # a cluster's workers get theirs later; the checks here run on what is here
        options = replace(options, device=None if engine == "ray" else devices[0])
    _check_depth_source(takes, options)
    takes = [_with_task(take, options, alone=len(takes) == 1) for take in takes]
    check_mask_source(options)
    if options.caption_model is not None:
        from .captions import load_caption_model

        load_caption_model(options.caption_model, options.device)  # a folder that is none must not cost a day's clips
    root.mkdir(parents=True, exist_ok=True)
    clear_leftovers(root / "clips")
    started, records, new, notes, unread, plans = time.monotonic(), [], 0, {}, [], []
    jobs = [TakeJob(take=t, root=root, options=options, captions=prompts) for t in takes]
    for count, (index, plan, error) in enumerate(run_items(plan_take, jobs, engine=engine, workers=workers), 1):
        name = takes[index].name
        if error:
            skipped.append((name, error))
        else:
            plans.append(plan)
            skipped += plan.skipped
            unread += plan.skipped[-plan.unread:] if plan.unread else ()
            if plan.notes:
                notes[name] = list(plan.notes)
        progress(count, len(jobs), "takes checked")
    if unread:
        logger.warning("%d clips or cameras are left out, whose depth or mask can't be had; first %s: %s",
                       len(unread), *unread[0])
    plans = sorted((plan for plan in plans if plan.clips), key=lambda plan: plan.clips[0].take.name)
    for count, (index, result, error) in enumerate(
            run_items(make_clips, plans, engine=engine, workers=workers, devices=devices), 1):
        if error:
            skipped.append((plans[index].clips[0].take.name, error))
        else:
            records += result.records
            new += result.new
            skipped += result.skipped
            for record in result.records:
                if record.notes:
                    notes.setdefault(record.take, []).extend(f"{record.clip}: {note}" for note in record.notes)
        progress(count, len(plans), "takes prepared")
    disk = [(what, why) for what, why in skipped if why.startswith("OSError: ")]
    if disk:  # a set that lacks clips because of the disk must not look finished
        raise EgoXInputError("prepare", got=f"{len(disk)} takes that could not be written; first {disk[0][0]}: "
                             f"{disk[0][1]}", expected="room on the disk",
                             fix="free some space and start again: the clips that are done are kept")
    if not records:
        raise EgoXInputError("prepare", got=f"no clip from {len(takes)} takes; first reason: {skipped[0][1]}",
                             expected="at least one clip", fix="see the reasons; fewer frames fit shorter takes")
    kept = [take for take in takes if any(record.take == take.name for record in records)]
    lists = _split(kept, records, fractions, split_seed, splits, notes)
    _finish(root, records, skipped, notes, new, time.monotonic() - started, options, lists)
    untimed = [take.name for take in kept if NO_TASK in take.notes]
    warnings = (f"{len(untimed)} of {len(kept)} takes, first {untimed[0]}: {NO_TASK}",) if untimed else ()
    guessed = sum(r.moving == "derived" for r in records)
    if guessed:
        warnings += (f"{guessed} of {len(records)} clips have no mask of what moves, so it was derived from change, "
                     "which is poor on real footage: give --mask-root or --mask-model",)
    return PrepareOutcome(clips=len(records), new=new, skipped=len(skipped), manifest=root / MANIFEST,
                          warnings=warnings)


def plan_take(job: TakeJob) -> TakePlan:
    """The clips of one take whose inputs are there; no frame is decoded.

    Raises:
        EgoXInputError: the take as a whole can't be used.
    """
    take, options = job.take, job.options
    skipped: list[tuple[str, str]] = []
    unread: list[tuple[str, str]] = []
    notes = list(take.notes)
    plane = ground_plane(take, options.eye_height_m) if options.depth == "plane" else None
    views = _usable_views(take, options, skipped, notes)
    clips = []
    for rank, (coverage, view, span) in enumerate(_ranked(take, views, plane, options), start=1):
        if options.cameras and rank > options.cameras:
            skipped.append((f"{take.name}__{view.name}", f"rank {rank}: only the best {options.cameras} cameras kept"))
            continue
        windows, lost = clip_windows(view.known(take.pose_known), span.stop, first=span.start, frames=options.frames,
                                     stride=options.stride, step=options.step, limit=options.clips_per_camera)
        why = "a pose is lost in this clip" + ("" if view.frames is None else ", or its exo camera isn't calibrated")
        skipped += [(f"{take.name}__{view.name}__{start:06d}", why) for start in lost]
        if not windows:
            notes.append(f"{view.name}: no window of {options.frames} frames (longest run of known poses "
                         f"{longest_known(take.pose_known)}, video {span.stop - span.start})")
        try:
            view = with_mask(view, take, options)
        except EgoXInputError as error:
            unread.append((f"{take.name}__{view.name}", str(error)))
            continue
        of_view = [ClipJob(take=take, view=view, window=window, rank=rank, predicted_coverage=coverage, plane=plane,
                           options=options) for window in windows]
        if not of_view:
            continue
        lacking = clips_without_depth(of_view, exo_pictures(view, probe_video(view.video), take.layout, options))
        unread += lacking.items()
        clips += [clip for clip in of_view if clip.name not in lacking]
    return TakePlan(clips=tuple(clips), root=job.root, captions=job.captions, skipped=(*skipped, *unread),
                    unread=len(unread), notes=tuple(notes))


def _model_devices(options: PrepareOptions, engine: str) -> tuple[str, ...]:
    """Where depth, mask and caption models run; none where there are none."""
    if options.depth != "model" and options.mask_model is None and options.caption_model is None:
        return ()
    return devices_of(options.device or ("cuda" if has_gpu(engine) else "cpu"), engine)


def make_clips(plan: TakePlan, device: str | None = None) -> TakeResult:
    """All clips of one take; a clip that fails is reported and the next one is made.

    Args:
        device: for the models, instead of the options'.
    """
    records, new, skipped = [], 0, []
    with OpenMaps() as maps:
        for clip in plan.clips:
            if device is not None:
                clip = replace(clip, options=replace(clip.options, device=device))
            try:
                record, is_new = make_clip(clip, plan.root, plan.captions, maps)
            except EgoXInputError as error:
                skipped.append((clip.name, str(error)))
                continue
            records.append(record)
            new += is_new
    return TakeResult(records=tuple(records), new=new, skipped=tuple(skipped))


def _check_depth_source(takes: list[RawTake], options: PrepareOptions) -> None:
    """What no take of the run could be prepared without, before anything else is looked at."""
    if options.depth == "files" and options.depth_root is None and all(t.layout == "egoexo4d" for t in takes):
        raise EgoXInputError("prepare", got="--depth files without --depth-root, of a dataset that holds no depth",
                             expected="depth of its exo videos", fix="give --depth-model FOLDER; or write the videos "
                             "with `train_egox.py undistort`, run any depth tool on them and give --depth-root FOLDER; "
                             "--depth plane is a stand-in to try the way with")
    if options.depth_root is not None and not options.depth_root.is_dir():
        raise EgoXInputError("depth root", got=f"{options.depth_root.name!r}, which is no folder",
                             expected="the folder of <take>__<camera>.npz", fix="check the path")
    if options.depth == "model":
        from .depth_model import check_models

        check_models(options)


def _usable_views(take: RawTake, options: PrepareOptions, skipped: list[tuple[str, str]],
                  notes: list[str]) -> list[tuple[ExoView, range]]:
    """Exo cameras whose video can be read, and the frames that all of a clip's sources have within the task."""
    ego_frames = probe_video(take.ego_video).frame_count if take.ego_video is not None else None
    out = []
    for view in take.exos:
        try:
            info = probe_video(view.video)
        except EgoXInputError as error:
            skipped.append((f"{take.name}__{view.name}", str(error)))
            continue
        if turned_against(info, options.exo_size):
            notes.append(f"{view.name}: its picture of {info.width}x{info.height} is fitted whole into the clip's, "
                         "with black bars")
        counts = {"exo": info.frame_count, "poses": len(take.ego_w2c)}
        counts |= {} if ego_frames is None else {"ego": ego_frames}
        if len(set(counts.values())) > 1:
            notes.append(f"{view.name}: lengths differ ({', '.join(f'{k} {v}' for k, v in counts.items())}), "
                         f"the first {min(counts.values())} frames are used")
        frames = range(min(counts.values()))
        if take.task_s is not None:
            frames = _frames_of_task(info, take.task_s, len(frames))
            notes.append(f"{view.name}: task from {take.task_s[0]:g} to {take.task_s[1]:g} s, frames {frames.start} to "
                         f"{frames.stop - 1} of {min(counts.values())}")
        out.append((view, frames))
    if not out:
        raise EgoXInputError(f"take {take.name}", got="no readable exo video", expected="at least one",
                             fix=f"first reason: {skipped[-1][1] if skipped else 'none given'}")
    return out


def _with_task(take: RawTake, options: PrepareOptions, alone: bool) -> RawTake:
    """The take with the task that was asked for: of the only take, or where the source doesn't say."""
    if options.task_s is not None and (alone or take.task_s is None):
        take = replace(take, task_s=options.task_s)
    if take.task_s is None and take.layout == "egoexo4d":
        take = replace(take, notes=(*take.notes, NO_TASK))
    return take


def _frames_of_task(info: VideoInfo, task_s: tuple[float, float], count: int) -> range:
    """The first ``count`` frames' part from start to end, in seconds of the video."""
    inside = [i for i, t in enumerate(info.times_s[:count]) if task_s[0] - 1e-6 <= t <= task_s[1] + 1e-6]
    return range(inside[0], inside[-1] + 1) if inside else range(count, count)


def _ranked(take: RawTake, views: list[tuple[ExoView, range]], plane: GroundPlane | None,
            options: PrepareOptions) -> list[tuple[float, ExoView, range]]:
    """(predicted coverage, camera, frames): what annotators chose, then the best coverage first, equal ones by name."""
    if plane is not None:
        rated = [(plane_coverage(plane, take, take.exos.index(v)), v, n) for v, n in views]
    else:
        frames = take.pose_known.nonzero().flatten()
        path = CameraTrajectory(w2c=take.ego_w2c[frames], camera=take.ego_camera, times_s=frames.double())
        candidates = [ExoCandidate(name=v.name, camera=v.camera, exo_w2c=v.w2c if v.w2c.ndim == 2 else v.w2c[frames],
                                   trajectory=path) for v, _ in views]
        coverages = {r.name: r.coverage for r in rank_exo_cameras(candidates)}
        rated = [(coverages[v.name], v, n) for v, n in views]
    if options.depth_root is not None:
        rated = [(c, replace(v, depth=_named_after(options.depth_root, take, v)), n) for c, v, n in rated]
    return sorted(rated, key=lambda item: (item[1].name != take.best_exo, -round(item[0], 6), item[1].name))


def _named_after(root: Path, take: RawTake, view: ExoView) -> Path | None:
    """The depth file or folder ``<take>__<camera>`` that is there."""
    name = f"{take.name}__{view.name}"
    return next((root / f"{name}{suffix}" for suffix in DEPTH_SUFFIXES if (root / f"{name}{suffix}").exists()), None)


def _refuse_twins(takes: list[RawTake]) -> None:
    names = [t.name for t in takes]
    twins = sorted({n for n in names if names.count(n) > 1})
    if twins:
        raise EgoXInputError("source", got=f"two takes named {twins[0]}", expected="a name of its own for each",
                             fix="rename one: clips and splits go by the take's name")


def _split(takes: list[RawTake], records: list[ClipRecord], fractions: Mapping[str, float], seed: int,
           source: SplitSource, notes: dict[str, list[str]]) -> dict[str, list[str]]:
    """Clips by split; takes that lie elsewhere than their dataset has them are named in ``notes``."""
    by_take = {take.name: [r.clip for r in records if r.take == take.name] for take in takes}
    official = {take.name: take.split for take in takes if take.split and source == "official"}
    lists = split_lists(by_take, fractions, seed, rooms={take.name: take.room for take in takes}, official=official)
    for take, split in official.items():
        actual = next(name for name, clips in lists.items() if by_take[take][0] in clips)
        if actual != split:
            notes.setdefault(take, []).append(f"in {actual}, which would be empty; its dataset has it in {split}")
    return lists


def _finish(root: Path, records: list[ClipRecord], skipped: list[tuple[str, str]], notes: dict[str, list[str]],
            new: int, seconds: float, options: PrepareOptions, lists: Mapping[str, list[str]]) -> None:
    write_manifest(root / MANIFEST, records)
    for name, clips in lists.items():
        with write_whole(root / "splits" / f"{name}.txt") as temporary:
            temporary.write_text("".join(c + "\n" for c in clips), encoding="utf-8")
    _write_sheet(root, sorted(records, key=lambda r: r.clip))
    depths = sorted({r.depth for r in records})
    write_json(root / REPORT, {
        "clips": len(records), "takes": len({r.take for r in records}), "splits": {k: len(v) for k, v in lists.items()},
        "depth": depths, "moving": dict(sorted(Counter(r.moving for r in records).items())),
        "skipped": [{"what": what, "why": why} for what, why in sorted(skipped)], "notes": dict(sorted(notes.items())),
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in options.content().items()},
        "this_run": {"made": new, "kept": len(records) - new, "seconds": round(seconds, 1)},
    })


def _write_sheet(root: Path, records: list[ClipRecord]) -> None:
    """One row a clip: exo, rendered prior, the wearer's own picture; what is stand-in is written above."""
    rows = []
    for record in (records[index] for index in spread(len(records), SHEET_CLIPS)):
        files = (EXO, PRIOR, TRUTH) if record.ground_truth else (EXO, PRIOR)
        rows.append(SheetRow(
            pictures=[middle_picture(root / record.folder / file, record.frames) for file in files],
            labels=[f"{record.clip}  prior covers {record.coverage:.0%}, depth: {record.depth}"]))
    write_png(root / SHEET, make_contact_sheet(rows, SHEET_HEIGHT))
