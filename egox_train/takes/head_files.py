"""Estimate head poses of a take from files of keypoints, and write the trajectory beside the
take."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egox_core.archives import open_zip, read_array
from egox_core.cameras import camera_centre, preset_camera
from egox_core.errors import EgoXInputError
from egox_core.exchange import write_trajectory
from egox_core.file_names import DEPTH_NAMES, EXO, HEAD_TRAJECTORY, META
from egox_core.frames import FileFrames, Numbering, entries_of, numbered_files
from egox_core.progress import Progress, no_progress
from egox_core.remarks import Remark
from egox_core.safe_files import read_json, visible_files, write_json
from egox_core.takes import (
    ego_lens,
    exo_poses,
    listed_takes,
    load_depth_file,
    meta_lens,
    read_meta,
    shown_take,
    with_exo_lens,
)
from egox_core.trajectory import (
    OWN_BODY_M,
    ExoView,
    HeadPoints,
    HeadReport,
    PoseTrack,
    estimate_head,
    joined_points,
    turn_to_looks,
)
from egox_core.types import FROM_HEAD_KEYPOINTS, CameraTrajectory, FrameSelection, TakeNotes
from egox_core.video import VideoInfo, probe_video

from ..options import HeadOptions, declared_of
from .head_step import check_pose_shift
from .mask_files import check_mask_file, find_mask, read_mask

MHR_KEYS = (
    "pred_keypoints_3d",
    "pred_cam_t",
    "pred_keypoints_2d",
    "pred_face_keypoints_3d",
    "bbox",
    "focal_length",
    "image_size",
    "frame_idx",
)
MAX_JSON_BYTES = 512 * 2**20  # whole-body keypoints of an hour


def estimate_take(
    folder: Path, keypoints: Path, options: HeadOptions, progress: Progress = no_progress
) -> tuple[CameraTrajectory, HeadReport, dict[str, object]]:
    """Estimate the wearer's camera path from detected key points in the exo video.

    Returns the trajectory, a report, and extra fields for the trajectory file (notes, and
    the points that the wearer was made to look at).

    Depth is used where the take has it. The video is not decoded.

    Raises:
        EgoXInputError: files missing or bad, another number of frames, nobody seen, several and
            none chosen.
    """
    folder = Path(folder)
    declared = declared_of(options.declare)
    meta = read_meta(folder / META, options.entry, declared=declared)
    take_meta, _ = with_exo_lens(meta, options.exo_lens)
    meta.declared.check_whole_video(folder.name)
    video_info = probe_video(folder / EXO)
    mask = (
        None
        if options.mask is None
        else find_mask(options.mask.parent, options.mask.stem, options.file_frames)
    )
    frames = select_all_frames(video_info, folder / EXO)
    take_meta = shown_take(take_meta, frames, take_meta.declared)
    payload, frames, input_notes = _read_payload(keypoints, frames, options.file_frames)
    wearer_mask = None
    if mask is not None:
        input_notes += (check_mask_file(mask, frames),)
        wearer_mask = read_mask(mask, frames, progress)
    depth_m = None
    facts = take_meta.facts
    depth_file = next((folder / name for name in DEPTH_NAMES if (folder / name).exists()), None)
    if depth_file is not None:
        loaded_depth = load_depth_file(depth_file, take_meta, frames, progress=progress).depth
        depth_m, exo_path = loaded_depth.depth_m, loaded_depth.exo
        facts = (*facts, *loaded_depth.facts)
        wearer_mask = loaded_depth.dynamic if wearer_mask is None else wearer_mask
    else:
        exo_lens = meta_lens(take_meta, frames.source_size, frames).seen(frames.camera)
        exo_path = exo_poses(take_meta, frames, lens=exo_lens.lens)
    declared.check_applied(facts, "this take's files")
    person_mask = None if mask is None else wearer_mask
    head_points, _ = joined_points(payload, frames, person=options.person, mask=person_mask)
    path = estimate_head(
        head_points,
        exo_path,
        depth_m=depth_m,
        mask=wearer_mask,
        frames=frames,
        up=options.up,
    )
    if take_meta.ego is not None and not take_meta.pose_source:
        input_notes += check_pose_shift(head_points, take_meta.ego, exo_path)
    path = replace(path, report=replace(path.report, notes=(*path.report.notes, *input_notes)))
    lens, _ = ego_lens(take_meta, preset_camera("aria_released", frames.size[1]))
    trajectory = path.trajectory(
        lens,
        frames,
        offset=options.offset,
        pitch_deg=options.pitch_deg,
        exo=exo_path,
    )
    extra_fields = {
        "notes": TakeNotes(prompt=take_meta.prompt, source="estimated from head points")
    }
    if not options.clicks:
        return trajectory, path.report, extra_fields
    exo_view = ExoView(exo=exo_path, depth_m=depth_m, mask=None, up=None)
    look_points = find_clicked_points(options.clicks, exo_view, camera_centre(trajectory.ego.w2c))
    head_track = turn_to_looks(
        PoseTrack.numbered(trajectory.ego.w2c, "estimate"),
        look_points,
        path.up,
        lens.quarter_turns,
    )
    bent_trajectory = replace(
        trajectory, ego=replace(trajectory.ego, w2c=head_track.at(head_track.moments))
    )
    return (
        bent_trajectory,
        path.report,
        {**extra_fields, "looks": look_points, "up": path.up.tolist()},
    )


def find_clicked_points(
    clicks: Sequence[tuple[float, float, float]],  # (frame, x, y)
    view: ExoView,
    heads: Tensor,  # [T, 3] metres, world
) -> list[dict[str, object]]:
    """Find the 3D points under clicks in the exo video, at which the wearer looks.

    A surface within OWN_BODY_M of the wearer's head is the wearer's own: what is seen there in the
    nearest other frame counts then, where the exo camera stands still.

    Raises:
        EgoXInputError: no depth, a frame or pixel outside the video, nothing there but the wearer.
    """
    if view.depth_m is None:
        raise EgoXInputError(
            "--look-at", got="no depth", expected="the take's depth", fix="add it to the take"
        )
    frame_count, height, width = view.depth_m.shape
    rotation, origin = view.poses(frame_count)
    look_by_frame = {}
    for frame_number, x, y in clicks:
        frame, click_uv = int(frame_number), np.array([x, y])
        option_text = f"--look-at {frame},{x:g},{y:g}"
        if frame != frame_number or not (
            0 <= frame < frame_count and 0 <= x < width and 0 <= y < height
        ):
            raise EgoXInputError(
                option_text,
                got="a place outside the video",
                expected=f"frames 0 to {frame_count - 1}, {width}x{height} px",
                fix="number the frames from 0",
            )
        click_ray = (
            rotation[frame] @ view.exo.camera.unproject(torch.from_numpy(click_uv))[0].numpy()
        )
        frame_order = (
            [frame]
            if not view.exo.stands
            else sorted(range(frame_count), key=lambda t: abs(t - frame))
        )
        for t in frame_order:
            surface_point = origin[frame] + view.surface_reach(t, click_uv, 1.0) * click_ray
            if (
                np.linalg.norm(surface_point - heads[frame].numpy()) > OWN_BODY_M
            ):  # not for NaN either
                break
        else:
            raise EgoXInputError(
                option_text,
                got="the wearer's own body, or no depth",
                expected="something that the wearer looks at",
                fix="click on an object next to the wearer",
            )
        look_by_frame[frame] = {"frame": frame, "point": surface_point.round(5).tolist()}
    return [look_by_frame[frame] for frame in sorted(look_by_frame)]


def select_all_frames(video: VideoInfo, path: Path) -> FrameSelection:
    """Select all frames of a video at full size."""
    picture_size = (video.width, video.height)
    return FrameSelection(
        indices=torch.arange(video.frame_count),
        rate=video.fps,
        fps=video.fps,
        source_size=picture_size,
        times_s=torch.tensor(video.times_s, dtype=torch.float64),
        size=picture_size,
        resize="crop",
        source=path,
        total=video.frame_count,
        end_s=video.times_s[-1],
        turn=video.turn,
    )


def read_keypoints(path: Path, frames: FrameSelection, *, person: int | None = None) -> HeadPoints:
    """Read the wearer's head points from a file or folder that a detector has written.

    The npz has the names of SAM 3D Body's payload, each with a leading axis of frames and, where
    several people are known, a second one of people: ``pred_keypoints_3d`` [T, (P,) 70, 3],
    ``pred_cam_t`` [T, (P,) 3], and ``pred_keypoints_2d`` or ``focal_length``; ``image_size``
    (height, width). Who is absent is NaN. Entries are of the video's first frames, or of those that
    each one's ``frame_idx`` says (an npz: [T]).

    Args:
        frames: all of the video; its size is that of files that don't say what their pixels belong
            to.

    Raises:
        EgoXInputError: no such file, another form, see ``joined_points``.
    """
    payload, frames, _ = _read_payload(path, frames)
    head_points, _ = joined_points(payload, frames, person=person)
    return head_points


def _read_payload(
    path: Path, frames: FrameSelection, file_frames: FileFrames = "auto"
) -> tuple[dict[str, Any], FrameSelection, tuple[Remark, ...]]:
    """Read a key points file into the form that :func:`joined_points` expects.

    Also returns the frames it covers, and a note on how its entries were assigned to frames."""
    size = frames.source_size
    if path.suffix.lower() == ".npz" and not path.is_dir():
        payload, numbering = _mhr_payload(path, size)
        numbering = numbering.declared(file_frames)
        entries, notes = _entries_of_frames(payload["frames"], [], frames, numbering)
        payload = {"MHR_POSE_DATA": payload | {"frames": entries}}
        return payload, frames.select(slice(len(entries))), notes
    file_numbering = None
    if path.is_dir():
        files, file_numbering = _openpose_files(path)
        entries = [read_json(file, "keypoints") for file in files]
    else:
        entries = _openpose_list(path)
    canvas = {"canvas_width": size[0], "canvas_height": size[1]}
    if not any(isinstance(f, Mapping) and f.get("canvas_width") for f in entries):
        entries = [{**f, **canvas} if isinstance(f, Mapping) else f for f in entries]
    frame_numbers = [f.get("frame_idx") if isinstance(f, Mapping) else None for f in entries]
    numbering = _numbering(path.name, frame_numbers)
    if file_numbering is not None and file_numbering.numbers is not None and None in frame_numbers:
        if file_numbering.numbers[0]:  # from 0 on they say no more
            numbering = replace(numbering, numbers=file_numbering.numbers)
    numbering = numbering.declared(file_frames)
    entries, notes = _entries_of_frames(entries, {"people": []}, frames, numbering)
    return {"POSE_KEYPOINT": entries}, frames.select(slice(len(entries))), notes


def _numbering(name: str, frame_numbers: Sequence[Any]) -> Numbering:
    """Read the frame numbers of a detector's entries, if every entry has one."""
    all_numbers_stated = all(isinstance(frame_number, int) for frame_number in frame_numbers)
    numbers = torch.tensor(frame_numbers) if all_numbers_stated else None
    return Numbering(
        what=f"keypoints {name}", count=len(frame_numbers), numbers=numbers, sparse=True
    )


