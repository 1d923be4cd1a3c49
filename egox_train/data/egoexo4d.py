"""Read takes from a download of Ego-Exo4D.

    takes.json                                            task, room and best exo of each take,
    where it was downloaded annotations/ego_pose/<split>/camera_pose/<uid>.json
    metadata.take_name, one entry per camera
    takes/<take>/frame_aligned_videos/[downscaled/448/]<camera>.mp4
    takes/<take>/trajectory/online_calibration.jsonl                 the wearer's own lens, where it
    was downloaded takes/<take>/trajectory/gopro_calibs.csv                         the raw exo
    lenses, where it was downloaded

The annotation's exo intrinsics are those of undistorted pictures (3840x2160, recognised by the
principal point); the raw lens comes from the table or, without it, from them
(:mod:`egox_core.cameras.gopro`). The wearer's pose is given per frame, and may be null or
missing."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from egox_core.cameras import CameraModel, CameraPath, preset_camera, raw_gopro, validate_w2c
from egox_core.errors import NO_NUMBERS, EgoXInputError, intact
from egox_core.remarks import Remark
from egox_core.safe_files import read_json, require_safe_name, visible_files
from egox_core.sizes import MAX_SIDE, REFERENCE_SIZE
from egox_core.types import ExoLens
from egox_core.video import open_video

from ..options import Split
from .aria import read_aria_calibration
from .gopro_calibs import GoProCalibration, read_gopro_calibs
from .raw_take import RawTake, RawView
from .take_list import read_take_list, room_of_name

VIDEO_FOLDERS = ("frame_aligned_videos/downscaled/448", "frame_aligned_videos")
EGO_PREFIX = "aria"
CALIBRATION_FILE = "trajectory/online_calibration.jsonl"
EGO_STREAM = "_214-1"  # Aria's RGB camera
MAX_ANNOTATION_BYTES = 512 * 2**20  # an hour of poses
MAX_FRAMES = 10**6  # nine hours: more is a damaged number, and would ask for that much memory
EXO_CALIBRATION_FILE = "trajectory/gopro_calibs.csv"
OFFICIAL_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
"""Our splits by the folder that holds a take's annotation."""
NO_TASK = (
    "when its task begins and ends isn't known (no takes.json entry, no --task): its first and "
    "last clips may show the separator with its QR code"
)


def is_egoexo4d(root: Path) -> bool:
    """Check whether a folder is a download of Ego-Exo4D."""
    return (root / "takes").is_dir() and (root / "annotations" / "ego_pose").is_dir()


def read_egoexo4d(
    root: Path, skipped: list[tuple[str, str]], exo_lens: ExoLens = "raw"
) -> Iterator[RawTake]:
    """Read all takes of an Ego-Exo4D folder, and report unusable ones in ``skipped``.

    An entry is (name, reason).

    Args:
        exo_lens: ``as given`` takes the annotation's K for a pinhole of the raw video, as the
            released priors do.

    Raises:
        EgoXInputError: the folder hasn't this layout, or holds no camera-pose annotation at all; a
            takes.json that is no list of takes.
    """
    if not is_egoexo4d(root):
        raise EgoXInputError(
            "Ego-Exo4D folder",
            got=f"{root.name!r} without takes/ and annotations/ego_pose/",
            expected="the dataset's own folder layout",
            fix="give the folder that contains both",
        )
    files = visible_files(root / "annotations" / "ego_pose", "*/camera_pose/*.json")
    if not files:
        raise EgoXInputError(
            "Ego-Exo4D folder",
            got="no annotations/ego_pose/*/camera_pose/*.json",
            expected="a camera-pose annotation a take",
            fix="download the ego_pose annotations",
        )
    take_list = read_take_list(root)
    for file in files:
        try:
            take = read_official_take(root, file, exo_lens, take_list)
        except EgoXInputError as error:
            skipped.append((file.stem, str(error)))
        else:
            yield take


def read_official_take(
    root: Path,
    pose_file: Path,
    exo_lens: ExoLens,
    take_list: Mapping[str, dict],
) -> RawTake:
    """Read one Ego-Exo4D take from its camera-pose file.

    Raises:
        EgoXInputError: no such take folder, no usable exo camera, no wearer's camera, not one
            usable pose.
    """
    annotation = read_json(pose_file, "camera-pose annotation", MAX_ANNOTATION_BYTES)
    if not isinstance(annotation, Mapping) or not isinstance(annotation.get("metadata"), Mapping):
        raise EgoXInputError(
            f"camera-pose annotation {pose_file.name}",
            got="no metadata",
            expected="metadata.take_name",
            fix="download the annotation again",
        )
    official_split = OFFICIAL_SPLITS.get(pose_file.parent.parent.name)
    return replace(take_of_annotation(root, annotation, exo_lens, take_list), split=official_split)


