"""Find the raw Ego-Exo4D takes that lists of clips name."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from egox_core.errors import EgoXInputError
from egox_core.types import ExoLens
from egox_core.video import probe_video

from .clip_lists import ListedClip
from .egoexo4d import (
    EGO_PREFIX,
    EGO_STREAM,
    VIDEO_FOLDERS,
    read_egoexo4d,
    take_of_annotation,
)
from .raw_take import RawTake, RawView
from .take_list import read_take_list

logger = logging.getLogger(__name__)
MATRIX_TOLERANCE = 1e-4
"""Difference of a matrix' numbers up to which two lists tell the same camera: digits of a file."""


def find_listed_takes(
    root: Path,
    clips: Sequence[ListedClip],
    frames: int,
    skipped: list[tuple[str, str]],
    exo_lens: ExoLens = "raw",
) -> tuple[list[RawTake], dict[str, ListedClip]]:
    """Find the takes of listed clips on disk.

    What isn't downloaded is counted and told at once; each clip that can't be cut is appended to
    ``skipped`` as (clip, why).

    Args:
        frames: source frames of a clip.

    Raises:
        EgoXInputError: no folder of takes.
    """
    if not (root / "takes").is_dir():
        raise EgoXInputError(
            "Ego-Exo4D folder",
            got=f"{root.name!r} without takes/",
            expected=(
                "the dataset's own folder layout: lists say which clips are cut from its videos"
            ),
            fix="give the folder that contains takes/",
        )
    clips_by_take: dict[str, list[ListedClip]] = {}
    for clip in clips:
        if clip.last_frame - clip.first_frame + 1 != frames:
            listed_frame_count = clip.last_frame - clip.first_frame + 1
            skipped.append(
                (
                    clip.name,
                    f"{listed_frame_count} frames in the list, {frames} of --frames, --step",
                )
            )
        else:
            clips_by_take.setdefault(clip.take, []).append(clip)
    clips_by_take = {
        take: _consistent_clips(listed_clips, skipped)
        for take, listed_clips in clips_by_take.items()
    }
    _warn_of_missing_videos(root, clips_by_take)
    takes, clips_by_name = [], {}
    for take, take_clips, take_problem in _raw_takes(root, clips_by_take, exo_lens):
        if take is None:
            skipped += [(clip.name, take_problem) for clip in take_clips]
            continue
        starts_by_camera: dict[str, list[int]] = {}
        for clip in take_clips:
            camera = clip.camera or take.best_exo
            if camera not in (exo_view.name for exo_view in take.exos):
                camera_notes = [n for n in map(str, take.notes) if n.startswith(f"{camera}:")]
                missing_reason = (
                    "; ".join(camera_notes) if camera else "no camera in the list or takes.json"
                )
                skipped.append(
                    (clip.name, f"exo camera {camera!r} can't be used: {missing_reason}")
                )
            elif clip.first_frame not in starts_by_camera.setdefault(camera, []):
                starts_by_camera[camera].append(clip.first_frame)
                clips_by_name[f"{take.name}__{camera}__{clip.first_frame:06d}"] = clip
        listed_views = tuple(
            _with_starts(exo_view, starts_by_camera)
            for exo_view in take.exos
            if exo_view.name in starts_by_camera
        )
        if listed_views:
            takes.append(replace(take, exos=listed_views, task_s=None, listed=True))
    return takes, clips_by_name


def _consistent_clips(
    clips: Sequence[ListedClip], skipped: list[tuple[str, str]]
) -> list[ListedClip]:
    """Select the clips of a take whose cameras agree with earlier clips, and report the others in
    ``skipped``."""
    agreed_cameras: dict[str, Any] = {}
    consistent_clips = []
    for clip in clips:
        cameras = _cameras_of(clip)
        contradicted_name = next(
            (name for name in cameras if _cameras_differ(name, agreed_cameras, cameras)), None
        )
        if contradicted_name is None:
            agreed_cameras |= cameras
            consistent_clips.append(clip)
        else:
            skipped.append(
                (
                    clip.name,
                    f"its {contradicted_name} differs from that of an earlier clip in the lists",
                )
            )
    return consistent_clips


def _cameras_of(clip: ListedClip) -> dict[str, Any]:
    """Collect the poses and camera matrices of a list's entry, by name."""
    entry = clip.entry or {}
    poses = {
        f"ego pose of frame {clip.first_frame + frame}": pose
        for frame, pose in enumerate(entry.get("ego_extrinsics") or ())
    }
    exo_matrices = {
        f"{key} of {clip.camera}": entry[key]
        for key in ("camera_intrinsics", "camera_extrinsics")
        if entry.get(key) is not None
    }
    return poses | exo_matrices


def _cameras_differ(
    name: str, known_cameras: Mapping[str, Any], cameras: Mapping[str, Any]
) -> bool:
    if name not in known_cameras or known_cameras[name] == cameras[name]:
        return False
    known_matrix, matrix = np.asarray(known_cameras[name], float), np.asarray(cameras[name], float)
    return known_matrix.shape != matrix.shape or not np.allclose(
        known_matrix, matrix, atol=MATRIX_TOLERANCE
    )


