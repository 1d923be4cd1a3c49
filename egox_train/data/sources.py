"""Detect the layout of a source folder, and list its takes."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from egox_core.cameras import preset_camera
from egox_core.errors import EgoXInputError, check_choice
from egox_core.facts import NOTHING_DECLARED, Declared
from egox_core.file_names import DEPTH, EXO, HEAD_KEYPOINTS, META, TRUTH
from egox_core.frames import FileFrames
from egox_core.remarks import Remark, RemarkKind
from egox_core.safe_files import read_json, require_folder, require_safe_name
from egox_core.stages import path
from egox_core.takes import (
    LIST_KEYS,
    MAX_META_BYTES,
    check_ego_count,
    ego_lens,
    find_depth,
    listed_takes,
    meta_lens,
    own_camera,
    parse_meta,
    read_meta,
    shown_take,
    take_name,
    with_exo_lens,
)
from egox_core.trajectory import FramesBeyondTrack, with_declared_mount, with_declared_world
from egox_core.types import CameraTrajectory, ExoLens, TakeMeta
from egox_core.video import probe_video

from ..options import Layout
from ..takes.head_files import read_keypoints, select_all_frames
from ..takes.head_step import check_pose_shift
from .egoexo4d import is_egoexo4d, read_egoexo4d
from .raw_take import RawTake, RawView, SourceLayout
from .take_list import room_of_name

TRUTH_NAMES = (TRUTH, "ego_GT.mp4", "ego.mp4")


def list_takes(
    root: Path,
    layout: str,
    skipped: list[tuple[str, str]],
    exo_lens: ExoLens | None = None,
    ego_path: Path | None = None,
    file_frames: FileFrames = "auto",
    declared: Declared = NOTHING_DECLARED,
) -> Iterator[RawTake]:
    """List all takes of a source folder, and report unusable ones in ``skipped``.

    Args:
        exo_lens: see :func:`egox_core.takes.with_exo_lens`. None: raw for Ego-Exo4D's own
            folders, as given else.
        ego_path: file in each take's folder with the wearer's poses, for takes whose meta.json has
            none.
        file_frames: of which frames its entries are, where it doesn't state them.
        declared: what the user knows of the takes' files.

    Raises:
        EgoXInputError: no such folder, unknown layout, nothing in it that is a take, an
            ``ego_path`` with a layout that brings poses along.
    """
    check_choice("layout", layout, get_args(Layout))
    require_folder(root, "source", "a folder of takes")
    layout = _detect_layout(root) if layout == "auto" else layout
    if ego_path is not None and layout != "take":
        raise EgoXInputError(
            "--ego-path",
            got=f"it with takes in the layout {layout}",
            expected="take folders, whose meta.json has no ego_extrinsics",
            fix="leave --ego-path out: this layout brings the wearer's poses along",
        )
    if layout == "egoexo4d":
        for take in read_egoexo4d(root, skipped, exo_lens or "raw"):
            yield replace(take, declared=declared)
    elif layout == "released":
        yield from _released_takes(root, skipped, exo_lens or "as given", declared)
    else:
        folders = (
            [root] if (root / META).is_file() else sorted(p.parent for p in root.glob(f"*/{META}"))
        )
        if not folders:
            raise EgoXInputError(
                "source",
                got=f"{root.name!r} without a {META}",
                expected="take folders",
                fix=f"each take's folder contains {EXO}, {DEPTH} and {META}",
            )
        for folder in folders:
            try:
                take_meta, notes = read_meta(folder / META, declared=declared), ()
                if ego_path is not None:
                    take_meta, notes = _with_ego_path(take_meta, folder, ego_path, file_frames)
                take = _from_meta(
                    folder.name, folder, None, take_meta, "take", exo_lens or "as given", notes
                )
            except EgoXInputError as error:
                skipped.append((folder.name, str(error)))
            else:
                yield take


def _detect_layout(root: Path) -> str:
    if is_egoexo4d(root):
        return "egoexo4d"
    if _read_lists(root):
        return "released"
    return "take"


def _read_lists(root: Path) -> list[list]:
    """Read the lists of takes in a folder from JSON files such as meta.json."""
    files = [root / META, *sorted(root.glob("meta_*.json"))]
    contents = (read_json(file, META, MAX_META_BYTES) for file in files if file.is_file())
    return [
        take_list
        for content in contents
        if isinstance(take_list := listed_takes(content), list) and take_list
    ]


def _released_takes(
    root: Path, skipped: list[tuple[str, str]], exo_lens: ExoLens, declared: Declared
) -> Iterator[RawTake]:
    """Read takes in the folder layout of the authors' release.

    The list is ``meta.json`` or ``meta_<name>.json``, beside ``videos/<take>/exo.mp4`` and
    ``depth_maps/<take>/*.npy``.

    Paths in the list start wherever their author ran a script; only the take's name is taken from
    them."""
    take_lists = _read_lists(root)
    if not take_lists:
        raise EgoXInputError(
            "released meta.json",
            got=f"no list under one of {LIST_KEYS}",
            expected="the authors' form",
            fix="choose --layout take for single take folders",
        )
    entries = [entry for take_list in take_lists for entry in take_list]
    for entry_number, entry in enumerate(entries):
        name = (take_name(entry) if isinstance(entry, dict) else "") or str(entry_number)
        try:
            take_meta = parse_meta(entry, root / META, declared=declared)
            # Without a path it is called after its file; the number tells entries apart.
            name = require_safe_name(take_meta.name, "take name") if take_meta.exo_path else name
            folders = root / "videos" / name, root / name
            folder = next((f for f in folders if (f / EXO).is_file()), None)
            if folder is None:
                raise EgoXInputError(
                    f"take {name}",
                    got=f"no {EXO}",
                    expected=f"videos/{name}/{EXO}",
                    fix=f"put the videos next to {META}",
                )
            depth_folder = root / "depth_maps" / name
            take = _from_meta(
                name,
                folder,
                depth_folder if depth_folder.is_dir() else None,
                take_meta,
                "released",
                exo_lens,
            )
        except EgoXInputError as error:
            skipped.append((name, str(error)))
        else:
            yield take


def _with_ego_path(
    meta: TakeMeta, folder: Path, ego_path: Path, file_frames: FileFrames
) -> tuple[TakeMeta, tuple[Remark, ...]]:
    """Read a take's ego poses from another file, unless its meta.json has some."""
    path_file = meta.ego_source(folder / ego_path)
    if path_file is meta:
        note_text = f"the ego poses are those of its {META}, {ego_path.name} was not read"
        return meta, (Remark(note_text, RemarkKind.WARNING),)
    frames = select_all_frames(probe_video(folder / EXO), folder / EXO)
    read_poses = partial(
        path,
        path_file,
        camera=meta.ego_lens,
        file_frames=file_frames,
        declared=meta.declared.part("ego."),
    )
    part = None
    try:
        trajectory, path_notes = read_poses(frames=frames)
    except FramesBeyondTrack as error:
        if (part := error.covered) is None:
            raise
        trajectory, path_notes = read_poses(frames=frames.select(part))
    tied_ego_path = trajectory.in_world_of(meta.exo).ego
    warnings = trajectory.other_exo(meta.exo)
    path_remarks = (Remark(f"{ego_path.name}: {path_notes.placed}"),) if path_notes.placed else ()
    if part is not None:
        text = f"{ego_path.name}: poses for frames {part.start} to {part.stop - 1} of {len(frames)}"
        path_remarks += (Remark(text),)
        w2c = torch.full((len(frames), 3, 4), torch.nan, dtype=torch.float64)
        w2c[part] = tied_ego_path.w2c
        tied_ego_path = replace(tied_ego_path, w2c=w2c, frames=frames.without_sizes)
    meta = replace(
        meta,
        ego=tied_ego_path,
        ego_lens=tied_ego_path.camera,
        facts=(*meta.facts, *trajectory.facts),
    )
    return meta, (*path_remarks, *warnings)


def _from_meta(
    name: str,
    folder: Path,
    depth: Path | None,
    meta: TakeMeta,
    layout: SourceLayout,
    exo_lens: ExoLens,
    notes: tuple[Remark, ...] = (),
) -> RawTake:
    if re.search("[\ud800-\udfff]", name):  # Linux hands out other bytes so
        raise EgoXInputError(
            f"take {name!r}",
            got="a folder name that is no Unicode",
            expected="a name that a training set can list",
            fix="rename the folder",
        )
    if meta.ego is None or meta.exo.world != "take" or meta.exo_camera is None:
        raise EgoXInputError(
            f"take {name}",
            got="no ego_extrinsics, camera_extrinsics or camera_intrinsics",
            expected="cameras of both views",
            fix="complete its meta.json, or give a file of the wearer's poses as --ego-path; "
            "docs/own_recordings.md tells how to find cameras of your own recordings",
        )
    meta.declared.check_whole_video(name)
    video = folder / EXO
    video_info = probe_video(video)
    all_frames = select_all_frames(video_info, video)
    meta_with_lens, lens_note = with_exo_lens(meta, exo_lens)
    has_own_lens = meta_with_lens is meta
    meta_with_lens = shown_take(meta_with_lens, all_frames, meta.declared)
    meta = shown_take(meta, all_frames, meta.declared)
    assert meta.ego is not None and meta.exo_camera is not None  # as above
    check_ego_count(meta, all_frames)
    # The raw lens' picture may be wider than the video, its middle; K as given is taken to be the
    # video's own, or else that of a picture that it is centred in.
    camera, source_size = meta.exo_camera, all_frames.source_size
    if not has_own_lens:
        camera = meta_lens(meta_with_lens, source_size, all_frames).lens
    elif meta.exo.lens is None and meta.camera_intrinsics is not None:
        with suppress(EgoXInputError):
            camera = own_camera(meta.camera_intrinsics, source_size, "camera_intrinsics")
    exo_view = replace(meta.exo, lens=camera)
    for other in meta.other_lenses:
        note_text = f"exo lens: {camera.words}, otherwise {other}"
        notes += (Remark(note_text, RemarkKind.WARNING),)
    if depth is None:
        try:
            depth = find_depth(folder)
        except EgoXInputError:
            depth = None
    ego_path = meta.ego
    if ego_path.stands:
        ego_path = replace(ego_path, w2c=ego_path.poses(video_info.frame_count))
    truth_file = next((folder / n for n in TRUTH_NAMES if (folder / n).is_file()), None)
    k = (
        meta.ego_intrinsics
        if meta.ego_intrinsics is not None
        else torch.eye(3, dtype=torch.float64)
    )
    if exo_lens != "as given":
        notes += (Remark(lens_note),)
    lens, lens_notes = ego_lens(meta, preset_camera("aria_released", video_info.height))
    if lens_notes:
        notes += (Remark(lens_notes, RemarkKind.WARNING),)
    if (folder / HEAD_KEYPOINTS).is_file() and not meta.pose_source:
        try:
            points = read_keypoints(folder / HEAD_KEYPOINTS, all_frames)
            notes += check_pose_shift(points, ego_path, exo_view)
        except EgoXInputError as error:
            warning = f"the head's way was not compared with the ego poses: {error}"
            notes += (Remark(warning, RemarkKind.WARNING),)
    rows = tuple(dict.fromkeys((*meta.facts, *meta.declared.rows("ego.frames"))))
    trajectory = CameraTrajectory(ego=replace(ego_path, lens=lens), exo=meta.exo, facts=rows)
    trajectory = with_declared_world(trajectory, meta.declared, meta.exo)
    trajectory = with_declared_mount(trajectory, meta.declared)
    return RawTake(
        name=name,
        layout=layout,
        ego_video=truth_file,
        ego=trajectory.ego,
        declared=meta.declared,
        facts=trajectory.facts,
        meta_intrinsics=k,
        prompt=meta.prompt,
        pose_source=meta.pose_source,
        room=room_of_name(name, 3) if layout == "released" else "",
        notes=notes,
        exos=(
            RawView(
                name="exo",
                video=video,
                exo=exo_view,
                depth=depth,
            ),
        ),
    )