def _entries_of_frames(
    entries: list,
    # Taken for frames without an entry.
    empty_entry: Any,
    frames: FrameSelection,
    numbering: Numbering,
) -> tuple[list, tuple[Remark, ...]]:
    """Assign the entries of a key points file to video frames.

    Raises:
        EgoXInputError: entries that may be of other frames, places that are no frames of the video.
    """
    entry_indices, numbering_remark = entries_of(frames, numbering)
    rows = (
        torch.arange(len(entries))[entry_indices]
        if isinstance(entry_indices, slice)
        else entry_indices
    )
    return [
        empty_entry if entry_index < 0 else entries[entry_index] for entry_index in rows.tolist()
    ], (numbering_remark,)


def _openpose_files(folder: Path) -> tuple[list[Path], Numbering]:
    """List the JSON files of a folder in the order of their frame numbers."""
    names = [file.name for file in visible_files(folder, "*.json")]
    if not names:
        raise EgoXInputError(
            f"keypoints {folder.name}",
            got="a folder without JSON files",
            expected="OpenPose's JSON files, one per frame",
            fix="choose the folder that OpenPose wrote",
        )
    ordered_files, numbering = numbered_files(f"keypoints {folder.name}", names, (".json",))
    return [folder / name for name in ordered_files], numbering