def _with_starts(view: RawView, starts: Mapping[str, Sequence[int]]) -> RawView:
    return replace(view, clip_starts=tuple(sorted(starts[view.name])))


def _raw_takes(
    root: Path, by_take: Mapping[str, list[ListedClip]], exo_lens: ExoLens
) -> Iterator[tuple[RawTake | None, list[ListedClip], str]]:
    """Read each listed take with its clips, or the reason why it can't be used.

    Cameras and poses come from the lists or from the data set's annotations."""
    take_list, clips_without_entry = read_take_list(root), {}
    for name, clips in by_take.items():
        clips_with_entry = [clip for clip in clips if clip.entry is not None]
        if len(clips_with_entry) < len(clips):
            clips_without_entry[name] = [clip for clip in clips if clip.entry is None]
        if clips_with_entry:
            try:
                yield (
                    _take_of_entries(root, name, clips_with_entry, exo_lens, take_list),
                    clips_with_entry,
                    "",
                )
            except EgoXInputError as error:
                yield None, clips_with_entry, str(error)
    if clips_without_entry:
        refused_takes: list[tuple[str, str]] = []
        for take in read_egoexo4d(root, refused_takes, exo_lens):
            if take.name in clips_without_entry:
                yield take, clips_without_entry.pop(take.name), ""
        first_reason = f"; first of its takes: {refused_takes[0][1]}" if refused_takes else ""
        for clips in clips_without_entry.values():
            yield None, clips, f"no usable annotation or videos{first_reason}"


def _take_of_entries(
    root: Path,
    name: str,
    clips: Sequence[ListedClip],
    exo_lens: ExoLens,
    take_list: Mapping[str, dict],
) -> RawTake:
    """Build a take from entries of the authors' lists."""
    folders = (root / "takes" / name / folder_name for folder_name in VIDEO_FOLDERS)
    videos = [
        file for folder in folders for file in sorted(folder.glob(f"{EGO_PREFIX}*{EGO_STREAM}.mp4"))
    ]
    ego_name = videos[0].name.removesuffix(f"{EGO_STREAM}.mp4") if videos else EGO_PREFIX
    poses: dict[str, Any] = {}
    annotation: dict[str, Any] = {"metadata": {"take_name": name}}
    for clip in clips:
        entry = clip.entry or {}
        rows = entry.get("ego_extrinsics")
        rows = rows if isinstance(rows, list) else []
        poses |= {str(clip.first_frame + frame): pose for frame, pose in enumerate(rows)}
        annotation[clip.camera] = {
            key: entry.get(key) for key in ("camera_intrinsics", "camera_extrinsics")
        }
        k = entry.get("ego_intrinsics")
        annotation[ego_name] = {"camera_intrinsics": k, "camera_extrinsics": poses}
    take = take_of_annotation(root, annotation, exo_lens, take_list, every_frame=False)
    count = max(probe_video(exo_view.video).frame_count for exo_view in take.exos)
    if count > len(take.ego.w2c):
        unknown_poses = torch.full(
            (count - len(take.ego.w2c), 3, 4), torch.nan, dtype=torch.float64
        )
        take = replace(take, ego=replace(take.ego, w2c=torch.cat((take.ego.w2c, unknown_poses))))
    return take


def _warn_of_missing_videos(root: Path, clips_by_take: Mapping[str, Sequence[ListedClip]]) -> None:
    """Warn of listed clips whose videos aren't downloaded."""
    video_sizes, missing_takes, missing_videos, missing_clips = [], 0, 0, 0
    for name, take_clips in clips_by_take.items():
        folders = [root / "takes" / name / folder_name for folder_name in VIDEO_FOLDERS]
        folder = next((f for f in folders if f.is_dir() and any(f.glob("*.mp4"))), None)
        if folder is None:
            missing_takes, missing_clips = missing_takes + 1, missing_clips + len(take_clips)
            continue
        for camera in {clip.camera for clip in take_clips if clip.camera}:
            file = folder / f"{camera}.mp4"
            if file.is_file():
                video_sizes.append(file.stat().st_size)
            else:
                missing_videos += 1
                missing_clips += sum(clip.camera == camera for clip in take_clips)
    if missing_clips:
        listed_count = sum(map(len, clips_by_take.values()))
        size_text = (
            f"about {(2 * missing_takes + missing_videos) * fmean(video_sizes) / 1e9:.2g} GB"
            if video_sizes
            else "size unknown"
        )
        logger.warning(
            "%d of %d listed clips can't be cut: %d of %d takes and %d more exo videos aren't "
            "downloaded (%s, part downscaled_takes/448 of the dataset)",
            *(
                missing_clips,
                listed_count,
                missing_takes,
                len(clips_by_take),
                missing_videos,
                size_text,
            ),
        )
