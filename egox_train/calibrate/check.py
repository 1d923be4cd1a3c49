"""Check whether the cameras stated in a data set agree with its pictures (``calibrate --check``).

Two measurements, neither of which needs the other. The head camera's turns from frame to frame tell
when its poses are, and whose. Its view of the scene, which exo's pictures and depth make, tells one
turn of the whole clip, by the meter that generated videos are measured with."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from egox_core.errors import EgoXInputError
from egox_core.progress import Progress, no_progress
from egox_core.sizes import longest_clip
from egox_core.take import Take, load_take
from egox_core.video import decode_frames, probe_video

from ..data.ego_clip import EgoClip
from ..data.manifest import read_manifest
from ..data.sources import list_takes
from .check_row import EpisodeResult
from .robot_episodes import is_robot_set, robot_episodes
from .view_fit import fit_view
from .view_motion import compare_turns, picture_turns

MOST_COMPARED_FRAMES, MOST_RENDERED_FRAMES = 900, 49
"""Frames whose turns are compared, and frames that make the scene."""


def check_set(
    root: Path,
    progress: Progress = no_progress,
    *,
    # Standard deviation of the logarithm of the depth's size, as of a measuring camera. None: the
    # wearer tells it where seen, else nobody.
    depth_sd: float | None = None,
) -> tuple[EpisodeResult, ...]:
    """Check every episode of a data set, and list the results with the most certain fault first.

    Raises:
        EgoXInputError: no set, none with an ego video.
    """
    untestable: list[EpisodeResult] = []
    episodes = tuple(_find_episodes(root, untestable))
    if not episodes and not untestable:
        raise EgoXInputError(
            "set",
            got=f"no episode with an ego video in {root.name!r}",
            expected="takes, clips or episodes with the wearer's own video",
            fix="give the takes that the set was made from",
        )
    rows = []
    for episode_index, episode in enumerate(episodes):
        progress(episode_index, len(episodes), f"cameras of {episode.name}")
        try:
            rows.append(_check_episode(episode, depth_sd, progress))
        except EgoXInputError as error:
            rows.append(EpisodeResult(name=episode.name, finding=f"not read: {error}"))
    return tuple(
        sorted([*rows, *untestable], key=lambda row: (not row.is_wrong, -row.error_sigmas))
    )


def _find_episodes(root: Path, untestable: list[EpisodeResult]) -> Iterator[EgoClip]:
    """Find the episodes that have an ego video, and report the others in ``untestable``."""
    manifest = root / "manifest.jsonl"
    if manifest.is_file():
        for record in read_manifest(manifest):
            if record.ground_truth:
                yield EgoClip.of_record(record, root)
        return
    if is_robot_set(root):
        yield from robot_episodes(root)
        return
    skipped_takes: list[tuple[str, str]] = []
    for take in list_takes(root, "auto", skipped_takes):
        for exo_view in take.exos:
            name = take.name if len(take.exos) == 1 else f"{take.name}/{exo_view.name}"
            if take.ego_video is None:
                skipped_takes.append((name, "not testable: no ego video"))
                continue
            yield EgoClip(
                name=name,
                folder=exo_view.video.parent,
                ego_video=take.ego_video,
                ego=take.ego,
                is_take=take.layout == "take",
            )
    untestable += [EpisodeResult(name=name, finding=reason) for name, reason in skipped_takes]


def _check_episode(episode: EgoClip, depth_sd: float | None, progress: Progress) -> EpisodeResult:
    take, missing_reason = None, "no depth"
    if episode.is_take:
        try:
            take = _load_take(episode.folder, episode, progress)
        except EgoXInputError as error:
            missing_reason = str(error)
    ego_path = episode.ego
    if ego_path is None and take is not None:
        ego_path = take.trajectory.ego
    if ego_path is None:
        return EpisodeResult(name=episode.name, finding=f"not testable: {missing_reason}")
    video_info = probe_video(episode.ego_video)
    first_pose_index = episode.first_frame
    posed_count = min(video_info.frame_count - first_pose_index, len(ego_path))
    times_s = np.asarray(video_info.times_s[first_pose_index : first_pose_index + posed_count])
    compared_count = min(posed_count, MOST_COMPARED_FRAMES)
    frame_numbers = range(first_pose_index, first_pose_index + compared_count)
    upright_path = ego_path.upright
    pictures = (
        picture for _, picture in decode_frames(episode.ego_video, video_info, frame_numbers)
    )
    picture_rotations = picture_turns(
        pictures, upright_path.camera.rescale(video_info.width, video_info.height), progress
    )
    w2c = upright_path.poses(len(ego_path)).numpy()[:posed_count]
    motion_result = compare_turns(picture_rotations, times_s[:compared_count], w2c[:compared_count])
    episode_result = EpisodeResult(name=episode.name, finding="", motion=motion_result)
    finding_notes = []
    if motion_result is None:
        finding_notes.append("its clock is not testable: too few frames with poses")
    elif not motion_result.has_enough_rotation:
        finding_notes.append("the head hardly turns: its clock is not testable")
    elif motion_result.is_mirrored or motion_result.is_other_recording:
        message = (
            "mirrored: the head turns to the left in its pictures and to the right in its poses"
            if motion_result.is_mirrored
            else (
                f"other poses: they explain {max(motion_result.explained_share, 0):.0%} of the "
                "head's turns"
            )
        )
        return replace(
            episode_result, mismatch_sigmas=motion_result.mismatch_sigmas, finding=message
        )
    elif not motion_result.is_lag_known:
        finding_notes.append("its clock is not testable: pictures and poses turn too differently")
    elif episode_result.lag_s:
        finding_notes.append("late" if episode_result.lag_s > 0 else "early")
    if take is None:
        finding_notes.append(f"its view is not testable: {missing_reason}")
    else:
        episode_result, finding_text = fit_view(
            episode_result, take, episode.ego_video, times_s, w2c, depth_sd, progress
        )
        finding_notes.append(finding_text)
    return replace(episode_result, finding="; ".join(finding_notes))


def _load_take(folder: Path, episode: EgoClip, progress: Progress) -> Take:
    """Load evenly spaced frames of a take, as many as its scene needs."""
    video_info = probe_video(folder / "exo.mp4")
    count = episode.frames or video_info.frame_count
    if episode.ego is not None:  # a take may have more pictures than poses
        count = max(1, min(count, len(episode.ego)))
    fps = 0.0 if count <= MOST_RENDERED_FRAMES else video_info.fps * MOST_RENDERED_FRAMES / count
    return load_take(
        folder,
        frame_count=longest_clip(min(count, MOST_RENDERED_FRAMES)),
        target_fps=fps,
        # A clip of a set was judged when it was made.
        one_shot=episode.frames is not None,
        progress=progress,
    )
