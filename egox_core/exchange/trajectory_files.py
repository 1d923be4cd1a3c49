"""Read and write ego trajectories as our own JSON, and read those of all other supported
formats."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..arrays import as_matrix
from ..cameras import CameraModel, CameraPath, validate_w2c
from ..errors import EgoXInputError
from ..facts import NOTHING_DECLARED, Declared
from ..frames import Frames, settle_frames, states_moments
from ..safe_files import read_json, read_optional, write_json
from ..takes import MAX_META_BYTES, meta_trajectory, parse_meta
from ..trajectory import (
    PoseTrack,
    check_made_on,
    direction,
    flags_at,
    has_w2c,
    keyframe_track,
    turn_to_looks,
    with_declared_mount,
)
from ..types import CameraTrajectory, TakeNotes
from ..video import video_mark
from .camera_files import FORMAT, CameraFile, identify_form

VERSION = 1
REQUIRED_KEYS = frozenset({"format", "version", "camera", "times_s", "w2c"})
OPTIONAL_KEYS = frozenset(
    {"prompt", "source", "exo_w2c", "exo_camera", "meta_intrinsics", "guessed", "looks", "up"}
    | {"confidence"}
)
"""``confidence`` is of older files and says nothing."""
SENSOR_NOTE = (
    "w2c of the keyframes are taken as a meta.json's, of a sensor turned by 90 degrees; give "
    "position and angles where they are of the upright picture"
)


def read_trajectory(
    path: Path,
    camera: CameraModel,
    frames: Frames | None = None,
    *,
    entry: str = "",
    lens: bool = True,
    content: object = None,
    declared: Declared = NOTHING_DECLARED,
) -> tuple[CameraTrajectory, TakeNotes]:
    """Read an ego trajectory from a file, with the notes beside it.

    Forms: the released meta.json (both), our own JSON, keyframes, and those of other programs that
    :class:`.camera_files.CameraFile` reads: upright, in a world and scale of their own, their
    pictures of the frames that :func:`.frames.find_moments` finds.

    Args:
        camera: what the prior is drawn with, unless the file carries its own ego camera (another
            one is put in afterwards by :func:`trajectory.adapted`). Its quarter turns are those
            of a meta.json's sensor.
        frames: the frames in use; poses follow their index (meta.json) or time. A count alone:
            the file's first poses; None: all.
        entry: the take, where a meta.json lists several.
        lens: read the file's lens, where it has one; else it may be any, and the path has
            ``camera``, upright.
        content: what a JSON file holds, where it was read already.
        declared: what the user says of the poses and their frames; a file that states it itself
            says otherwise.

    Raises:
        EgoXInputError: unknown form or lens, frames that can't be told, bad
            matrices, shorter than the frames in use.
    """
    if path.suffix.lower() != ".json":
        camera_file = CameraFile.read(path, "trajectory file")
    else:
        if content is None:
            content = read_json(path, "trajectory file", MAX_META_BYTES)
        file_form = identify_form(content)
        if (file_frames := declared.value("ego.frames")) and file_form in ("ours", "keyframes"):
            raise states_moments(path.name, file_frames)
        if file_form == "ours" and isinstance(content, dict):
            trajectory = parse_trajectory(content, path.name, frames)
            return trajectory, _notes_beside(content, path.name)
        if file_form == "keyframes":
            check_made_on(content, video_mark(Frames.video_of(frames)))
            track = keyframe_track(content, camera, path.name)
            clock = "number" if track.clock == "index" else "time"
            sentences = [f"{len(track.moments)} keyframes: read by {clock}"]
            if has_w2c(content):
                sentences.append(SENSOR_NOTE)
            notes = TakeNotes(source=path.name, placed="; ".join(sentences))
            return track.trajectory(camera, frames), notes
        if file_form == "meta":
            meta = parse_meta(content, path, entry, Frames.video_of(frames), declared)
            return meta_trajectory(meta, camera, frames, lens_given=not lens)
        camera_file = CameraFile.parse(content, path.name, path.parent)
    camera_file = camera_file.settled(declared)
    own_camera = camera_file.lens() if lens and camera_file.lens is not None else camera.upright()
    track, placement_note = camera_file.track(frames)
    trajectory = track.trajectory(own_camera, frames, world="unknown")
    placement_note = "; ".join(filter(None, [placement_note, *map(str, camera_file.remarks)]))
    rows = (*camera_file.rows, *camera_file.clock_rows(track))
    trajectory = with_declared_mount(replace(trajectory, facts=rows), declared)
    return trajectory, TakeNotes(source=camera_file.name, placed=placement_note)


def times_of_path(path: Path) -> Tensor | None:  # [N] seconds of the video
    """Read the times of the poses of our own JSON, or return None for another form."""
    if path.suffix.lower() != ".json":
        return None
    content = read_json(path, "trajectory file", MAX_META_BYTES)
    if identify_form(content) != "ours" or not isinstance(content, dict):
        return None
    return _finite_numbers(content["times_s"], f"times_s of {path.name}")


def write_trajectory(
    path: Path,
    trajectory: CameraTrajectory,
    notes: TakeNotes,
    # The poses follow these already, so reading the file changes nothing.
    looks: Sequence[Mapping] = (),
    # The world's upward direction, for the looks; empty: -y.
    up: Sequence[float] = (),
) -> None:
    """Write an ego trajectory as our own JSON, complete or not at all."""
    ego = trajectory.ego
    exo = trajectory.exo or CameraPath.of_exo(None)
    content: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "camera": ego.camera.to_json(),
        "times_s": ego.frames.times_s.tolist(),
        "w2c": ego.w2c.tolist(),
        "prompt": notes.prompt,
        "source": notes.source,
    }
    if exo.lens is not None:
        content["exo_camera"] = exo.lens.to_json()
    if looks:
        content |= {"looks": list(looks), "up": direction(up or None, "up").tolist()}
    if trajectory.guessed is not None:
        content["guessed"] = trajectory.guessed.tolist()
    for key, value in (
        ("exo_w2c", exo.pose),
        ("meta_intrinsics", notes.meta_intrinsics),
    ):
        if value is not None:
            content[key] = value.tolist()
    write_json(path, content)


def parse_trajectory(content: dict, name: str, frames: Frames | None = None) -> CameraTrajectory:
    """Parse our own trajectory JSON, resampled to the times of ``frames``.

    Raises:
        EgoXInputError: unknown or missing keys, another version, lengths that differ, shorter than
            the frames in use.
    """
    missing_keys, unknown_keys = (
        REQUIRED_KEYS - content.keys(),
        content.keys() - REQUIRED_KEYS - OPTIONAL_KEYS,
    )
    if missing_keys or unknown_keys:
        raise EgoXInputError(
            f"trajectory {name}",
            got=f"missing keys {sorted(missing_keys)}, unknown {sorted(unknown_keys)}",
            expected=f"{sorted(REQUIRED_KEYS)}, optionally {sorted(OPTIONAL_KEYS)}",
            fix="save it again in the pose editor",
        )
    if content["version"] != VERSION:
        raise EgoXInputError(
            f"trajectory {name}",
            got=f"version {content['version']}",
            expected=VERSION,
            fix="update the pack, or write the file again",
        )
    read_value = partial(read_optional, content, name)
    w2c = validate_w2c(content["w2c"], f"w2c of {name}")
    camera = CameraModel.from_json(content["camera"], f"camera of {name}")
    times = _finite_numbers(content["times_s"], f"times_s of {name}")
    ego = CameraPath(lens=camera, w2c=w2c, world="unknown")
    ego_track = PoseTrack(
        w2c=ego.w2c, moments=times, clock="seconds", name=name, constant=ego.stands
    )
    ego_track = turn_to_looks(
        ego_track,
        _timed_looks(content.get("looks") or [], times, name),
        direction(content.get("up"), f"up of {name}"),
        camera.quarter_turns,
    )
    exo = CameraPath.of_exo(
        read_value("exo_camera", CameraModel.from_json), read_value("exo_w2c", validate_w2c)
    )
    own_frames = Frames.of_count(1) if ego.stands else Frames.timed(times)
    frames = settle_frames(frames, own_frames, f"trajectory {name}")
    if not exo.stands:
        exo_name = f"exo_w2c of {name}"
        exo_track = PoseTrack(
            w2c=exo.w2c, moments=times, clock="seconds", name=exo_name, constant=ego.stands
        )
        exo = replace(exo, w2c=exo_track.of_frames(frames), frames=frames.without_sizes)
    return ego_track.trajectory(
        camera, frames, exo=exo, guessed=_guessed_flags(content, times, name, frames)
    )


def _notes_beside(content: dict, name: str) -> TakeNotes:
    """Read what our own trajectory JSON has beside its poses."""
    read_k = partial(_finite_numbers, shape=(3, 3))
    return TakeNotes(
        prompt=str(content.get("prompt", "")),
        meta_intrinsics=read_optional(content, name, "meta_intrinsics", read_k),
        source=str(content.get("source") or name),
        placed=f"{name}: {len(content['times_s'])} poses: read by time",
    )


def _timed_looks(looks: object, times: Tensor, name: str) -> object:
    """Convert look points with a frame number to look points with a time."""
    if not isinstance(looks, list):
        return looks
    timed_looks = []
    for look in looks:
        if isinstance(look, dict) and look.get("frame") in range(len(times)):
            look = {"time_s": float(times[look["frame"]]), "point": look.get("point")}
        timed_looks.append(look)
    return timed_looks


def _guessed_flags(content: dict, times: Tensor, name: str, frames: Frames) -> Tensor | None:
    """Mark the frames in use [T] whose pose the file calls a guess."""
    numbers = read_optional(
        content, name, "guessed", partial(_finite_numbers, shape=tuple(times.shape))
    )
    if numbers is None:
        return None
    return flags_at(numbers > 0, times, frames.times_s)


def _finite_numbers(values: object, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
    tensor = as_matrix(values, name, "numbers")
    if (tensor.shape != shape if shape else tensor.ndim != 1) or not bool(
        torch.isfinite(tensor).all()
    ):
        raise EgoXInputError(
            name,
            got=f"shape {tuple(tensor.shape)}",
            expected=f"finite numbers, shape {shape or 'T'}",
            fix="correct the file",
        )
    return tensor
