"""Read untrusted zip archives, numpy files and numbered pictures safely: no code runs, and sizes
are limited.

Zip archives are checked for paths and for what they unpack to; numpy files never unpickle.
"""

from __future__ import annotations

import contextlib
import math
import re
import stat
import struct
import threading
import tokenize
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Generator, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

import numpy as np

from .errors import EgoXInputError, intact
from .safe_files import NAME_CLASHES, require_file, require_safe_name

try:
    from lzma import LZMAError
except ImportError:  # a Python built without it refuses such members (NotImplementedError)
    LZMAError = zlib.error

MAX_UNPACKED_BYTES = 32 * 2**30
"""Bytes of a zip's members together: an hour of 448x784 depth in float16 is a third of it."""
MAX_PACKING_RATIO = 1200
"""Deflate cannot pack tighter than 1:1032; a member that claims more is a forged header."""
ZIP_ERRORS = (
    EOFError,
    LZMAError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Raised by zipfile at damaged data, odd names, and methods that it lacks (a RuntimeError)."""
NPY_ERRORS = (
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)
"""Raised by numpy's reader of .npy headers, which parses Python source."""
MAX_AXES = 32
MAX_FRAME_BYTES = 512 * 2**20


@contextlib.contextmanager
def open_zip(
    path: Path, label: str = "archive", limit: int = MAX_UNPACKED_BYTES
) -> Generator[zipfile.ZipFile]:
    """Open a zip archive after checking its member paths and unpacked size.

    Raises:
        EgoXInputError: missing, not a zip, encrypted, a member outside the archive's own tree,
            unpacks too large.
    """
    require_file(path, label)
    with intact(f"{label} {path.name!r}", ZIP_ERRORS, expected="a zip archive"):
        archive = zipfile.ZipFile(path)
    with archive:
        unpacked_bytes = 0
        for member in archive.infolist():
            _check_member(member, path, label)
            unpacked_bytes += member.file_size
        if unpacked_bytes > limit:
            raise EgoXInputError(
                label,
                got=f"{path.name!r} unpacking to {unpacked_bytes / 2**30:.1f} GB",
                expected=f"at most {limit / 2**30:.1f} GB",
                fix="store the clip's own frames only",
            )
        yield archive


def unpack_zip(
    path: Path,
    # The folder is made; files that it already contains are not overwritten.
    folder: Path,
    # They are in lower case; members of other kinds, and hidden ones, stay packed.
    suffixes: Collection[str],
    *,
    # Limit of all unpacked members together, checked while they are written.
    most_bytes: int,
    # Limit of members, including those that stay packed.
    most_files: int,
) -> int:  # bytes written
    """Unpack the files of some kinds from an untrusted zip archive into a folder.

    After an error, the caller has to remove the files written until then.

    Raises:
        EgoXInputError: as :func:`open_zip`; links, names that some system can't hold or that differ
            in case alone, too many members, more bytes than it claims or than may be, damaged.
    """
    label = "archive"
    written_bytes = 0
    used_names = set[str]()
    with open_zip(path, label, most_bytes) as archive:
        if len(archive.infolist()) > most_files:
            raise EgoXInputError(
                label,
                got=f"{path.name!r} of {len(archive.infolist())} members",
                expected=f"at most {most_files}",
                fix="store depth as one .npz, or a shorter clip",
            )
        for member in archive.infolist():
            parts = _safe_parts(member, path, label)
            is_hidden = any(part.startswith(".") for part in parts) or "__MACOSX" in parts
            if member.is_dir() or is_hidden or Path(parts[-1]).suffix.lower() not in suffixes:
                continue
            target_path = folder.joinpath(*parts)
            if str(target_path).casefold() in used_names:
                raise EgoXInputError(
                    label,
                    got=f"{path.name!r} with {member.filename!r} twice, ignoring case",
                    expected="a name for each",
                    fix="rename one of them",
                )
            used_names.add(str(target_path).casefold())
            with intact(
                f"{label} {path.name!r}", NAME_CLASHES, expected="no file called as a folder"
            ):
                target_path.parent.mkdir(parents=True, exist_ok=True)
                target = target_path.open("xb")
            with target, open_member(archive, member, f"{label} {path.name!r}") as source:
                while block := source.read(2**20):
                    written_bytes += len(block)
                    if written_bytes > most_bytes:
                        raise EgoXInputError(
                            label,
                            got=f"{path.name!r}, which contains more than its header states",
                            expected=f"at most {most_bytes / 2**30:.1f} GB",
                            fix="write it again",
                        )
                    target.write(block)
    return written_bytes


class Member:
    """Readable stream of one file in a zip archive, closed at the end of its context."""

    def __init__(self, stream: IO[bytes], label: str) -> None:
        self._stream, self._what = stream, label

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        """Read the next ``size`` bytes, by default all remaining ones.

        Raises:
            EgoXInputError: damaged.
        """
        with intact(self._what, ZIP_ERRORS):
            return self._stream.read(size)

    def tell(self) -> int:
        """Count the bytes read so far."""
        return self._stream.tell()

    def close(self) -> None:
        """Close the stream but not its archive."""
        self._stream.close()


def open_member(archive: zipfile.ZipFile, member: str | zipfile.ZipInfo, label: str) -> Member:
    """Open a file of a zip archive for reading, with ``label`` as its name in errors.

    Raises:
        EgoXInputError: damaged, packed by a method that this Python lacks.
    """
    with intact(label, ZIP_ERRORS):
        return Member(archive.open(member), label)


def read_array(archive: zipfile.ZipFile, key: str, label: str) -> np.ndarray:
    """Read one array of an npz file, with ``label`` as its name in errors.

    Raises:
        EgoXInputError: as :func:`read_npy_header`; damaged data.
    """
    with open_member(archive, f"{key}.npy", label) as stream:
        shape, dtype = read_npy_header(stream, label, archive.getinfo(f"{key}.npy").file_size)
        array_bytes = stream.read()
    if len(array_bytes) != math.prod(shape) * dtype.itemsize:
        raise EgoXInputError(
            label,
            got=f"{len(array_bytes)} bytes for {dtype} of shape {shape}",
            expected="an intact file",
            fix="copy or write it again",
        )
    return np.frombuffer(array_bytes, dtype).reshape(shape)


def _safe_parts(member: zipfile.ZipInfo, path: Path, label: str) -> tuple[str, ...]:
    """Split the name of an archive's file into folders and file name, all valid on every system."""
    name = unicodedata.normalize("NFC", member.filename)
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise EgoXInputError(
            label,
            got=f"{path.name!r} with {member.filename!r}, a link or a device",
            expected="plain files",
            fix="store the files themselves",
        )
    return tuple(require_safe_name(part, f"{label} {path.name!r}") for part in parts or [""])


def _check_member(member: zipfile.ZipInfo, path: Path, label: str) -> None:
    posix_path, windows_path = PurePosixPath(member.filename), PureWindowsPath(member.filename)
    # Both readings of the name must stay inside: the archive may have been made for the other
    # system.
    if (
        not member.filename
        or posix_path.is_absolute()
        or windows_path.drive
        or windows_path.root
        or ".." in posix_path.parts
        or ".." in windows_path.parts
    ):
        raise EgoXInputError(
            label,
            got=f"{path.name!r} with a member named {member.filename!r}",
            expected="members inside the archive's own tree",
            fix="write the archive again",
        )
    if member.flag_bits & 0x1:
        raise EgoXInputError(
            label,
            got=f"{path.name!r}, which is encrypted",
            expected="a plain zip",
            fix="store it without a password",
        )
    if member.file_size > 2**20 and member.file_size > MAX_PACKING_RATIO * max(
        member.compress_size, 1
    ):
        raise EgoXInputError(
            label,
            got=f"{path.name!r}, whose member {member.filename!r} claims to unpack "
            f"{member.file_size // max(member.compress_size, 1)} times",
            expected=f"at most {MAX_PACKING_RATIO} times",
            fix="write the archive again",
        )


_HEADER_LOCK = threading.Lock()
"""Held while numpy parses a header: Python 3.11 raises SystemError at times where two threads build
syntax trees at once, as a host's do that checks one prompt while it runs another."""


def read_npy_header(
    # It is at the start of the .npy; afterwards it is at the first number.
    stream: IO[bytes] | Member,
    # Names the file in the error.
    label: str,
    # Bytes of the whole .npy.
    size: int,
) -> tuple[tuple[int, ...], np.dtype]:
    """Read shape and dtype from the header of a .npy file, and refuse a file with too little data.

    Raises:
        EgoXInputError: not a .npy, column order, pickled objects, cut off or longer than claimed.
    """
    with intact(
        label, NPY_ERRORS, expected="a numpy array", fix="save it with numpy.save or numpy.savez"
    ):
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        with _HEADER_LOCK:
            shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise EgoXInputError(
            label,
            got="an array of Python objects (pickled)",
            expected="an array of numbers",
            fix="save it as float16 or float32",
        )
    if fortran and len(shape) > 1:
        raise EgoXInputError(
            label,
            got="an array in column order",
            expected="row order",
            fix="save numpy.ascontiguousarray(array)",
        )
    if (
        len(shape) > MAX_AXES
        or dtype.itemsize == 0
        or not all(0 <= length <= size for length in shape)
    ):
        raise EgoXInputError(
            label,
            got=f"{dtype} of shape {str(shape)[:80]} in {size} bytes",
            expected="an array that fits",
            fix="copy or write it again",
        )
    claimed_bytes = math.prod(shape) * dtype.itemsize
    held_bytes = size - stream.tell()
    if claimed_bytes != held_bytes:
        raise EgoXInputError(
            label,
            got=f"{held_bytes} bytes for {dtype} of shape {tuple(shape)}",
            expected=f"an intact file with {claimed_bytes} bytes of numbers",
            fix="copy or write it again",
        )
    return tuple(shape), dtype


class PackedFrames:
    """Read single frames of an array inside a zip archive, fastest in ascending order."""

    def __init__(
        self,
        # Names the file in messages.
        label: str,
        # It has to stay open as long as this is used.
        archive: zipfile.ZipFile,
        member: str,
        shape: tuple[int, ...],  # (T, H, W)
        # Up to this size, unpacked content is kept for the next read.
        keep_bytes: int = 0,
    ) -> None:
        self._what, self._archive, self._member, self._shape = label, archive, member, shape
        self._keep_bytes = keep_bytes
        self._stream, self._next = None, 0  # the packed array, and the frame that comes next in it
        self._kept: dict[int, np.ndarray] = {}

    def read(self, indices: list[int]) -> Iterator[np.ndarray]:
        """Yield the frames at ascending ``indices``."""
        wanted_numbers = set(indices)
        kept_frames = self._kept
        self._kept = {}
        frame_range = range(indices[0], indices[-1] + 1)  # those between are unpacked anyway
        keep_all = len(frame_range) * self._frame_bytes() <= self._keep_bytes
        for number in frame_range:
            frame = kept_frames[number] if number in kept_frames else self._unpack(number)
            if keep_all:
                self._kept[number] = frame
            if number in wanted_numbers:
                yield frame

    def _frame_bytes(self) -> int:
        return int(np.prod(self._shape[1:])) * self._open()[1].itemsize

    def _open(self) -> tuple[Member, np.dtype]:
        if self._stream is None:
            self._stream = open_member(self._archive, self._member, self._what)
            self._next = 0
            size = self._archive.getinfo(self._member).file_size
            _, self._dtype = read_npy_header(self._stream, self._what, size)
        return self._stream, self._dtype

    def _unpack(self, number: int) -> np.ndarray:
        if self._stream is not None and number < self._next:
            self._stream.close()
            self._stream = None
        (stream, dtype) = self._open()
        size = self._frame_bytes()
        frame_data = b""
        while self._next <= number:
            frame_data = stream.read(size)
            if len(frame_data) < size:
                raise EgoXInputError(
                    self._what,
                    got=f"frame {self._next} cut off",
                    expected="an intact file",
                    fix="copy or write it again",
                )
            self._next += 1
        return np.frombuffer(frame_data, dtype).reshape(self._shape[1:])


def decode_picture(content: bytes, label: str, mode: int) -> np.ndarray | None:
    """Decode a PNG with OpenCV in ``mode``, or return None if the bytes are no picture.

    Raises:
        EgoXInputError: empty, or larger than OpenCV takes.
    """
    # The header's width and height: a small file may ask for gigabytes.
    width_and_height = [int.from_bytes(content[offset : offset + 4], "big") for offset in (16, 20)]
    if 2 * math.prod(width_and_height) > MAX_FRAME_BYTES:
        raise EgoXInputError(
            label,
            got=f"an image of {width_and_height[0]}x{width_and_height[1]} px",
            expected=f"at most {MAX_FRAME_BYTES // 2} px",
            fix="write it again",
        )
    import cv2  # here, since kernels are measured where it is missing

    with intact(label, (cv2.error, MemoryError)):
        return cv2.imdecode(np.frombuffer(content, np.uint8), mode)