def _openpose_list(path: Path) -> list:
    keypoint_content = read_json(path, "keypoints", limit=MAX_JSON_BYTES)
    if isinstance(keypoint_content, Mapping) and isinstance(keypoint_content.get("frames"), list):
        keypoint_content = keypoint_content["frames"]
    if not isinstance(keypoint_content, list) or not keypoint_content:
        raise EgoXInputError(
            f"keypoints {path.name}",
            got=repr(keypoint_content)[:40],
            expected="a list with one object per frame, as the host's POSE_KEYPOINT",
            fix="save the detector's output for the whole clip",
        )
    return keypoint_content


def _mhr_arrays(path: Path) -> dict[str, np.ndarray]:
    with open_zip(path, "keypoints") as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        if not {"pred_keypoints_3d", "pred_cam_t"} <= names:
            raise EgoXInputError(
                f"keypoints {path.name}",
                got=f"arrays {sorted(names)[:8]}",
                expected=f"{MHR_KEYS}",
                fix="save SAM 3D Body's output under its own names",
            )
        arrays = {
            key: read_array(archive, key, f"{key} of {path.name}")
            for key in MHR_KEYS
            if key in names
        }
    keypoints = arrays["pred_keypoints_3d"]
    leading_shape = keypoints.shape[:-2]
    for key, value in arrays.items():
        has_right_shape = (
            value.size >= 2
            if key == "image_size"
            else value.shape == leading_shape[:1]
            if key == "frame_idx"
            else value.ndim == 0 or value.shape[: len(leading_shape)] == leading_shape
        )
        if value.dtype.kind not in "fiu" or not has_right_shape or keypoints.ndim not in (3, 4):
            raise EgoXInputError(
                f"{key} of {path.name}",
                got=f"{value.dtype} of shape {value.shape}",
                expected=f"numbers of shape (T, (P,) …), as {MHR_KEYS[0]}",
                fix="save SAM 3D Body's output under its own names",
            )
    if keypoints.ndim == 3:  # one person
        arrays |= {
            key: value[:, None]
            for key, value in arrays.items()
            if key not in ("image_size", "frame_idx") and value.ndim > 0
        }
    return arrays


