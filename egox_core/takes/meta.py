"""The released meta.json: prompt, exo and ego cameras of a take; as one object or as the authors'
list of takes."""

from dataclasses import replace
from functools import partial
from pathlib import Path, PureWindowsPath

from torch import Tensor

from ..cameras import CameraModel, CameraPath, validate_w2c
from ..errors import EgoXInputError
from ..file_names import META
from ..safe_files import given, read_json, whole_number
from ..sizes import same_aspect
from ..types import FROM_EDITOR, TakeMeta

LIST_KEY = "test_datasets"
META_PRESET = "aria_released"
"""The poses of a meta.json are those of a sensor turned as this one."""
OWN_SIZE, COMMON = 0.05, 0.03
"""Share by which a K's centre may be off the middle of its picture; by which the factors of both axes
differ in another resolution (16:9 as 784x448 or 832x480: 1.6 and 2.5 %)."""
ENTRY_KEYS = frozenset(
    {"prompt", "camera_intrinsics", "camera_extrinsics", "ego_intrinsics", "ego_extrinsics"}
)


def read_meta(path: Path | str, entry: str = "") -> TakeMeta:
    """Read a meta.json of either form.

    ``entry`` names the take in a list of several (its folder name or number).

    An ``intrinsics/NAME.npz`` of ViPE is taken too; it knows the exo camera alone.

    Raises:
        EgoXInputError: no JSON, neither form, unknown entry, a matrix of wrong shape, not a
            rotation.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        from .vipe import read_vipe  # it makes a TakeMeta, so it imports this module

        return read_vipe(path)
    return parse_meta(read_json(path, META), path, entry)


def parse_meta(content: object, path: Path, entry: str = "") -> TakeMeta:
    """The same from parsed JSON; ``path`` helps to choose the entry and is named in messages."""
    if isinstance(content, dict) and LIST_KEY in content:
        content = _choose_entry(content[LIST_KEY], path, entry)
    if not isinstance(content, dict) or not ENTRY_KEYS & content.keys():
        got = sorted(content)[:8] if isinstance(content, dict) else type(content).__name__
        raise EgoXInputError(
            f"meta file {path.name}",
            got=got,
            expected=f"some of {sorted(ENTRY_KEYS)}, or a list under {LIST_KEY!r}",
            fix="give the take's meta.json",
        )
    return _entry(content, path)


def _choose_entry(entries: object, path: Path, entry: str) -> dict:
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(e, dict) for e in entries)
    ):
        raise EgoXInputError(
            f"meta file {path.name}",
            got=f"{LIST_KEY} that is no list of takes",
            expected="a list of objects",
            fix="give the authors' meta.json unchanged",
        )
    names = [_take_name(e) or str(i) for i, e in enumerate(entries)]
    # A take in a folder of its own, as the authors lay them out, is known by the folder's name.
    for wanted in (entry, *(() if entry else (path.parent.name,))):
        if wanted in names:
            return entries[names.index(wanted)]
        number = whole_number(wanted)
        if number is not None and number < len(entries):
            return entries[number]
    if not entry and len(entries) == 1:
        return entries[0]
    raise EgoXInputError(
        f"meta file {path.name}",
        got=f"{len(entries)} takes and the entry {entry!r}",
        expected=f"one of {names[:20]}, or its number",
        fix="name the take to use",
    )


def _take_name(entry: dict) -> str:
    written = entry.get("exo_path")
    # The authors' paths have forward slashes; a file written on Windows may not.
    return PureWindowsPath(written).parent.name if isinstance(written, str) else ""


def _entry(content: dict, path: Path) -> TakeMeta:
    value = partial(given, content, path.name)

    def intrinsics(key: str) -> Tensor | None:
        k = value(key, lambda k, name: CameraModel.from_intrinsics(k, 1, 1, name=name))
        return None if k is None else k.intrinsics

    exo = CameraPath.of_exo(
        value("exo_camera", CameraModel.from_json), value("camera_extrinsics", validate_w2c)
    )
    ego_lens, ego = (
        value("ego_camera", CameraModel.from_json),
        value("ego_extrinsics", validate_w2c),
    )
    return TakeMeta(
        name=_take_name(content) or path.parent.name or path.name,
        prompt=content["prompt"] if isinstance(content.get("prompt"), str) else "",
        camera_intrinsics=intrinsics("camera_intrinsics"),
        exo=exo,
        ego_intrinsics=intrinsics("ego_intrinsics"),
        ego_lens=ego_lens,
        ego=None if ego is None else CameraPath(lens=ego_lens, w2c=ego, world=exo.world),
        exo_path=str(content.get("exo_path") or ""),
        pose_source=str(content.get("pose_source") or ""),
    )


def meta_beside(depth_path: Path) -> Path | None:
    """Find the meta.json that belongs to a depth file or folder; None if there is none.

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


