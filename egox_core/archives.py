"""Archives and numpy files from strangers, read without running code or filling the machine.

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
from collections.abc import Collection, Generator
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


@contextlib.contextmanager
def open_zip(
    path: Path, what: str = "archive", limit: int = MAX_UNPACKED_BYTES
) -> Generator[zipfile.ZipFile]:
    """A zip archive whose member paths and unpacked size have been checked before anything is read.

    Raises:
        EgoXInputError: missing, not a zip, encrypted, a member outside the archive's own tree,
            unpacks too large.
    """
    require_file(path, what)
    with intact(f"{what} {path.name!r}", ZIP_ERRORS, expected="a zip archive"):
        archive = zipfile.ZipFile(path)
    with archive:
        total = 0
        for member in archive.infolist():
            _check_member(member, path, what)
            total += member.file_size
        if total > limit:
            raise EgoXInputError(
                what,
                got=f"{path.name!r} unpacking to {total / 2**30:.1f} GB",
                expected=f"at most {limit / 2**30:.1f} GB",
                fix="store the clip's own frames only",
            )
        yield archive


def unpack_zip(
    path: Path,
    folder: Path,  # is made; what it holds already is not overwritten
    suffixes: Collection[
        str
    ],  # in lower case; members of other kinds, and hidden ones, stay packed
    *,
    most_bytes: int,  # of all unpacked members together, counted while they are written
    most_files: int,  # members, the ones that stay packed too
    what: str = "archive",
) -> int:  # bytes written
    """Unpack an archive that a stranger made. What was written before an error is left to the
    caller.

    Raises:
        EgoXInputError: as :func:`open_zip`; links, names that some system can't hold or that differ
            in case alone, too many members, more bytes than it claims or than may be, damaged.
    """
    written, places = 0, set[str]()
    with open_zip(path, what, most_bytes) as archive:
        if len(archive.infolist()) > most_files:
            raise EgoXInputError(
                what,
                got=f"{path.name!r} of {len(archive.infolist())} members",
                expected=f"at most {most_files}",
                fix="store depth as one .npz, or a shorter clip",
            )
        for member in archive.infolist():
            parts = _plain_parts(member, path, what)
            hidden = any(part.startswith(".") for part in parts) or "__MACOSX" in parts
            if member.is_dir() or hidden or Path(parts[-1]).suffix.lower() not in suffixes:
                continue
            place = folder.joinpath(*parts)
            if str(place).casefold() in places:
                raise EgoXInputError(
                    what,
                    got=f"{path.name!r} with {member.filename!r} twice, ignoring case",
                    expected="a name for each",
                    fix="rename one of them",
                )
            places.add(str(place).casefold())
            with intact(
                f"{what} {path.name!r}", NAME_CLASHES, expected="no file called as a folder"
            ):
                place.parent.mkdir(parents=True, exist_ok=True)
                target = place.open("xb")
            with target, open_member(archive, member, f"{what} {path.name!r}") as source:
                while block := source.read(2**20):
                    written += len(block)
                    if written > most_bytes:
                        raise EgoXInputError(
                            what,
                            got=f"{path.name!r}, which contains more than its header states",
                            expected=f"at most {most_bytes / 2**30:.1f} GB",
                            fix="write it again",
                        )
                    target.write(block)
    return written


class Member:
    """A member of a zip that is read on; a context that closes it."""

    def __init__(self, stream: IO[bytes], what: str) -> None:
        self._stream, self._what = stream, what

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, all that is left by default.

        Raises:
            EgoXInputError: damaged.
        """
        with intact(self._what, ZIP_ERRORS):
            return self._stream.read(size)

    def tell(self) -> int:
        """Bytes that were read."""
        return self._stream.tell()

    def close(self) -> None:
        """Close it; the archive stays open."""
        self._stream.close()