def take_of_annotation(
    root: Path,
    annotation: Mapping,
    exo_lens: ExoLens,
    take_list: Mapping[str, dict],
    *,
    every_frame: bool = True,
) -> RawTake:
    """Build an Ego-Exo4D take from the content of its camera-pose file.

    Args:
        every_frame: note how many frames have no pose; a list has those of its clips alone.

    Raises:
        EgoXInputError: as :func:`read_official_take`.
    """
    name = require_safe_name(str(annotation["metadata"].get("take_name", "")), "take name")
    folder = _video_folder(root, name)
    notes: list[str] = []
    ego_name = next((k for k in annotation if k.startswith(EGO_PREFIX)), None)
    if ego_name is None:
        raise EgoXInputError(
            f"take {name}",
            got="no wearer's camera in the annotation",
            expected=f"{EGO_PREFIX}NN",
            fix="leave this take out",
        )
    calibrations = {} if exo_lens == "as given" else _exo_calibrations(root / "takes" / name, notes)
    exo_views = tuple(_exo_views(annotation, folder, name, exo_lens, calibrations, notes))
    if not exo_views:
        raise EgoXInputError(
            f"take {name}",
            got="no usable exo camera: " + "; ".join(notes),
            expected="at least one with video, intrinsics and pose",
            fix="leave this take out",
        )
    ego_entry = _camera_entry(annotation, ego_name, name)
    w2c = _ego_poses(ego_entry, name, notes if every_frame else [])
    CameraModel.from_intrinsics(
        ego_entry["camera_intrinsics"], 1, 1, name=f"intrinsics of {name}/{ego_name}"
    )
    videos = sorted(folder.glob(f"{ego_name}*{EGO_STREAM}.mp4")) or sorted(
        folder.glob(f"{ego_name}*.mp4")
    )
    if not videos:
        raise EgoXInputError(
            f"take {name}",
            got=f"no {ego_name}*.mp4 in {folder.name}",
            expected="the wearer's video",
            fix="download the frame-aligned videos",
        )
    take_uid = str(annotation["metadata"].get("take_uid", ""))
    listed = take_list.get(take_uid) or take_list.get(name) or {}
    stated: dict = {"room": room_of_name(name)} | listed
    return RawTake(
        name=name,
        layout="egoexo4d",
        exos=exo_views,
        ego_video=videos[0],
        ego=CameraPath(
            lens=_ego_camera(root / "takes" / name, videos[0], notes), w2c=w2c, world="take"
        ),
        meta_intrinsics=torch.tensor(ego_entry["camera_intrinsics"], dtype=torch.float64),
        notes=tuple(map(Remark, notes)),
        **stated,
    )


def _camera_entry(annotation: Mapping, camera: str, take: str) -> Mapping:
    entry = annotation[require_safe_name(camera, "camera name")]
    if not isinstance(entry, Mapping):
        raise EgoXInputError(
            f"{take}/{camera}",
            got=type(entry).__name__,
            expected="intrinsics and extrinsics",
            fix="download the annotation again",
        )
    return entry


def _ego_camera(take: Path, video: Path, notes: list[str]) -> CameraModel:
    """Read the calibrated lens of a take's Aria glasses, or use the lens of the released priors."""
    file, calibrated_side = take / CALIBRATION_FILE, 0
    with suppress(EgoXInputError), open_video(video) as container:  # planning names a damaged one
        calibrated_side = container.streams.video[0].width
    if file.is_file():
        try:
            return read_aria_calibration(file, calibrated_side)
        except EgoXInputError as error:
            notes.append(
                f"the calibration can't be used, the released priors' lens is taken: {error}"
            )
    else:
        notes.append(f"no {CALIBRATION_FILE}: the released priors' lens is taken for the wearer's")
    return preset_camera("aria_released", REFERENCE_SIZE)


def _video_folder(root: Path, name: str) -> Path:
    for folder_name in VIDEO_FOLDERS:
        folder = root / "takes" / name / folder_name
        if folder.is_dir() and any(folder.glob("*.mp4")):
            return folder
    raise EgoXInputError(
        f"take {name}",
        got="no frame-aligned videos",
        expected=f"takes/{name}/{VIDEO_FOLDERS[0]}/*.mp4",
        fix="download the downscaled take videos",
    )


def _exo_calibrations(take: Path, notes: list[str]) -> dict[str, GoProCalibration]:
    """Read the exo cameras' raw lenses from the take's gopro_calibs.csv."""
    file = take / EXO_CALIBRATION_FILE
    if not file.is_file():
        return {}
    try:
        return read_gopro_calibs(file, notes)
    except EgoXInputError as error:
        notes.append(f"the raw exo lenses are derived from the annotation: {error}")
        return {}


