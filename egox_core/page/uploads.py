"""Store uploaded files: unpack them, find the parts of a take, and move them to a new folder.

What is uploaded at once belongs together and gets a folder of its own: two takes' depth.npz never
are in one, and what is looked for beside a file (a meta.json beside its depth) is never another
take's."""

import filecmp
import itertools
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..archives import open_member, open_zip, read_npy_header, unpack_zip
from ..cameras import preset_camera
from ..errors import EgoXInputError
from ..exchange import read_trajectory
from ..file_names import COVERAGE, DEPTH_NAMES, EXO, HANDS, META, PRIOR, TRUTH, VIDEO_SUFFIXES
from ..frozen import frozen
from ..safe_files import read_json, safe_name, visible_files
from ..scene import camera_moves
from ..sizes import REFERENCE_SIZE
from ..takes import (
    ENTRY_KEYS,
    MAX_META_BYTES,
    PICTURE_SUFFIXES,
    listed_takes,
    open_depth,
    parse_meta,
    read_meta,
)
from ..video import probe_video

MAX_BYTES = 4 * 2**30
MAX_FILES = 2000
"""Bounds of one upload, unpacked."""
UPLOAD_SUFFIXES = (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES, ".npz", ".zip", ".json", ".txt")
CARD_SUFFIXES = (".mts", ".m2ts", ".mxf", ".lrv")
"""Of a camera's card: where there is a video of another kind, too, that one was made of them."""
COLMAP_POSES = "images.txt"
VIPE_CAMERA, VIPE_POSES = "intrinsics", "pose"  # folders


@frozen
class TakeFiles:
    """Files of a take in a folder, with None for files that are missing."""

    video: Path | None = None
    depth: Path | None = None  # a file, or a folder of frames
    camera: Path | None = None  # knows the exo camera
    poses: Path | None = None  # of the ego camera
    frames: int = 0  # of the video
    depth_frames: int = 0
    # whose camera moves: perhaps the wearer's own view; a second video, or ``video`` if it is alone
    turning: Path | None = None
    truth: Path | None = None  # the wearer's own video, by its usual name
    hands: Path | None = None  # for Draw Hands, next to the video
    unused: tuple[str, ...] = ()  # names of files that are none of these: videos, depth, JSON


@frozen
class UploadPlace:
    """Folder of a finished upload."""

    folder: Path
    # as it was to be called; another one's folder has it where ``folder`` is called otherwise
    name: str
    reused: bool  # the same files were there before


def store_upload(upload: Path, root: Path, names: Iterable[str]) -> tuple[UploadPlace, TakeFiles]:
    """Unpack an upload, find the take's files in it, and move it to a folder below ``root``.

    Args:
        names: those that they were uploaded by, which name their place.

    Returns:
        The place, and the take's files there.

    Raises:
        EgoXInputError: as :func:`find_take_files`.
        OSError: the disk refuses.
    """
    unpack_uploads(contents(upload))
    content_folder = contents(upload)
    files = find_take_files(content_folder)
    top_names = dict.fromkeys(name.partition("/")[0] for name in names)
    if files.video is not None and files.video.name in top_names:
        top_names = dict.fromkeys([files.video.name, *top_names])
    upload_place = place_upload(content_folder, root, name_of_upload(top_names))
    new_paths = {
        name: upload_place.folder / path.relative_to(content_folder)
        for name in ("video", "depth", "camera", "poses", "turning", "truth", "hands")
        if (path := getattr(files, name)) is not None
    }
    return upload_place, replace(files, **new_paths)


def unpack_uploads(folder: Path) -> None:
    """Unpack all zip archives in a folder, each into a folder of its name, and delete the archives.

    Raises:
        EgoXInputError: as :func:`..archives.unpack_zip`.
    """
    bytes_left = MAX_BYTES
    for archive_path in (path for path in visible_files(folder) if path.suffix.lower() == ".zip"):
        bytes_left -= unpack_zip(
            archive_path,
            folder / archive_path.stem,
            UPLOAD_SUFFIXES,
            most_bytes=bytes_left,
            most_files=MAX_FILES,
        )
        archive_path.unlink()