def open_member(archive: zipfile.ZipFile, member: str | zipfile.ZipInfo, what: str) -> Member:
    """A member to read; ``what`` names it in errors.

    Raises:
        EgoXInputError: damaged, packed by a method that this Python lacks.
    """
    with intact(what, ZIP_ERRORS):
        return Member(archive.open(member), what)


def read_array(archive: zipfile.ZipFile, key: str, what: str) -> np.ndarray:
    """An array of an npz, read whole; ``what`` names it in errors.

    Raises:
        EgoXInputError: as :func:`read_npy_header`; damaged data.
    """
    with open_member(archive, f"{key}.npy", what) as stream:
        shape, dtype = read_npy_header(stream, what, archive.getinfo(f"{key}.npy").file_size)
        content = stream.read()
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise EgoXInputError(
            what,
            got=f"{len(content)} bytes for {dtype} of shape {shape}",
            expected="an intact file",
            fix="copy or write it again",
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _plain_parts(member: zipfile.ZipInfo, path: Path, what: str) -> tuple[str, ...]:
    """Folders and name of a member that is a file or folder, as every system can hold them."""
    name = unicodedata.normalize("NFC", member.filename)
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise EgoXInputError(
            what,
            got=f"{path.name!r} with {member.filename!r}, a link or a device",
            expected="plain files",
            fix="store the files themselves",
        )
    return tuple(require_safe_name(part, f"{what} {path.name!r}") for part in parts or [""])


def _check_member(member: zipfile.ZipInfo, path: Path, what: str) -> None:
    posix, windows = PurePosixPath(member.filename), PureWindowsPath(member.filename)
    # Both readings of the name must stay inside: the archive may have been made for the other
    # system.
    if (
        not member.filename
        or posix.is_absolute()
        or windows.drive
        or windows.root
        or ".." in posix.parts
        or ".." in windows.parts
    ):
        raise EgoXInputError(
            what,
            got=f"{path.name!r} with a member named {member.filename!r}",
            expected="members inside the archive's own tree",
            fix="write the archive again",
        )
    if member.flag_bits & 0x1:
        raise EgoXInputError(
            what,
            got=f"{path.name!r}, which is encrypted",
            expected="a plain zip",
            fix="store it without a password",
        )
    if member.file_size > 2**20 and member.file_size > MAX_PACKING_RATIO * max(
        member.compress_size, 1
    ):
        raise EgoXInputError(
            what,
            got=f"{path.name!r}, whose member {member.filename!r} claims to unpack "
            f"{member.file_size // max(member.compress_size, 1)} times",
            expected=f"at most {MAX_PACKING_RATIO} times",
            fix="write the archive again",
        )


_ONE_HEADER = threading.Lock()
"""Held while numpy parses a header: Python 3.11 raises SystemError at times where two threads build
syntax trees at once, as a host's do that checks one prompt while it runs another."""


def read_npy_header(
    stream: IO[bytes] | Member,  # at the start of the .npy; left at the first number
    what: str,  # names it in the error
    size: int,  # bytes of the whole .npy
) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a .npy that holds as many numbers as its header claims.

    Raises:
        EgoXInputError: not a .npy, column order, pickled objects, cut off or longer than claimed.
    """
    with intact(
        what, NPY_ERRORS, expected="a numpy array", fix="save it with numpy.save or numpy.savez"
    ):
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        with _ONE_HEADER:
            shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise EgoXInputError(
            what,
            got="an array of Python objects (pickled)",
            expected="an array of numbers",
            fix="save it as float16 or float32",
        )
    if fortran and len(shape) > 1:
        raise EgoXInputError(
            what,
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
            what,
            got=f"{dtype} of shape {str(shape)[:80]} in {size} bytes",
            expected="an array that fits",
            fix="copy or write it again",
        )
    claimed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != held:
        raise EgoXInputError(
            what,
            got=f"{held} bytes for {dtype} of shape {tuple(shape)}",
            expected=f"an intact file with {claimed} bytes of numbers",
            fix="copy or write it again",
        )
    return tuple(shape), dtype
