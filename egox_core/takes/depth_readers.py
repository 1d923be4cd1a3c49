"""Read depth frames one at a time from npz, npy, zip, EXR or 16-bit PNG files.

Frames are counted by their place in the file; files of a folder or zip by the number in their names
that changes, which must have no gaps. Values are returned as stored (float32), invalid ones
included."""

import io
import math
import os
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from ..archives import (
    MAX_FRAME_BYTES,
    Member,
    PackedFrames,
    decode_picture,
    open_member,
    open_zip,
    read_npy_header,
)
from ..errors import EgoXInputError
from ..facts import Statement
from ..frames import Numbering, numbered_files
from ..frozen import frozen
from ..safe_files import require_file, visible_files
from .depth_arrays import DepthArrays, check_mask, read_depth_arrays
from .depth_names import statements_of_key, states_depth
from .exr_depth import decode_exr

PNG_STATEMENT = Statement("depth.unit", 0.001, "16-bit PNG", "form")
PICTURE_SUFFIXES = (".npy", ".exr", ".png")
DEPTH_KEYS = ("depth_m", "depth", "depths", "data", "arr_0")

DepthFrames = Iterator[tuple[np.ndarray, "np.ndarray | None"]]


@frozen
class DepthFile:
    """Opened depth file, whose frames are read on demand."""

    name: str
    numbering: Numbering
    size: tuple[int, int]  # (width, height) px; of a folder, its first frame's
    # From ascending indices to (depth [H, W] float32, dynamic [H, W] bool or None).
    read: Callable[[list[int]], DepthFrames]
    # What the file says beside its maps.
    arrays: DepthArrays = DepthArrays(None, None, "", "", "", ())
    statements: tuple[Statement, ...] = ()  # of the maps' numbers, which are read as stored


@contextmanager
def open_depth(path: Path, keep_bytes: int = 0) -> Generator[DepthFile]:
    """Open a depth file or folder as a context manager.

    Several reads one after the other, each from later frames on, unpack a packed file once. A .npy
    is entered anywhere.

    Args:
        keep_bytes: what a read of a packed file unpacked stays in memory up to this size, for a
            next one that overlaps.

    Raises:
        EgoXInputError: nothing there, unknown kind, nothing in it, numbers missing, pickled or
            malformed.
    """
    if path.is_dir():
        yield _open_pictures(
            path.name, {file.name: file.read_bytes for file in visible_files(path)}
        )
        return
    require_file(path, "depth file")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        with path.open("rb") as file:
            yield _open_npy(path.name, file)
    elif suffix in (".npz", ".zip"):
        with open_zip(path, "depth file") as archive:
            if suffix == ".npz":
                yield _open_npz(path, archive, keep_bytes)
            else:
                members = {
                    member.filename: _member_reader(archive, member)
                    for member in archive.infolist()
                    if not member.is_dir()
                }
                yield _open_pictures(path.name, members)
    else:
        raise EgoXInputError(
            "depth file",
            got=f"{path.name!r}",
            expected="a .npz, .npy or .zip, or a folder of .npy, .exr or 16-bit .png files",
            fix="convert the depth to one of these",
        )


def _open_npy(name: str, file: BinaryIO) -> DepthFile:
    """Open the frames of a .npy file, read without memory mapping."""
    shape, dtype = _frames_header(file, f"depth {name}", os.fstat(file.fileno()).st_size)
    start = file.tell()
    frame_bytes = math.prod(shape[1:]) * dtype.itemsize

    def read(indices: list[int]) -> DepthFrames:
        for index in indices:
            file.seek(start + index * frame_bytes)
            frame_data = file.read(frame_bytes)
            if len(frame_data) < frame_bytes:
                raise EgoXInputError(
                    f"depth {name}",
                    got=f"frame {index} cut off",
                    expected="an intact file",
                    fix="run again when it is written",
                )
            yield np.frombuffer(frame_data, dtype).reshape(shape[1:]).astype(np.float32), None

    numbering = Numbering(what=f"depth {name}", count=shape[0])
    return DepthFile(name=name, numbering=numbering, size=(shape[2], shape[1]), read=read)