def find_take_files(folder: Path) -> TakeFiles:
    """Find the files of a take in a folder and its subfolders.

    Each is opened as far as it takes to recognise a wrong one.

    Raises:
        EgoXInputError: nothing of a take, two files where one is meant, a file that can't be read.
    """
    files = visible_files(folder, nested=True)
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    candidates = [file for file in videos if file.name not in (TRUTH, PRIOR)]
    video, moving_video = _exo_and_moving_video(
        [file for file in candidates if file.suffix.lower() not in CARD_SUFFIXES] or candidates
    )
    truths = [
        file
        for file in videos
        if file.name == TRUTH and (video is None or file.parent == video.parent)
    ]
    depths = _depth_paths(folder, files)
    cameras = [file for file in files if file.suffix == ".npz" and file.parent.name == VIPE_CAMERA]
    poses = [file for file in files if file.name == COLMAP_POSES]
    json_files = [file for file in files if file.suffix.lower() == ".json" and file.name != HANDS]
    for json_file in json_files:
        has_camera, has_poses = _json_contents(
            json_file, strict=len(files) == 1 or json_file.name == META
        )
        if has_camera:
            cameras.append(json_file)
        if has_poses:
            poses.append(json_file)
    take_files = TakeFiles(
        video=video,
        depth=_choose_one("depth", depths, DEPTH_NAMES),
        camera=_choose_one("camera file", cameras, (META,)),
        poses=_choose_one("ego poses", poses, (META,)),
        turning=moving_video,
        truth=next(iter(truths), None),
        hands=next((file for file in files if video and file == video.with_name(HANDS)), None),
    )
    used_paths = {video, moving_video, take_files.depth, take_files.camera, take_files.poses}
    used_paths |= {take_files.truth} if video is not None else set()
    unused = [path.name for path in (*videos, *depths, *json_files) if path not in used_paths]
    if take_files.hands is None:
        unused += [path.name for path in files if path.name == HANDS]
    take_files = replace(take_files, unused=tuple(unused))
    if not (take_files.video or take_files.depth or take_files.camera or take_files.poses):
        raise EgoXInputError(
            "upload",
            got=", ".join(unused[:3]) or "no file of a take",
            expected=(
                "a video, depth (.npz, .npy, EXR, 16-bit PNG), meta.json, a trajectory, or a zip "
                "of them"
            ),
            fix="choose other files",
        )
    return _with_lengths(take_files)


def place_upload(upload: Path, root: Path, name: str) -> UploadPlace:
    """Move an uploaded folder below ``root``, under a name that no other upload has.

    Where the name is taken, the time is added. If a folder with the same files is there
    already, that one is used again.

    Raises:
        OSError: the disk refuses.
    """
    same_folder = next(
        (
            each_folder
            for each_folder in _folders_of_name(root, name)
            if same_files(upload, each_folder)
        ),
        None,
    )
    if same_folder is not None:
        shutil.rmtree(upload)
        return UploadPlace(folder=same_folder, name=name, reused=True)
    time_text = time.strftime("%Y-%m-%d %H.%M")
    for number in itertools.count(1):
        target_folder = root / name
        if number > 1:
            suffix = f" ({number - 1})" if number > 2 else ""
            target_folder = root / f"{name} {time_text}{suffix}"
        if target_folder.exists():
            continue
        try:
            upload.rename(target_folder)
        except OSError:
            if target_folder.exists():  # made meanwhile by another upload
                continue
            raise
        return UploadPlace(folder=target_folder, name=name, reused=False)
    raise AssertionError


def _folders_of_name(root: Path, name: str) -> list[Path]:
    """List the folders of all uploads with this name."""
    name_pattern = re.compile(re.escape(name) + r"( \d{4}-\d\d-\d\d \d\d\.\d\d)?( \(\d+\))?")
    return sorted(
        path for path in root.iterdir() if name_pattern.fullmatch(path.name) and path.is_dir()
    )


def contents(folder: Path) -> Path:
    """Find the folder that holds the uploaded files, below folders with nothing but one
    subfolder."""
    while len(folder_entries := list(folder.iterdir())) == 1 and folder_entries[0].is_dir():
        folder = folder_entries[0]
    return folder


def name_of_upload(names: Iterable[str]) -> str:
    """Choose a folder name for uploaded files from the name of the video or first file."""
    names = list(names)
    leading_name = next(
        (name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES), names[0]
    )
    stem = (
        Path(leading_name).stem
        if Path(leading_name).suffix.lower() in UPLOAD_SUFFIXES
        else leading_name
    )
    # Folders that begin with a dot are hidden from the node's list.
    return safe_name(
        (stem if len(names) == 1 else re.sub(r"[\W_]*\d+$", "", stem) or stem).lstrip(". ")
    )


def same_files(first: Path, other: Path) -> bool:
    """Check whether two folders hold the same file names with the same contents."""
    files_by_name = [
        {
            member.relative_to(folder).as_posix(): member
            for member in folder.rglob("*")
            if member.is_file()
        }
        for folder in (first, other)
    ]
    return files_by_name[0].keys() == files_by_name[1].keys() and all(
        filecmp.cmp(path, files_by_name[1][name], shallow=False)
        for name, path in files_by_name[0].items()
    )