def k_factors(k: Tensor, size: tuple[int, int]) -> tuple[float, float] | None:
    """Factors (x, y) by which the centre of K becomes that of a picture of ``size`` (width, height).

    None where K is taken to be this picture's own, calibrated: centred within 5 %, or off the middle
    by factors that no other resolution has, since they differ.
    """
    x, y = (side / 2 / max(float(c), 1e-9) for side, c in zip(size, k[:2, 2], strict=True))
    near = max(abs(x - 1), abs(y - 1)) <= OWN_SIZE
    off = abs(x / y - 1) > COMMON and 2 / 3 < min(x, y) <= max(x, y) < 2
    return None if near or off else (x, y)


def depth_camera(meta: TakeMeta, depth_size: tuple[int, int]) -> tuple[CameraModel, str]:
    """The exo camera in depth pixels, before any crop, and a note on what was done to it ("" for
    nothing).

    An exact ``exo_camera`` is rescaled as a resize would. ``camera_intrinsics`` of another
    resolution (:func:`k_factors`), which the file doesn't tell, are scaled along each axis so that
    the centre becomes the map's, at (W/2, H/2), as the released code does.

    Raises:
        EgoXInputError: no intrinsics, a centre that can't be one.
    """
    width, height = depth_size
    if meta.exo.lens is not None:
        exact = meta.exo.lens
        if exact.stored_size == depth_size:
            return exact, ""
        if same_aspect(exact.stored_size, depth_size):
            return exact.rescale(*depth_size), ""
        full = round(height * exact.stored_size[0] / exact.stored_size[1]), height
        if meta.pose_source == FROM_EDITOR and full[0] < width:  # it wrote a cropped clip's own
            said = (
                f"exo_camera of {exact.width}x{exact.height} px was taken for the picture's middle"
            )
            return exact.rescale(*full).crop((full[0] - width) // 2, 0, width, height), said
        shape = exact.stored_size[0] / exact.stored_size[1]
        if abs(shape * height / width - 1) > COMMON:
            raise EgoXInputError(
                f"exo_camera of {meta.name}",
                got=f"one of {exact.width}x{exact.height} px for a picture of {width}x{height}",
                expected="the camera of this picture, of the same shape",
                fix="give this video's own meta file",
            )
    if meta.camera_intrinsics is None:
        raise EgoXInputError(
            f"take {meta.name}",
            got="no camera_intrinsics",
            expected="the exo camera's K",
            fix="add them to the meta file, or use a depth source that gives intrinsics",
        )
    return camera_of_k(meta.camera_intrinsics, depth_size, f"camera_intrinsics of {meta.name}")


def camera_of_k(
    k: Tensor,  # [3, 3]
    size: tuple[int, int],  # (width, height) px of the picture
    # Names the file in notes and errors.
    name: str,
) -> tuple[CameraModel, str]:
    """A pinhole of a picture, whose K may be that of another resolution, and a note as above.

    Raises:
        EgoXInputError: a centre that can't be one.
    """
    width, height = size
    camera, factors = (
        CameraModel.from_intrinsics(k, width, height, name=name),
        k_factors(k, size),
    )
    centre = f"centre {camera.cx:g}, {camera.cy:g}"
    if factors is None:
        off = max(abs(camera.cx - width / 2), abs(camera.cy - height / 2))
        note = f"camera_intrinsics off the middle ({centre}) were taken as they are"
        return camera, note * (off > max(1, 0.0025 * width))
    x, y = factors
    if min(camera.cx, camera.cy) <= 0 or abs(x / y - 1) > COMMON:
        raise EgoXInputError(
            name,
            got=f"a {centre} for {width}x{height} px",
            expected="a centre near the middle of the image, at any of its sizes",
            fix="correct K, or give exo_camera, which includes the size of its image",
        )
    return (
        replace(camera, fx=camera.fx * x, fy=camera.fy * y, cx=width / 2, cy=height / 2),
        f"camera_intrinsics of another resolution ({centre}) were rescaled to {width}x{height}",
    )
