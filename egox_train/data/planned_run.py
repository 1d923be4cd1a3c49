"""Plan a ``prepare`` run: list takes, check all inputs, and plan the clips of each take."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.progress import Progress, no_progress
from egox_core.remarks import Remark, RemarkKind, facts_text
from egox_core.safe_files import require_folder

from ..options import RunOptions, TrainingSetOptions, declared_of
from ..parallel import WorkerPlan, has_gpu, parse_devices, run_items, select_shard
from .captions import read_captions, unused_captions
from .clip_lists import ListedClip, read_clip_lists
from .clip_masks import check_mask_source
from .clip_writer import ClipJob
from .egoexo4d import NO_TASK
from .listed_takes import find_listed_takes
from .manifest import check_fractions
from .plan import limit_clips, plan_take
from .prepare_options import PrepareOptions
from .raw_take import RawTake
from .set_files import Part
from .sources import list_takes

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class PlannedRun:
    """Plan of a ``prepare`` run: its takes, clips, captions and devices."""

    part: Part
    clips: list[tuple[ClipJob, ...]]  # by take
    devices: tuple[str, ...]
    captions: Mapping[str, str]


def plan_run(
    source: Path,
    prepare_options: PrepareOptions,
    set_options: TrainingSetOptions,
    run_options: RunOptions,
    progress: Progress = no_progress,
) -> PlannedRun:
    """Check all inputs of a :func:`.prepare.prepare` run, and plan its clips.

    Raises:
        EgoXInputError: no such source or nothing usable in it, bad options, models or captions.
    """
    fractions = check_fractions({"validation": set_options.validation, "test": set_options.test})
    file_captions = read_captions(set_options.captions) if set_options.captions is not None else {}
    prompts = file_captions
    shard_part, engine = run_options.part, run_options.engine
    skipped_takes: list[tuple[str, str]] = []
    clips_by_name: dict[str, ListedClip] = {}
    if set_options.clip_lists:
        clips = read_clip_lists(set_options.clip_lists, skipped_takes, progress)
        clip_span = (prepare_options.frames - 1) * prepare_options.step + 1
        exo_lens = prepare_options.source_lens or "raw"
        takes, clips_by_name = find_listed_takes(source, clips, clip_span, skipped_takes, exo_lens)
        prompts = {n: clip.caption for n, clip in clips_by_name.items() if clip.caption} | dict(
            file_captions
        )
    else:
        takes = list(
            list_takes(
                source,
                set_options.layout,
                skipped_takes,
                prepare_options.source_lens,
                set_options.ego_path,
                prepare_options.file_frames,
                declared_of(set_options.declare),
            )
        )
    if not takes:
        raise EgoXInputError(
            "source",
            got="no usable take" + (f"; first: {skipped_takes[0][1]}" if skipped_takes else ""),
            expected="at least one",
            fix="see the messages; check the folder's layout",
        )
    _refuse_equal_names(takes)
    devices = _model_devices(prepare_options, engine)
    if engine == "ray":  # its workers get theirs later; the checks here run on what is here
        prepare_options = replace(prepare_options, device=None)
    elif devices:
        prepare_options = replace(prepare_options, device=devices[0])
    _check_depth_source(takes, prepare_options)
    is_only_take = len(takes) == 1
    takes = [
        _set_task(take, prepare_options, is_only_take)
        for take in sorted(takes, key=lambda take: take.name)
    ]
    take_names = {take.name for take in takes}
    takes = select_shard(takes, shard_part)
    check_mask_source(prepare_options)
    if prepare_options.caption_model is not None:
        from .captions import load_caption_model

        load_caption_model(
            prepare_options.caption_model, prepare_options.local_device
        )  # a folder that is none must not cost a day's clips
    content_options = prepare_options.content().items()
    part_record = Part(
        settings={
            "options": {k: str(v) if isinstance(v, Path) else v for k, v in content_options},
            "fractions": dict(fractions),
            "split_seed": set_options.split_seed,
            "splits": set_options.splits,
        },
        takes={
            t.name: {"room": t.room, "split": t.split, "untimed": t.has_no_task_times}
            for t in takes
        },
        splits={name: clip.split for name, clip in clips_by_name.items() if clip.split},
        skipped=skipped_takes,
    )
    planned_clips, unreadable_takes = [], []
    plan_with_options = partial(plan_take, options=prepare_options)
    for count, (index, planned, error) in enumerate(
        run_items(plan_with_options, takes, WorkerPlan(engine=engine, workers=run_options.workers)),
        1,
    ):
        name = takes[index].name
        if error:
            part_record.skipped.append((name, error))
        else:
            take, take_clips = planned
            planned_clips.append((name, take_clips))
            part_record.skipped += [*take.skipped, *take.unreadable]
            unreadable_takes += take.unreadable
            part_record.facts[name] = facts_text(take.facts).splitlines()
            if take.notes:
                part_record.notes[name] = list(map(str, take.notes))
                part_record.warnings[name] = [
                    note.text
                    for note in take.notes
                    if note.kind is RemarkKind.WARNING and note.text != NO_TASK
                ]
        progress(count, len(takes), "takes checked")
    if unreadable_takes:
        logger.warning(
            "%d clips or cameras are left out, whose depth or mask can't be had; first %s: %s",
            len(unreadable_takes),
            *unreadable_takes[0],
        )
    most_clips = prepare_options.most_clips // shard_part[1] + (
        shard_part[0] < prepare_options.most_clips % shard_part[1]
    )
    clips_by_take = [clips for _, clips in sorted(planned_clips, key=lambda named: named[0])]
    if prepare_options.most_clips:
        clips_by_take = limit_clips(clips_by_take, most_clips, prepare_options)
    clip_names = {clip.name for take_clips in clips_by_take for clip in take_clips}
    other_take_names = take_names - {take.name for take in takes}
    unused_names = [
        name
        for name in unused_captions(file_captions, {*take_names, *clip_names})
        if name.split("__")[0] not in other_take_names  # clips of other parts
    ]
    if unused_names:
        logger.warning(
            "%d of %d captions match no clip or take, first %s; the first clip is %s",
            len(unused_names),
            len(file_captions),
            unused_names[0],
            min(clip_names, default="missing"),
        )
    return PlannedRun(part=part_record, devices=devices, captions=prompts, clips=clips_by_take)


def _model_devices(options: PrepareOptions, engine: str) -> tuple[str, ...]:
    """Choose the devices for depth, mask and caption models."""
    uses_models = options.depth == "model" or options.mask_model or options.caption_model
    if not uses_models and (options.local_device is None or engine == "ray"):
        return ()
    return parse_devices(options.local_device or ("cuda" if has_gpu(engine) else "cpu"), engine)


def _check_depth_source(takes: list[RawTake], options: PrepareOptions) -> None:
    """Check that the source of depth exists, before any take is planned."""
    if (
        options.depth == "files"
        and options.depth_root is None
        and all(t.layout == "egoexo4d" for t in takes)
    ):
        raise EgoXInputError(
            "prepare",
            got="--depth files without --depth-root, for a dataset without depth",
            expected="depth of its exo videos",
            fix="give --depth-model FOLDER; or write the videos "
            "with `train_egox.py undistort`, run any depth tool on them and give --depth-root "
            "FOLDER; "
            "--depth plane is a stand-in for a dry run",
        )
    require_folder(options.depth_root, "depth root", "the folder of <take>__<camera>.npz")
    if options.depth == "model":
        from .depth_model import check_models

        check_models(options)


def _set_task(take: RawTake, options: PrepareOptions, is_only_take: bool) -> RawTake:
    """Set a take's start and end of the task as the options request."""
    if options.task_s is not None and (is_only_take or take.task_s is None):
        take = replace(take, task_s=options.task_s)
    if take.has_no_task_times:
        take = replace(take, notes=(*take.notes, Remark(NO_TASK, RemarkKind.WARNING)))
    return take


def _refuse_equal_names(takes: list[RawTake]) -> None:
    equal_names = sorted(
        name for name, count in Counter(t.name for t in takes).items() if count > 1
    )
    if equal_names:
        raise EgoXInputError(
            "source",
            got=f"two takes named {equal_names[0]}",
            expected="a name of its own for each",
            fix="rename one: clips and splits go by the take's name",
        )
