"""Plan the clips of a take before any frame is decoded: cameras, windows of frames, missing inputs,
and the choice of clips."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.prior import ExoCandidate, rank_exo_cameras
from egox_core.remarks import Remark
from egox_core.types import CameraTrajectory
from egox_core.video import VideoInfo, probe_video

from .clip_files import clip_windows, longest_known
from .clip_masks import with_mask
from .clip_writer import ClipJob, clips_without_depth
from .exo_pictures import exo_pictures, turned_against
from .prepare_options import PrepareOptions
from .raw_take import ExoView, RawTake

DEPTH_SUFFIXES = (".npz", ".npy", ".zip", "")  # of --depth-root; the last: a folder of frames
Skipped = tuple[str, str]  # (clip, camera or take, why)
Chosen = TypeVar("Chosen")


@frozen
class TakePlan:
    """Clips to make from a take, ordered by exo camera, whose inputs exist."""

    clips: tuple[ClipJob, ...]
    skipped: tuple[Skipped, ...]
    unread: tuple[Skipped, ...]  # clips and cameras whose depth or mask can't be had
    notes: tuple[Remark, ...]


def plan_take(take: RawTake, options: PrepareOptions) -> TakePlan:
    """Plan the clips of one take, and check their inputs without decoding a frame.

    Raises:
        EgoXInputError: the take as a whole can't be used.
    """
    skipped: list[Skipped] = []
    unread: list[Skipped] = []
    notes = list(take.notes)
    clips = []
    views = _usable_views(take, options, skipped, notes)
    for rank, (coverage, view, span) in enumerate(_ranked(take, views), start=1):
        if options.cameras and rank > options.cameras:
            skipped.append(
                (
                    f"{take.name}__{view.name}",
                    f"rank {rank}: only the best {options.cameras} cameras kept",
                )
            )
            continue
        windows, lost_starts = clip_windows(
            view.known(take.pose_known),
            span.stop,
            first=span.start,
            starts=view.starts,
            frames=options.frames,
            stride=options.stride,
            step=options.step,
        )
        why = "a pose is lost in this clip" + (
            "" if view.frames is None else ", or its exo camera isn't calibrated"
        )
        end = min(span.stop, len(take.ego.w2c)) - (options.frames - 1) * options.step
        late = f"it ends after the take's {span.stop} frames"
        skipped += [
            (f"{take.name}__{view.name}__{start:06d}", why if start < end else late)
            for start in lost_starts
        ]
        if not windows:
            text = (
                f"{view.name}: no window of {options.frames} frames (longest run of known poses "
                f"{longest_known(take.pose_known)}, video {span.stop - span.start})"
            )
            notes.append(Remark(text))
        try:
            if options.depth_root is not None:
                view = replace(view, depth=_named_after(options.depth_root, take, view))
            view, of_mask = with_mask(view, take, options)
        except EgoXInputError as error:
            unread.append((f"{take.name}__{view.name}", str(error)))
            continue
        notes += of_mask
        of_view = [
            ClipJob(
                take=take,
                view=view,
                rank=rank,
                predicted_coverage=coverage,
                window=window,
                options=options,
            )
            for window in windows
        ]
        if not of_view:
            continue
        lacking, of_depth = clips_without_depth(of_view, exo_pictures(view, take.layout, options))
        notes += map(Remark, sorted(of_depth))
        unread += lacking.items()
        clips += [clip for clip in of_view if clip.name not in lacking]
    return TakePlan(
        clips=_drawn_clips(clips, options),
        skipped=tuple(skipped),
        unread=tuple(unread),
        notes=tuple(notes),
    )


def drawn(clips: Sequence[Chosen], count: int, options: PrepareOptions, name: str) -> list[Chosen]:
    """Choose ``count`` of the clips in their order (0: all), evenly spread, or at random with a
    seed from ``name`` and the options."""
    if not count or len(clips) <= count:
        return list(clips)
    if options.draw == "spread":
        return [clips[(2 * index + 1) * len(clips) // (2 * count)] for index in range(count)]
    digest = hashlib.sha256(f"{options.draw_seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return [
        clips[index]
        for index in sorted(torch.randperm(len(clips), generator=generator)[:count].tolist())
    ]


def by_camera(clips: Sequence[ClipJob]) -> list[list[ClipJob]]:
    """Group clips by exo camera, keeping their order."""
    cameras: dict[str, list[ClipJob]] = {}
    for clip in clips:
        cameras.setdefault(clip.view.name, []).append(clip)
    return list(cameras.values())


def _drawn_clips(clips: Sequence[ClipJob], options: PrepareOptions) -> tuple[ClipJob, ...]:
    """Limit the number of clips per camera, then that per take."""
    camera_picks = [
        clip
        for camera_clips in by_camera(clips)
        for clip in drawn(camera_clips, options.clips_per_camera, options, camera_clips[0].name)
    ]
    return _drawn_of_take(camera_picks, options.clips_per_take, options)


def _drawn_of_take(
    clips: Sequence[ClipJob], count: int, options: PrepareOptions
) -> tuple[ClipJob, ...]:
    """Choose ``count`` of a take's clips (0: all), so that they are spread over time."""
    if not clips:
        return ()
    in_time = sorted(clips, key=lambda c: (c.window.start, c.rank))
    picks = drawn(in_time, count, options, clips[0].take.name)
    return tuple(sorted(picks, key=lambda c: (c.rank, c.window.start)))