def _exo_views(
    annotation: Mapping,
    folder: Path,
    take: str,
    exo_lens: ExoLens,
    calibrations: Mapping[str, GoProCalibration],
    notes: list[str],
) -> Iterator[RawView]:
    for name in annotation:
        if name == "metadata" or name.startswith(EGO_PREFIX):
            continue
        try:
            if sum(other_name.casefold() == name.casefold() for other_name in annotation) > 1:
                raise EgoXInputError(
                    "camera name",
                    got=f"{name!r} twice, differing in upper and lower case",
                    expected="names that every system distinguishes",
                    fix="rename one, and its video",
                )
            entry = _camera_entry(annotation, name, take)
            video = folder / f"{name}.mp4"
            if not video.is_file():
                notes.append(f"{name}: no video")
                continue
            intrinsics_rows, pose_rows = (
                entry.get("camera_intrinsics"),
                entry.get("camera_extrinsics"),
            )
            if intrinsics_rows is None or pose_rows is None:
                raise EgoXInputError(
                    f"{take}/{name}",
                    got="null intrinsics or extrinsics",
                    expected="numbers",
                    fix="leave the camera out",
                )
            w2c = validate_w2c(pose_rows, f"pose of {take}/{name}")
            name_of_k = f"intrinsics of {take}/{name}"
            pinhole_camera = CameraModel.from_intrinsics(intrinsics_rows, 1, 1, name=name_of_k)
            width, height = round(2 * pinhole_camera.cx), round(2 * pinhole_camera.cy)
            if not 0 < min(width, height) <= max(width, height) <= MAX_SIDE:
                raise EgoXInputError(
                    name_of_k,
                    got=f"a centre of ({pinhole_camera.cx:g}, {pinhole_camera.cy:g})",
                    expected="the middle of an image",
                    fix="leave the camera out",
                )
            camera, valid_frames = replace(pinhole_camera, width=width, height=height), None
            calibration = calibrations.get(name)
            if calibration is not None:
                camera, valid_frames = calibration.camera, calibration.valid_frames
            elif exo_lens != "as given":
                with intact(f"distortion of {take}/{name}", NO_NUMBERS, expected="numbers"):
                    distortion = tuple(
                        float(coefficient) for coefficient in entry.get("distortion_coeffs") or ()
                    )
                camera = raw_gopro(intrinsics_rows, distortion)
            yield RawView(
                name=name,
                video=video,
                exo=CameraPath.of_exo(camera, w2c),
                valid_frames=valid_frames,
            )
        except EgoXInputError as error:
            notes.append(f"{name}: {error}")


def _ego_poses(ego: Mapping, take: str, notes: list[str]) -> Tensor:  # [T, 3, 4] float64
    """Read ego poses by frame number, and replace invalid poses by NaN."""
    pose_by_frame = ego.get("camera_extrinsics")
    if (
        not isinstance(pose_by_frame, Mapping)
        or not pose_by_frame
        or ego.get("camera_intrinsics") is None
    ):
        raise EgoXInputError(
            f"take {take}",
            got="no poses or intrinsics of the wearer's camera",
            expected="camera_extrinsics with one entry per frame",
            fix="leave this take out",
        )
    try:
        rows_by_frame = {int(key): value for key, value in pose_by_frame.items()}
    except ValueError as error:
        raise EgoXInputError(
            f"take {take}",
            got=f"a pose under a key that is no frame number ({error})",
            expected="frame numbers",
            fix="download the annotation again",
        ) from error
    frame_count = max(rows_by_frame) + 1
    if not 0 < frame_count <= MAX_FRAMES:
        raise EgoXInputError(
            f"take {take}",
            got=f"a last pose of frame {frame_count - 1}",
            expected=f"one from 0 to {MAX_FRAMES - 1}",
            fix="download the annotation again",
        )
    ego_poses = torch.full((frame_count, 3, 4), math.nan, dtype=torch.float64)
    non_rigid_count = 0
    for index, pose in rows_by_frame.items():
        if pose is None or index < 0:
            continue
        try:
            valid_pose = validate_w2c(pose, f"ego pose {index} of {take}")
        except EgoXInputError:
            non_rigid_count += 1
            continue
        if valid_pose.ndim != 2:
            raise EgoXInputError(
                f"ego pose {index} of {take}",
                got=f"shape {tuple(valid_pose.shape)}",
                expected="(3, 4)",
                fix="download the annotation again",
            )
        ego_poses[index] = valid_pose
    lost_count = int((~torch.isfinite(ego_poses).flatten(1).all(dim=1)).sum())
    if lost_count == frame_count:
        raise EgoXInputError(
            f"take {take}",
            got="not one usable ego pose",
            expected="poses of at least one clip",
            fix="leave this take out",
        )
    if lost_count:
        notes.append(
            f"{lost_count} of {frame_count} ego poses lost ({non_rigid_count} of them no rigid "
            "motion)"
        )
    return ego_poses