def _mhr_payload(path: Path, size: tuple[int, int]) -> tuple[dict[str, Any], Numbering]:
    """Read key points from an MHR npz file."""
    arrays = _mhr_arrays(path)
    image_size = arrays.pop("image_size", np.array([size[1], size[0]])).reshape(-1)
    count, person_count = arrays["pred_keypoints_3d"].shape[:2]
    frames, frame_numbers = [], arrays.pop("frame_idx", np.array([None] * count)).tolist()
    for t in range(count):
        people_in_frame = [
            p for p in range(person_count) if np.isfinite(arrays["pred_keypoints_3d"][t, p]).all()
        ]
        frames.append(
            [
                {key: value if value.ndim == 0 else value[t, p] for key, value in arrays.items()}
                for p in people_in_frame
            ]
        )
    payload = {"frames": frames, "image_size": image_size[:2]}
    return payload, _numbering(path.name, frame_numbers)


def choose_pose_file(folder: Path, *, meta: bool = False, replace: bool = False) -> Path:
    """Choose the file to which head poses are written.

    Raises:
        EgoXInputError: it is there and ``replace`` wasn't asked for; a meta.json of several takes.
    """
    pose_file = Path(folder) / (META if meta else HEAD_TRAJECTORY)
    if pose_file.exists() and not replace:
        raise EgoXInputError(
            pose_file.name,
            got="a file that is there already",
            expected="none",
            fix="add --replace to replace only the ego poses in it"
            if meta
            else "add --replace to overwrite it",
        )
    if meta and pose_file.exists():
        meta_content = read_json(pose_file, META)
        if not isinstance(meta_content, dict) or listed_takes(meta_content) is not None:
            raise EgoXInputError(
                pose_file.name,
                got="a list of takes",
                expected="the meta.json of one take",
                fix="leave --meta out: Ego Pose Input reads head_trajectory.json as well",
            )
    return pose_file


def write_head(
    folder: Path,
    trajectory: CameraTrajectory,
    # Fields of estimate_take.
    extra_fields: Mapping[str, Any],
    *,
    meta: bool = False,
    replace: bool = False,
) -> Path:
    """Write head poses beside the take or into its meta.json, and return the file's path.

    Raises:
        EgoXInputError: see :func:`choose_pose_file`.
    """
    pose_file = choose_pose_file(folder, meta=meta, replace=replace)
    if not meta:
        write_trajectory(pose_file, trajectory, **extra_fields)
        return pose_file
    meta_content = read_json(pose_file, META) if pose_file.exists() else {}
    assert isinstance(meta_content, dict)
    meta_content |= {
        "ego_extrinsics": trajectory.ego.w2c.tolist(),
        "ego_camera": trajectory.ego.camera.to_json(),
        "ego_intrinsics": trajectory.ego.camera.intrinsics.tolist(),
        "pose_source": FROM_HEAD_KEYPOINTS,
    }
    write_json(pose_file, meta_content)
    return pose_file
