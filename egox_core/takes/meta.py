"""Read a take's prompt and cameras from a meta.json in the released form."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Literal

from torch import Tensor

from ..arrays import as_poses
from ..cameras import LENSES, CameraModel, CameraPath, World, validate_w2c
from ..errors import EgoXInputError
from ..facts import NOTHING_DECLARED, Declared, StatedLens, StatedPoses, settle_poses, unread_row
from ..file_names import META
from ..safe_files import read_json, read_optional, whole_number
from ..types import FROM_EDITOR, FROM_HEAD_KEYPOINTS, TakeMeta

LIST_KEYS = ("train_datasets", "val_datasets", "test_datasets")
"""Keys of the authors' lists of takes: meta_train.json, meta_seen.json, meta_unseen.json and their
example's meta.json."""
MAX_META_BYTES = 256 * 2**20
"""Their training list has 99 MB."""
SAME_FOCAL = 0.01
"""Share by which the focal length of a file's K, against its centre, may differ from its lens'."""
META_PRESET = "aria_released"
"""The poses of a meta.json are those of a sensor turned as this one."""
MAX_OFF_CENTRE, ASPECT_ERROR = 0.05, 0.03
"""Share by which a K's centre may be off the middle of its picture, and by which the factors of
both axes differ in another resolution (16:9 as 784x448 or 832x480: 1.6 and 2.5 %)."""
DRAWN_PX = 0.02
"""Distance of twice a centre from a whole number up to which nobody calibrated it: programs that
put it to the middle write whole and half pixels, with the digits of their file."""
STANDARD_SIZES = frozenset(
    size
    for width, height in (
        # 16:9, from a streaming ladder's rungs to 8K
        *((640, 360), (854, 480), (960, 540), (1024, 576), (1280, 720), (1600, 900), (1920, 1080)),
        *((2560, 1440), (2704, 1520), (3840, 2160), (5312, 2988), (7680, 4320)),
        # 4:3, VGA to UXGA, GoPro's and phones' modes
        *((640, 480), (800, 600), (1024, 768), (1280, 960), (1440, 1080), (1600, 1200)),
        *((1920, 1440), (2704, 2028), (4000, 3000)),
    )
    for size in ((width, height), (height, width))
)
"""Sizes (width, height) px that cameras record and calibrations are made at."""
ENTRY_KEYS = frozenset(
    {"prompt", "camera_intrinsics", "camera_extrinsics", "ego_intrinsics", "ego_extrinsics"}
)


READ_KEYS = ENTRY_KEYS | {"exo_camera", "ego_camera", "declared", "pose_source"}


