"""``calibrate --check``: whether the cameras that a set states are those of its pictures.

Two measurements, neither of which needs the other. The head camera's turns from frame to frame tell
when its poses are, and whose. Its view of the scene, which exo's pictures and depth make, tells a
constant turn and shift."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from egox_core.errors import EgoXInputError
from egox_core.file_names import TRUTH
from egox_core.progress import Progress, no_progress
from egox_core.take import Take, load_take
from egox_core.video import decode_frames, probe_video

from ..data.manifest import read_manifest
from ..data.sources import list_takes
from .check_row import Row
from .mend import mend
from .robot_episodes import is_robot_set, robot_episodes
from .stated import Stated
from .view_fit import fit_view
from .view_motion import compare_turns, picture_turns

MOST_TURNS, MOST_VIEWS = 900, 49
"""Frames whose turns are compared, and frames that make the scene."""


def check_set(root: Path, write: bool = False, progress: Progress = no_progress) -> tuple[Row, ...]:
    """Check every episode of a set, and list the surest fault first.

    Args:
        write: mend the poses in the ``meta.json`` of take folders whose fault is sure.

    Raises:
        EgoXInputError: no set, none with an ego video, ``write`` with another than take folders.
    """
    stated = tuple(_stated(root, write))
    if not stated:
        raise EgoXInputError(
            "set",
            got=f"no episode with an ego video in {root.name!r}",
            expected="takes, clips or episodes with the wearer's own video",
            fix="give the takes that the set was made from",
        )
    rows = []
    for number, each in enumerate(stated):
        progress(number, len(stated), f"cameras of {each.name}")
        try:
            rows.append(_checked(each, progress))
        except EgoXInputError as error:
            rows.append(Row(name=each.name, words=f"not read: {error}"))
    if write:
        for row in rows:
            if row.mendable and row.folder is not None:
                mend(row, row.folder)
    return tuple(sorted(rows, key=lambda row: (not row.wrong, -row.sigmas)))


def _stated(root: Path, write: bool) -> Iterator[Stated]:
    manifest = root / "manifest.jsonl"
    takes = not manifest.is_file() and not is_robot_set(root)
    if write and not takes:
        raise EgoXInputError(
            "--write",
            got=f"{root.name!r}, which was made from takes",
            expected="take folders",
            fix="mend the takes, and make the set again: its priors follow from the poses",
        )
    if manifest.is_file():
        for record in read_manifest(manifest):
            if record.ground_truth:
                folder = root / record.folder
                yield Stated(
                    name=record.clip,
                    ego_video=folder / TRUTH,
                    folder=folder,
                    frames=record.frames,
                )
        return
    if not takes:
        yield from robot_episodes(root)
        return
    skipped: list[tuple[str, str]] = []
    for take in list_takes(root, "auto", skipped):
        for view in take.exos:
            folder = view.video.parent if take.layout == "take" else None
            name = take.name if len(take.exos) == 1 else f"{take.name}/{view.name}"
            yield Stated(name=name, ego_video=take.ego_video, folder=folder, ego=take.ego)
    for name, why in skipped:
        yield Stated(name=name, ego_video=None, problem=why)


def _checked(stated: Stated, progress: Progress) -> Row:
    if stated.ego_video is None:
        words = stated.problem or "not testable: no ego video"
        return Row(name=stated.name, words=words)
    take, why = None, "no depth"
    if stated.folder is not None:
        try:
            take = _loaded(stated.folder, stated, progress)
        except EgoXInputError as error:
            why = str(error)
    ego = stated.ego
    if ego is None and take is not None:
        ego = take.trajectory.ego
    if ego is None:
        return Row(name=stated.name, words=f"not testable: {why}")
    info = probe_video(stated.ego_video)
    first = stated.first
    posed = min(info.frame_count - first, len(ego))
    times_s = np.asarray(info.times_s[first : first + posed])
    count = min(posed, MOST_TURNS)
    numbers = range(first, first + count)
    upright = ego.upright
    pictures = (picture for _, picture in decode_frames(stated.ego_video, info, numbers))
    turns = picture_turns(pictures, upright.camera.rescale(info.width, info.height), progress)
    w2c = upright.poses(len(ego)).numpy()[:posed]
    motion = compare_turns(turns, times_s[:count], w2c[:count])
    row = Row(name=stated.name, words="", folder=stated.folder, motion=motion)
    notes = []
    if motion is None:
        notes.append("its clock is not testable: too few frames with poses")
    elif not motion.told:
        notes.append("the head hardly turns: its clock is not testable")
    elif motion.mirrored or motion.others:
        words = (
            "mirrored: the head turns to the left in its pictures and to the right in its poses"
            if motion.mirrored
            else f"other poses: they explain {max(motion.explained, 0):.0%} of the head's turns"
        )
        return replace(row, strange_sigmas=motion.strange_sigmas, words=words)
    elif not motion.lag_known:
        notes.append("its clock is not testable: pictures and poses turn too differently")
    elif row.lag_s:
        notes.append("late" if row.lag_s > 0 else "early")
    if take is None:
        notes.append(f"turn and shift are not testable: {why}")
    else:
        row, finding = fit_view(row, take, stated.ego_video, times_s, w2c, progress)
        notes.append(finding)
    return replace(row, words="; ".join(notes))


def _loaded(folder: Path, stated: Stated, progress: Progress) -> Take:
    """Read so many frames of a take as make its scene, evenly spaced."""
    info = probe_video(folder / "exo.mp4")
    count = stated.frames or info.frame_count
    fps = 0.0 if count <= MOST_VIEWS else info.fps * MOST_VIEWS / count
    return load_take(
        folder,
        frame_count=None,
        target_fps=fps,
        # A clip of a set was judged when it was made.
        one_shot=stated.frames is not None,
        progress=progress,
    )
