"""Plan the clips of a take before any frame is decoded."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from egox_core.errors import EgoXInputError
from egox_core.prior import ExoCandidate, rank_exo_cameras
from egox_core.remarks import Remark, RemarkKind
from egox_core.types import CameraTrajectory
from egox_core.video import VideoInfo, probe_video

from .clip_files import clip_windows, longest_pose_run
from .clip_masks import add_mask_file
from .clip_writer import ClipJob, clips_without_depth
from .exo_pictures import exo_pictures, has_other_orientation
from .prepare_options import PrepareOptions
from .raw_take import RawTake, RawView, SkippedItem

RATE_TOLERANCE = 0.02
"""Share by which the rates of exo and ego video may differ: 29.97 and 30, not 25 and 30."""
DEPTH_SUFFIXES = (".npz", ".npy", ".zip", "")  # of --depth-root; the last: a folder of frames
Element = TypeVar("Element")


def plan_take(take: RawTake, options: PrepareOptions) -> tuple[RawTake, tuple[ClipJob, ...]]:
    """Plan the clips of one take, ordered by exo camera, and check that their input files exist.

    Returns:
        The take, with notes and facts of its clips and what is left out, and the clips.

    Raises:
        EgoXInputError: the take as a whole can't be used.
    """
    skipped_clips: list[SkippedItem] = []
    unreadable_clips: list[SkippedItem] = []
    take_notes, facts = list(take.notes), list(take.facts)
    clips = []
    usable_views = _usable_views(take, options, skipped_clips, take_notes)
    for coverage_rank, (coverage, exo_view, frame_range) in enumerate(
        _rank_views(take, usable_views), start=1
    ):
        if options.cameras and coverage_rank > options.cameras:
            skipped_clips.append(
                (
                    f"{take.name}__{exo_view.name}",
                    f"rank {coverage_rank}: only the best {options.cameras} cameras kept",
                )
            )
            continue
        windows, unposed_starts = clip_windows(
            exo_view.usable_frames(take.pose_known),
            frame_range.stop,
            first_start=frame_range.start,
            starts=exo_view.clip_starts,
            frames=options.frames,
            stride=options.stride,
            step=options.step,
        )
        skip_reason = "a pose is lost in this clip" + (
            "" if exo_view.valid_frames is None else ", or its exo camera isn't calibrated"
        )
        end_start = min(frame_range.stop, len(take.ego.w2c)) - (options.frames - 1) * options.step
        late_reason = f"it ends after the take's {frame_range.stop} frames"
        skipped_clips += [
            (
                f"{take.name}__{exo_view.name}__{start:06d}",
                skip_reason if start < end_start else late_reason,
            )
            for start in unposed_starts
        ]
        if not windows:
            text = (
                f"{exo_view.name}: no window of {options.frames} frames (longest run of known "
                f"poses {longest_pose_run(take.pose_known)}, video "
                f"{frame_range.stop - frame_range.start})"
            )
            take_notes.append(Remark(text))
        try:
            if options.depth_root is not None:
                exo_view = replace(exo_view, depth=_find_depth(options.depth_root, take, exo_view))
            exo_view, mask_notes = add_mask_file(exo_view, take, options)
        except EgoXInputError as error:
            unreadable_clips.append((f"{take.name}__{exo_view.name}", str(error)))
            continue
        take_notes += mask_notes
        view_clips = [
            ClipJob(
                take=take,
                view=exo_view,
                rank=coverage_rank,
                predicted_coverage=coverage,
                window=window,
                options=options,
            )
            for window in windows
        ]
        if not view_clips:
            continue
        clips_lacking_depth, depth_notes, depth_facts = clips_without_depth(
            view_clips, exo_pictures(exo_view, take.layout, options)
        )
        take_notes += map(Remark, sorted(depth_notes))
        facts += depth_facts
        unreadable_clips += clips_lacking_depth.items()
        clips += [clip for clip in view_clips if clip.name not in clips_lacking_depth]
    if clips:
        take.declared.argument.check_applied(facts, "this take's files")
    planned_take = replace(
        take,
        facts=tuple(facts),
        skipped=tuple(skipped_clips),
        unreadable=tuple(unreadable_clips),
        notes=tuple(take_notes),
    )
    return planned_take, _choose_clips(clips, options)


def choose_clips(
    clips: Sequence[Element], max_count: int, options: PrepareOptions, name: str
) -> list[Element]:
    """Choose at most ``max_count`` clips (0: all), evenly spread or at random.

    A random choice is seeded by ``name`` and the options."""
    if not max_count or len(clips) <= max_count:
        return list(clips)
    if options.draw == "spread":
        return [
            clips[(2 * index + 1) * len(clips) // (2 * max_count)] for index in range(max_count)
        ]
    sha256_digest = hashlib.sha256(f"{options.draw_seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(sha256_digest[:7], "big"))
    return [
        clips[index]
        for index in sorted(torch.randperm(len(clips), generator=generator)[:max_count].tolist())
    ]


def by_camera(clips: Sequence[ClipJob]) -> list[list[ClipJob]]:
    """Group clips by exo camera, keeping their order."""
    clips_by_camera: dict[str, list[ClipJob]] = {}
    for clip in clips:
        clips_by_camera.setdefault(clip.view.name, []).append(clip)
    return list(clips_by_camera.values())


def _choose_clips(clips: Sequence[ClipJob], options: PrepareOptions) -> tuple[ClipJob, ...]:
    """Limit the number of clips per camera and per take."""
    camera_picks = [
        clip
        for camera_clips in by_camera(clips)
        for clip in choose_clips(
            camera_clips, options.clips_per_camera, options, camera_clips[0].name
        )
    ]
    return _choose_of_take(camera_picks, options.clips_per_take, options)


def _choose_of_take(
    clips: Sequence[ClipJob], max_count: int, options: PrepareOptions
) -> tuple[ClipJob, ...]:
    """Choose at most ``max_count`` clips of one take, spread over its duration."""
    if not clips:
        return ()
    time_ordered_clips = sorted(clips, key=lambda c: (c.window.start, c.rank))
    chosen_clips = choose_clips(time_ordered_clips, max_count, options, clips[0].take.name)
    return tuple(sorted(chosen_clips, key=lambda c: (c.rank, c.window.start)))


def limit_clips(
    # By take.
    clips: Sequence[tuple[ClipJob, ...]],
    max_clips: int,
    options: PrepareOptions,
) -> list[tuple[ClipJob, ...]]:
    """Limit the total number of clips, divided evenly among the takes."""
    clip_counts, clips_left = [0] * len(clips), max_clips
    open_takes = [index for index, take_clips in enumerate(clips) if take_clips]
    while open_takes and clips_left:
        if clips_left < len(open_takes):
            open_takes = choose_clips(open_takes, clips_left, options, "takes")
        clips_per_take = max(
            1,
            min(
                clips_left // len(open_takes),
                min(len(clips[i]) - clip_counts[i] for i in open_takes),
            ),
        )
        for index in open_takes:
            clip_counts[index] += clips_per_take
        clips_left -= clips_per_take * len(open_takes)
        open_takes = [index for index in open_takes if clip_counts[index] < len(clips[index])]
    return [
        _choose_of_take(take_clips, clip_count, options) if clip_count else ()
        for take_clips, clip_count in zip(clips, clip_counts, strict=True)
    ]


def _usable_views(
    take: RawTake, options: PrepareOptions, skipped: list[tuple[str, str]], notes: list[Remark]
) -> list[tuple[RawView, range]]:
    """List the exo cameras with a readable video, with the frames that can be used."""
    ego_info = probe_video(take.ego_video) if take.ego_video is not None else None
    ego_frames = None if ego_info is None else ego_info.frame_count
    usable_views = []
    for exo_view in take.exos:
        try:
            video_info = probe_video(exo_view.video)
        except EgoXInputError as error:
            skipped.append((f"{take.name}__{exo_view.name}", str(error)))
            continue
        if has_other_orientation(video_info, options.exo_size):
            text = (
                f"{exo_view.name}: its picture of {video_info.width}x{video_info.height} is fitted "
                "whole into the clip's, with black bars"
            )
            notes.append(Remark(text))
        length_by_source = {"exo": video_info.frame_count, "poses": len(take.ego.w2c)}
        length_by_source |= {} if ego_frames is None else {"ego": ego_frames}
        if len(set(length_by_source.values())) > 1:
            lengths_text = ", ".join(f"{k} {v}" for k, v in length_by_source.items())
            text = (
                f"{exo_view.name}: lengths differ ({lengths_text}), the first "
                f"{min(length_by_source.values())} frames are used"
            )
            notes.append(Remark(text))
        if ego_info is not None and abs(ego_info.fps / video_info.fps - 1) > RATE_TOLERANCE:
            text = (
                f"{exo_view.name}: the ego video has {ego_info.fps:g} frames a second, exo "
                f"{video_info.fps:g}. Frame i of both is taken as one moment: if it isn't, give an "
                "ego video at exo's rate"
            )
            notes.append(Remark(text, RemarkKind.WARNING))
        usable_range = range(min(length_by_source.values()))
        if take.task_s is not None:
            usable_range = _frames_of_task(video_info, take.task_s, len(usable_range))
            text = (
                f"{exo_view.name}: task from {take.task_s[0]:g} to {take.task_s[1]:g} s, frames "
                f"{usable_range.start} to {usable_range.stop - 1} of "
                f"{min(length_by_source.values())}"
            )
            notes.append(Remark(text))
        usable_views.append((exo_view, usable_range))
    if not usable_views:
        raise EgoXInputError(
            f"take {take.name}",
            got="no readable exo video",
            expected="at least one",
            fix=f"first reason: {skipped[-1][1] if skipped else 'none given'}",
        )
    return usable_views


def _frames_of_task(info: VideoInfo, task_s: tuple[float, float], frame_count: int) -> range:
    """Select the video frames between the task's start and end."""
    indices_in_task = [
        i
        for i, t in enumerate(info.times_s[:frame_count])
        if task_s[0] - 1e-6 <= t <= task_s[1] + 1e-6
    ]
    return (
        range(indices_in_task[0], indices_in_task[-1] + 1)
        if indices_in_task
        else range(frame_count, frame_count)
    )


def _rank_views(
    take: RawTake, views: list[tuple[RawView, range]]
) -> list[tuple[float, RawView, range]]:
    """Rank the exo cameras by the annotators' choice, predicted coverage and name."""
    known_frame_indices = take.pose_known.nonzero().flatten()
    ego_path = take.ego.select(known_frame_indices)
    candidates = [
        ExoCandidate(
            name=v.name,
            trajectory=CameraTrajectory(ego=ego_path, exo=v.exo.select(known_frame_indices)),
        )
        for v, _ in views
    ]
    coverages = {r.name: r.coverage for r in rank_exo_cameras(candidates)}
    candidates_by_coverage = [(coverages[v.name], v, n) for v, n in views]
    return sorted(
        candidates_by_coverage,
        key=lambda item: (item[1].name != take.best_exo, -round(item[0], 6), item[1].name),
    )


def _find_depth(root: Path, take: RawTake, view: RawView) -> Path | None:
    """Find the depth file or folder named ``<take>__<camera>``."""
    name = f"{take.name}__{view.name}"
    files = (root / f"{name}{suffix}" for suffix in DEPTH_SUFFIXES)
    return next((file for file in files if file.exists()), None)