def read_meta(
    path: Path | str,
    entry: str = "",
    video: Path | None = None,
    declared: Declared = NOTHING_DECLARED,
) -> TakeMeta:
    """Read a take from a meta.json, which holds one take or a list of takes.

    ``entry`` names the take in a list of several (its folder name or number); without it the one
    counts that is called as the list's folder, or as the video's.

    An ``intrinsics/NAME.npz`` of ViPE is taken too; it knows the exo camera alone.

    Raises:
        EgoXInputError: no JSON, neither form, unknown entry, a matrix of wrong shape, not a
            rotation.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        from .vipe import read_vipe  # it makes a TakeMeta, so it imports this module

        return read_vipe(path)
    if path.suffix.lower() == ".csv":
        raise EgoXInputError(
            f"meta file {path.name}",
            got="a table of clips, which knows no cameras",
            expected="a meta.json, or a list as meta_train.json",
            fix="give the table to prepare --clips",
        )
    return parse_meta(read_json(path, META, MAX_META_BYTES), path, entry, video, declared)


def listed_takes(content: object) -> object:
    """Return the list of takes in a meta file, or None if it holds a single take."""
    content_dict = content if isinstance(content, dict) else {}
    return next((content_dict[key] for key in LIST_KEYS if key in content_dict), None)


def parse_meta(
    content: object,
    path: Path,
    entry: str = "",
    video: Path | None = None,
    declared: Declared = NOTHING_DECLARED,
) -> TakeMeta:
    """Parse the content of a meta file, with ``path`` as its name in messages."""
    is_listed = listed_takes(content) is not None
    content = meta_entry(content, path, entry, video)
    label = f"{path.name}, {take_name(content) or 'entry'}" if is_listed else path.name
    return _parse_entry(content, path, label, declared)


def meta_entry(content: object, path: Path, entry: str = "", video: Path | None = None) -> dict:
    """Select the take's object in the content of a meta file.

    Raises:
        EgoXInputError: neither form, unknown entry.
    """
    entries = listed_takes(content)
    if entries is not None:
        content = _choose_entry(entries, path, entry, video)
    if not isinstance(content, dict) or not ENTRY_KEYS & content.keys():
        content_text = sorted(content)[:8] if isinstance(content, dict) else type(content).__name__
        raise EgoXInputError(
            f"meta file {path.name}",
            got=content_text,
            expected=f"some of {sorted(ENTRY_KEYS)}, or a list under one of {LIST_KEYS}",
            fix="give the take's meta.json",
        )
    return content


def _choose_entry(entries: object, path: Path, entry: str, video: Path | None) -> dict:
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(each_entry, dict) for each_entry in entries)
    ):
        raise EgoXInputError(
            f"meta file {path.name}",
            got="no list of takes under its key",
            expected="a list of objects",
            fix="give the authors' meta.json unchanged",
        )
    names = [take_name(each_entry) or str(index) for index, each_entry in enumerate(entries)]
    # A take in a folder of its own, as the authors lay them out, is known by the folder's name,
    # one of several videos in a folder by the video's.
    own_names = [path.parent.name]
    if video is not None:
        own_names += [video.parent.name, video.stem]
    for wanted_name in [entry] if entry else own_names:
        namesakes = [number for number, name in enumerate(names) if name == wanted_name]
        if namesakes:
            _refuse_differing(entries, namesakes, f"entry {wanted_name!r} of {path.name}")
            return entries[namesakes[0]]
        number = whole_number(wanted_name)
        if number is not None and number < len(entries):
            return entries[number]
    if not entry and len(entries) == 1:
        return entries[0]
    close_names = [name for name in names if entry in name] or names
    raise EgoXInputError(
        f"meta file {path.name}",
        got=f"{len(entries)} takes and the entry {entry!r}",
        expected=f"one of {close_names[:20]}, or its number",
        fix="name the take to use",
    )


def _refuse_differing(entries: list[dict], namesakes: list[int], label: str) -> None:
    """Refuse entries of the same name whose values differ, apart from paths.

    Raises:
        EgoXInputError: they do, with their numbers and what differs.
    """
    first_entry, *other_entries = (entries[number] for number in namesakes)
    differences = sorted(
        {key for other in other_entries for key in differing_keys(first_entry, other)}
    )
    if differences:
        numbers = [str(number) for number in namesakes]
        raise EgoXInputError(
            label,
            got=f"{len(numbers)} of this name, numbers {', '.join(numbers)}, which differ in "
            + ", ".join(differences),
            expected="one, or the same one again",
            fix=(
                f"give the number of one as the entry ({' or '.join(numbers)}), or keep only one "
                "in the list"
            ),
        )


def differing_keys(first: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """List the keys in which two entries of a meta file differ, apart from paths."""
    return sorted(
        key
        for key in first.keys() | other.keys()
        if not key.endswith("_path") and first.get(key) != other.get(key)
    )


def take_name(entry: dict) -> str:
    """Return the name of an entry's take by the path of its exo video, or "" if it has none.

    It is the folder's in ``exo_path``, whose videos are all called alike, and the file's in
    ``path``, as the authors' camera_params.json names it.
    """
    exo_path, video_path = entry.get("exo_path"), entry.get("path")
    # The authors' paths have forward slashes; a file written on Windows may not.
    if isinstance(exo_path, str):
        return PureWindowsPath(exo_path).parent.name
    return PureWindowsPath(video_path).stem if isinstance(video_path, str) else ""


PACK_POSE_SOURCES = FROM_EDITOR, FROM_HEAD_KEYPOINTS
"""Makers of a meta.json's poses that stop at the last frame in use."""