def use_as_truth(ego: Path, exo: Path) -> None:
    """Rename an uploaded video as the true ego video beside the exo video.

    Raises:
        EgoXInputError: a video that can't be read, of another rate, one that is there already.
        OSError: the disk refuses.
    """
    fps, exo_fps = probe_video(ego).fps, probe_video(exo).fps
    truth_path = exo.with_name(TRUTH)
    if abs(fps / exo_fps - 1) > 0.001 or truth_path.exists():
        raise EgoXInputError(
            "ground truth",
            got=f"{ego.name} next to {TRUTH}"
            if truth_path.exists()
            else f"{fps:g} frames per second",
            expected=f"one video, frame by frame with {exo.name}, {exo_fps:g} per second",
            fix="convert it and upload both videos again",
        )
    ego.rename(truth_path)


def _exo_and_moving_video(videos: list[Path]) -> tuple[Path | None, Path | None]:
    """Find the exo video, and the video whose camera moves: a second one, or the only one.

    Of two without a usual name the exo video is the one whose camera stands.
    """
    named_exo = [path for path in videos if path.name == EXO]
    if len(videos) == 2 and len(named_exo) < 2:
        camera_moves_in = {path: camera_moves(path) for path in videos if path not in named_exo}
        static_videos = named_exo or [
            path for path, is_moving in camera_moves_in.items() if is_moving is False
        ]
        moving_videos = [path for path, is_moving in camera_moves_in.items() if is_moving]
        if len(static_videos) == len(moving_videos) == 1:
            return static_videos[0], moving_videos[0]
    if len(videos) == 1 and not named_exo and camera_moves(videos[0]):
        return videos[0], videos[0]
    return _choose_one("exo video", videos, (EXO,)), None


def _choose_one(label: str, files: list[Path], preferred: tuple[str, ...]) -> Path | None:
    """Choose the only file, or the one with a preferred name, and refuse several files."""
    preferred_files = [path for name in preferred for path in files if path.name == name]
    if len(files) < 2 or len(preferred_files) == 1:
        return next(iter(preferred_files or files), None)
    raise EgoXInputError(
        label,
        got=f"{len(files)}: {', '.join(path.name for path in files[:4])}",
        expected="one",
        fix=f"upload one take at a time, or name the one to use {preferred[0]}",
    )


def _depth_paths(root: Path, files: list[Path]) -> list[Path]:
    """List depth files, and folders of numbered depth frames."""
    archive_paths = [
        path
        for path in files
        if path.suffix.lower() in (".npz", ".zip")
        and path.name != COVERAGE
        and path.parent.name not in (VIPE_CAMERA, VIPE_POSES)
    ]
    frame_paths = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    numbered_folders = {path.parent for path in frame_paths if re.search(r"\d", path.stem)}
    array_paths = [
        path
        for path in frame_paths
        if path.suffix.lower() == ".npy" and path.parent not in numbered_folders
    ]
    return archive_paths + array_paths + sorted(numbered_folders, key=lambda folder: folder != root)


def _json_contents(path: Path, strict: bool) -> tuple[bool, bool]:
    """Check whether a JSON file has the exo camera, and whether it has ego poses.

    With ``strict`` it must have one of them.
    """
    content = read_json(path, limit=MAX_META_BYTES)
    entries = listed_takes(content)
    if entries is not None or (isinstance(content, dict) and ENTRY_KEYS & content.keys()):
        has_several = isinstance(entries, list) and len(entries) > 1
        meta = parse_meta(
            content, path, "0" if has_several else ""
        )  # which one counts is the user's choice, later
        return meta.exo_camera is not None and not has_several, meta.ego is not None
    try:
        read_trajectory(path, preset_camera("aria_released", REFERENCE_SIZE), lens=False)
    except EgoXInputError:
        if strict:
            raise
        return False, False
    return False, True


def _with_lengths(take_files: TakeFiles) -> TakeFiles:
    """Add the lengths of video and depth to a take's files, by opening them."""
    if take_files.video is not None:
        take_files = replace(take_files, frames=probe_video(take_files.video).frame_count)
    if take_files.depth is not None:
        if take_files.depth.suffix.lower() == ".npz":
            _check_arrays(take_files.depth)
        with open_depth(take_files.depth) as depth:
            take_files = replace(take_files, depth_frames=depth.numbering.count)
    if take_files.camera is not None and take_files.camera.suffix == ".npz":
        read_meta(take_files.camera)
    if take_files.poses is not None and take_files.poses.name == COLMAP_POSES:
        read_trajectory(
            take_files.poses, preset_camera("aria_released", REFERENCE_SIZE), lens=False
        )
    return take_files


def _check_arrays(path: Path) -> None:
    """Refuse an .npz with a pickled or damaged array."""
    with open_zip(path, "depth file") as archive:
        for member in archive.infolist():
            member_label = f"{member.filename} of {path.name}"
            with open_member(archive, member, member_label) as stream:
                read_npy_header(stream, member_label, member.file_size)