def _open_npz(path: Path, archive: zipfile.ZipFile, keep_bytes: int) -> DepthFile:
    name = path.name
    members = {
        entry.removesuffix(".npy"): entry for entry in archive.namelist() if entry.endswith(".npy")
    }
    telling_keys = [key for key in members if states_depth(key)]
    key = next((array_key for array_key in DEPTH_KEYS if array_key in members), None)
    if key is None and 1 in (len(members), len(telling_keys)):
        key = next(iter(telling_keys if len(telling_keys) == 1 else members))
    if key is None:
        raise EgoXInputError(
            f"depth {name}",
            got=f"arrays {sorted(members)}",
            expected="one named depth_m",
            fix="save it with numpy.savez_compressed(path, depth_m=…)",
        )
    with open_member(archive, members[key], f"depth {name}") as stream:
        shape, _ = _frames_header(stream, f"depth {name}", archive.getinfo(members[key]).file_size)
    other_members = {
        name_in_file: member for name_in_file, member in members.items() if name_in_file != key
    }
    arrays = read_depth_arrays(archive, other_members, shape, name)

    def open_mask(key: str) -> PackedFrames | None:
        if key not in members:
            return None
        mask_label = f"{key} mask of {name}"
        size = archive.getinfo(members[key]).file_size
        with open_member(archive, members[key], mask_label) as stream:
            mask_shape, dtype = read_npy_header(stream, mask_label, size)
        if mask_shape not in (shape, shape[1:]) or dtype.itemsize != 1:
            raise EgoXInputError(
                mask_label,
                got=f"{dtype} of shape {mask_shape}",
                expected=f"bool of the depth's shape {shape}",
                fix="save it as bool, one per frame",
            )
        return PackedFrames(f"depth {name}", archive, members[key], shape, keep_bytes)

    moving_frames, valid_frames, unclear_frames = map(
        open_mask, (arrays.dynamic, arrays.valid, arrays.mask)
    )
    depths = PackedFrames(f"depth {name}", archive, members[key], shape, keep_bytes)

    def read(indices: list[int]) -> DepthFrames:
        moving_masks = None if moving_frames is None else moving_frames.read(indices)
        valid_masks = None if valid_frames is None else valid_frames.read(indices)
        unclear_masks = None if unclear_frames is None else unclear_frames.read(indices)
        for packed_depth in depths.read(indices):
            depth = packed_depth.astype(np.float32)
            if valid_masks is not None:
                depth[next(valid_masks) == 0] = np.nan
            if unclear_masks is not None:
                check_mask(next(unclear_masks), depth, arrays.mask, name)
            yield depth, None if moving_masks is None else next(moving_masks).astype(bool)

    numbering = Numbering(what=f"depth {name}", count=shape[0])
    size = (shape[2], shape[1])
    return DepthFile(
        name=name,
        numbering=numbering,
        size=size,
        read=read,
        arrays=arrays,
        statements=(*statements_of_key(key, name), *arrays.statements),
    )


def _member_reader(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        if member.file_size > MAX_FRAME_BYTES:
            raise EgoXInputError(
                f"depth frame {member.filename}",
                got=f"{member.file_size / 2**20:.0f} MB",
                expected=f"at most {MAX_FRAME_BYTES / 2**20:.0f} MB",
                fix="store one frame per file",
            )
        with open_member(archive, member, f"depth frame {member.filename}") as stream:
            return stream.read()

    return read


def _open_pictures(name: str, files: dict[str, Callable[[], bytes]]) -> DepthFile:
    """Open numbered frame files of one kind from a folder or an archive."""
    ordered_names, numbering = numbered_files(f"depth {name}", files, PICTURE_SUFFIXES)
    suffix = Path(ordered_names[0]).suffix.lower()

    def read(indices: list[int]) -> DepthFrames:
        for index in indices:
            file = ordered_names[index]
            yield _decode_frame(files[file](), suffix, file), None

    shape = _decode_frame(files[ordered_names[0]](), suffix, ordered_names[0]).shape
    statements = (PNG_STATEMENT,) if suffix == ".png" else ()
    return DepthFile(
        name=name, numbering=numbering, size=shape[::-1], read=read, statements=statements
    )


def _decode_frame(content: bytes, suffix: str, file: str) -> np.ndarray:
    if suffix == ".npy":
        stream = io.BytesIO(content)
        shape, dtype = read_npy_header(stream, f"depth frame {file}", len(content))
        shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
        _check_shape((1, *shape), dtype, f"depth frame {file}")
        return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape).astype(np.float32)
    if suffix == ".png":
        picture = decode_picture(content, f"depth frame {file}", cv2.IMREAD_UNCHANGED)
        if picture is None or picture.ndim != 2 or picture.dtype != np.uint16:
            picture_format = (
                "no PNG" if picture is None else f"{picture.dtype} of shape {picture.shape}"
            )
            raise EgoXInputError(
                f"depth frame {file}",
                got=picture_format,
                expected="a grey PNG of 16 bits",
                fix="8 bits are too coarse for depth: write uint16 with a scale, or .npy",
            )
        return picture.astype(np.float32)
    depth = decode_exr(content, file)
    _check_shape((1, *depth.shape), depth.dtype, f"depth frame {file}")
    return depth


def _frames_header(
    stream: BinaryIO | Member, label: str, size: int
) -> tuple[tuple[int, int, int], np.dtype]:
    """Read the shape (T, H, W) and dtype of depth maps in a .npy file."""
    shape, dtype = read_npy_header(stream, label, size)
    shape = (1, *shape) if len(shape) == 2 else shape
    shape = shape[:3] if len(shape) == 4 and shape[3] == 1 else shape  # as VGGT writes
    _check_shape(shape, dtype, label)
    return (shape[0], shape[1], shape[2]), dtype


def _check_shape(shape: tuple[int, ...], dtype: np.dtype, label: str) -> None:
    if len(shape) != 3 or min(shape) < 1 or dtype.kind not in "fui":
        raise EgoXInputError(
            label,
            got=f"{dtype} of shape {shape}",
            expected="numbers of shape (T, H, W)",
            fix="store z depth, one map per frame",
        )