def _parse_entry(content: dict, path: Path, label: str, declared: Declared) -> TakeMeta:
    declared = declared.over(Declared.of(content.get("declared"), f"declared in {label}"))
    rows = unread_row(content.keys() - READ_KEYS, label)

    def settled_path(
        camera: Literal["ego", "exo"], key: str, lens: CameraModel | None, world: World
    ) -> CameraPath | None:
        nonlocal rows
        w2c = read_value(key, as_poses)
        if w2c is None:
            return None
        stated = StatedPoses(
            name=label,
            label=f"{key} of {label}",
            poses=w2c,
            camera_to_world=False,
            lens=lens,
            world=world,
        )
        path, pose_rows = settle_poses(stated, declared, camera)
        rows += pose_rows
        return path

    read_value = partial(read_optional, content, label)

    def intrinsics(key: str) -> Tensor | None:
        k = read_value(key, lambda k, name: CameraModel.from_intrinsics(k, 1, 1, name=name))
        return None if k is None else k.intrinsics

    exo_lens, ego_lens = (
        read_value(key, CameraModel.from_json) for key in ("exo_camera", "ego_camera")
    )
    exo = settled_path("exo", "camera_extrinsics", exo_lens, "take") or CameraPath.of_exo(exo_lens)
    name = take_name(content) or path.parent.name or path.name
    k = intrinsics("camera_intrinsics")
    is_exact = exo_lens is not None
    with _frames_named(content.get("ego_extrinsics"), f"ego_extrinsics of {label}"):
        ego = settled_path("ego", "ego_extrinsics", ego_lens, exo.world)
    pose_source = str(content.get("pose_source") or "")
    if pose_source in PACK_POSE_SOURCES:
        exo = exo.numbered
        ego = ego and ego.numbered
    return TakeMeta(
        name=name,
        prompt=content["prompt"] if isinstance(content.get("prompt"), str) else "",
        camera_intrinsics=None if is_exact else k,
        other_lenses=_other_k(k, exo_lens, name) if is_exact and k is not None else (),
        exo=exo,
        ego_intrinsics=intrinsics("ego_intrinsics"),
        ego_lens=ego_lens,
        ego=ego,
        exo_path=str(content.get("exo_path") or ""),
        pose_source=pose_source,
        declared=declared,
        facts=rows,
    )


def _other_k(k: Tensor, lens: CameraModel, name: str) -> tuple[str, ...]:  # k [3, 3]
    """Describe a file's K beside its exact lens where their angles of view differ.

    Both may be of other sizes and crops of the picture, so that one axis is enough to agree. Of a
    fisheye K is no more than a likeness.
    """
    pairs = zip(
        k.diagonal()[:2].tolist(),
        k[:2, 2].tolist(),
        (lens.fx, lens.fy),
        (lens.cx, lens.cy),
        strict=True,
    )
    ratios = [
        focal * own_centre / (own_focal * centre) for focal, centre, own_focal, own_centre in pairs
    ]
    if not LENSES[lens.lens].straight or min(abs(ratio - 1) for ratio in ratios) <= SAME_FOCAL:
        return ()
    return (f"focal length {ratios[0]:.2f} times as long (camera_intrinsics of {name})",)


@contextmanager
def _frames_named(poses: object, name: str) -> Generator[None]:
    """Name the first frame without a pose in the error that ego poses raise inside.

    Raises:
        EgoXInputError: a frame's null, or poses as :func:`validate_w2c` refuses them.
    """
    pose_list = poses if isinstance(poses, list) else []
    lost_frames = [frame for frame, pose in enumerate(pose_list) if pose is None]
    if lost_frames:
        raise EgoXInputError(
            f"{name}, frame {lost_frames[0]}",
            got="null"
            if len(lost_frames) == 1
            else f"null, as in {len(lost_frames) - 1} more frames",
            expected="a pose of each frame",
            fix="leave this take out, or fill the gap",
        )
    try:
        yield
    except EgoXInputError:
        for frame, pose in enumerate(pose_list):
            if isinstance(pose, list) and pose and isinstance(pose[0], list):
                validate_w2c(pose, f"{name}, frame {frame}")
        raise


def meta_beside(depth_path: Path) -> Path | None:
    """Find the meta.json beside a depth file or inside a depth folder, or return None.

    It is in the folder of the file; for a folder it is inside, else next to it.

    A link that leads to another folder is not followed: the depth's place was allowed, its target's
    was not.
    """
    folders = (depth_path, depth_path.parent) if depth_path.is_dir() else (depth_path.parent,)
    paths = (folder / META for folder in folders)
    return next(
        (
            path
            for path in paths
            if path.is_file() and path.resolve().parent == path.parent.resolve()
        ),
        None,
    )