def most_of(plans: Sequence[TakePlan], most: int, options: PrepareOptions) -> list[TakePlan]:
    """Limit the plans to ``most`` clips in all, divided over the takes as evenly as possible."""
    shares, clips_left = [0] * len(plans), most
    open_ = [index for index, plan in enumerate(plans) if plan.clips]
    while open_ and clips_left:
        if clips_left < len(open_):
            open_ = drawn(open_, clips_left, options, "takes")
        give = max(
            1, min(clips_left // len(open_), min(len(plans[i].clips) - shares[i] for i in open_))
        )
        for index in open_:
            shares[index] += give
        clips_left -= give * len(open_)
        open_ = [index for index in open_ if shares[index] < len(plans[index].clips)]
    return [
        replace(plan, clips=_drawn_of_take(plan.clips, share, options) if share else ())
        for plan, share in zip(plans, shares, strict=True)
    ]


def _usable_views(
    take: RawTake, options: PrepareOptions, skipped: list[tuple[str, str]], notes: list[Remark]
) -> list[tuple[ExoView, range]]:
    """List the exo cameras with a readable video, and the frames within the task for which video,
    poses and ego video exist."""
    ego_frames = probe_video(take.ego_video).frame_count if take.ego_video is not None else None
    out = []
    for view in take.exos:
        try:
            info = probe_video(view.video)
        except EgoXInputError as error:
            skipped.append((f"{take.name}__{view.name}", str(error)))
            continue
        if turned_against(info, options.exo_size):
            text = (
                f"{view.name}: its picture of {info.width}x{info.height} is fitted whole into the "
                "clip's, with black bars"
            )
            notes.append(Remark(text))
        counts = {"exo": info.frame_count, "poses": len(take.ego.w2c)}
        counts |= {} if ego_frames is None else {"ego": ego_frames}
        if len(set(counts.values())) > 1:
            lengths = ", ".join(f"{k} {v}" for k, v in counts.items())
            text = (
                f"{view.name}: lengths differ ({lengths}), the first {min(counts.values())} frames "
                "are used"
            )
            notes.append(Remark(text))
        frames = range(min(counts.values()))
        if take.task_s is not None:
            frames = _frames_of_task(info, take.task_s, len(frames))
            text = (
                f"{view.name}: task from {take.task_s[0]:g} to {take.task_s[1]:g} s, frames "
                f"{frames.start} to {frames.stop - 1} of {min(counts.values())}"
            )
            notes.append(Remark(text))
        out.append((view, frames))
    if not out:
        raise EgoXInputError(
            f"take {take.name}",
            got="no readable exo video",
            expected="at least one",
            fix=f"first reason: {skipped[-1][1] if skipped else 'none given'}",
        )
    return out


def _frames_of_task(info: VideoInfo, task_s: tuple[float, float], count: int) -> range:
    """Find those of the first ``count`` frames that lie within the task's start and end in seconds."""
    inside = [
        i for i, t in enumerate(info.times_s[:count]) if task_s[0] - 1e-6 <= t <= task_s[1] + 1e-6
    ]
    return range(inside[0], inside[-1] + 1) if inside else range(count, count)


def _ranked(
    take: RawTake, views: list[tuple[ExoView, range]]
) -> list[tuple[float, ExoView, range]]:
    """Rank the exo cameras as (predicted coverage, camera, frames): the annotators' best camera
    first, then by coverage, then by name."""
    frames = take.pose_known.nonzero().flatten()
    ego = take.ego.of(frames)
    candidates = [
        ExoCandidate(name=v.name, trajectory=CameraTrajectory(ego=ego, exo=v.exo.of(frames)))
        for v, _ in views
    ]
    coverages = {r.name: r.coverage for r in rank_exo_cameras(candidates)}
    candidates_by_coverage = [(coverages[v.name], v, n) for v, n in views]
    return sorted(
        candidates_by_coverage,
        key=lambda item: (item[1].name != take.best_exo, -round(item[0], 6), item[1].name),
    )


def _named_after(root: Path, take: RawTake, view: ExoView) -> Path | None:
    """Find the depth file or folder named ``<take>__<camera>``."""
    name = f"{take.name}__{view.name}"
    files = (root / f"{name}{suffix}" for suffix in DEPTH_SUFFIXES)
    return next((file for file in files if file.exists()), None)