def picture_of_k(
    k: Tensor,  # [3, 3]
    size: tuple[int, int],  # (width, height) px of the picture at hand
    # Names K in errors.
    name: str,
) -> tuple[float, float] | None:
    """Guess the picture size at which K was calibrated from its principal point.

    None if K is of the picture of ``size``.

    None: of the picture at hand, since it is centred there within 5 %, or off the middle by factors
    that no other resolution has. Another picture's is twice the centre (plus 1, of pixel centres)
    where that is whole and has the shape at hand, as of a K that nobody calibrated; else the one
    standard size of that shape whose middle is near the centre.

    Raises:
        EgoXInputError: none of them.
    """
    doubled_centre = 2 * float(k[0, 2]), 2 * float(k[1, 2])
    x_ratio, y_ratio = (
        side / max(doubled_side, 1e-9)
        for side, doubled_side in zip(size, doubled_centre, strict=True)
    )
    if max(abs(x_ratio - 1), abs(y_ratio - 1)) <= MAX_OFF_CENTRE:
        return None
    is_drawn = all(
        abs(doubled_side - round(doubled_side)) <= DRAWN_PX for doubled_side in doubled_centre
    )
    width, height = round(doubled_centre[0]), round(doubled_centre[1])
    for candidate in ((width, height), (width + 1, height + 1)):
        if is_drawn and (
            candidate in STANDARD_SIZES or candidate[0] * size[1] == candidate[1] * size[0]
        ):
            return candidate
    if is_drawn and abs(x_ratio / y_ratio - 1) <= 1 / min(size):
        return doubled_centre
    close_sizes = [
        (width, height)
        for width, height in STANDARD_SIZES
        if max(abs(doubled_centre[0] / width - 1), abs(doubled_centre[1] / height - 1))
        <= MAX_OFF_CENTRE
        and abs(width * size[1] / (height * size[0]) - 1) <= ASPECT_ERROR
    ]
    if len(close_sizes) == 1:
        return close_sizes[0]
    if (
        abs(x_ratio / y_ratio - 1) > ASPECT_ERROR
        and 2 / 3 < min(x_ratio, y_ratio) <= max(x_ratio, y_ratio) < 2
    ):
        return None
    if is_drawn and abs(x_ratio / y_ratio - 1) <= ASPECT_ERROR:
        return doubled_centre
    raise EgoXInputError(
        name,
        got=(
            f"a centre {doubled_centre[0] / 2:g}, {doubled_centre[1] / 2:g} for "
            f"{size[0]}x{size[1]} px"
        ),
        expected="a centre near the middle of the image, at any of its sizes",
        fix="say which size K is of: CameraModel.from_intrinsics(K, width, height), in a meta file "
        "exo_camera",
    )


def own_camera(k: Tensor, size: tuple[int, int], name: str) -> CameraModel:  # k [3, 3]
    """Make the pinhole camera of a K in px of its own picture, which may be larger than ``size``.

    Raises:
        EgoXInputError: as :func:`picture_of_k`.
    """
    width, height = picture_of_k(k, size, name) or size
    return CameraModel.from_intrinsics(k, round(width), round(height), name=name)


def fit_k_camera(
    camera: CameraModel,  # of a K, in px of its own picture
    size: tuple[int, int],  # (width, height) px of the picture at hand
    # Names the file in notes and errors.
    name: str,
    # Kind of the source, as facts.StatedLens has it.
    source: str = "meta",
) -> StatedLens:
    """State the camera of a K (:func:`own_camera`) for a picture of another resolution.

    One that is centred in its picture is scaled along each axis so that the centre becomes
    (W/2, H/2), as the released code does. A calibrated one keeps its centre.
    """
    (width, height), (own_width, own_height) = size, camera.stored_size
    off_middle_px = max(abs(2 * camera.cx - own_width), abs(2 * camera.cy - own_height))
    centre = f"centre {camera.cx:g}, {camera.cy:g}"
    if camera.stored_size == size:
        note = f"camera_intrinsics off the middle ({centre}) were taken as they are"
        note = note if off_middle_px / 2 > max(1, 0.0025 * width) else ""
        return StatedLens(lens=camera, by=name, source=source, note=note)
    note = (
        f"camera_intrinsics of another resolution ({centre}) were taken to be of "
        f"{own_width}x{own_height} px and rescaled to {width}x{height}"
    )
    lens = camera.rescale(*size)
    lens = replace(lens, cx=width / 2, cy=height / 2) if off_middle_px <= DRAWN_PX else lens
    return StatedLens(lens=lens, by=name, source=source, note=note)
