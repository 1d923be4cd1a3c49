"""Files from strangers, read without running code or filling the machine; files written whole or
not at all.

JSON is limited in size, numpy files never unpickle, zip archives are checked for paths and for what
they unpack to, pickled weights are refused with the command that converts them. Names are such that
every system can hold them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import stat
import struct
import threading
import tokenize
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

import numpy as np

from .errors import EgoXInputError, intact

try:
    from lzma import LZMAError
except ImportError:  # a Python built without it refuses such members (NotImplementedError)
    LZMAError = zlib.error

MAX_JSON_BYTES = 16 * 2**20
MAX_UNPACKED_BYTES = 32 * 2**30
"""Of a zip's members together: an hour of 448x784 depth in float16 is a third of it."""
MAX_PACKING_RATIO = 1200
"""Deflate cannot pack tighter than 1:1032; a member that claims more is a forged header."""
LONGEST_NAME = 120
"""Characters of a file's name."""
MOST_NAME_BYTES = 240
"""Of a name in UTF-8: file systems hold 255, and what is being written has a few more."""
RESERVED_NAMES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Devices of Windows, with any suffix."""
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
NO_NAMES = (OSError, ValueError)
"""Raised by pathlib at names that are too long, or hold a NUL or half a surrogate pair."""
NAME_CLASHES = (FileExistsError, IsADirectoryError, NotADirectoryError)
"""Raised where a file and a folder are to have one name."""
MOST_AXES = 32
PICKLED_SUFFIXES = (".pt", ".pt2", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


@contextlib.contextmanager
def file_lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Holds ``path`` for this process while it is made; yields False where another process holds
    it.

    The lock, ``.<name>.lock`` beside it, ends with its process, also with a killed one. A file
    system that knows no locks gives no protection: two processes then do the same work, and what
    they write is whole all the same.

    Args:
        wait: until the other process is through, instead of yielding False.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    except NotImplementedError:
        yield True
        return
    try:
        yield True
    finally:
        # Who waits for the lock gets one of a file that is gone, and may share the work with a
        # third: see above.
        with contextlib.suppress(OSError):
            file.unlink()
        lock.release()


def clear_leftovers(folder: Path, pattern: str = ".*") -> None:
    """Remove what killed processes left in ``folder``: ``.<name>.<anything>`` of what they made
    under :func:`file_lock`, and its lock. What another process is at stays."""
    for leftover in list(folder.glob(pattern)):
        with file_lock(folder / leftover.name[1:].rpartition(".")[0], wait=False) as free:
            if free and leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Move a finished folder to a place that another one may have; that one goes whole or stays.

    Windows moves no folder in which a file is open, and would delete its other files.

    Raises:
        OSError: the file system refuses; ``folder`` is as it was.
    """
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    if not folder.exists():
        os.replace(new, folder)
        return
    os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def require_file(path: Path, what: str) -> Path:
    """The path, if it is a file; ``what`` names it in the error.

    Raises:
        EgoXInputError: nothing there, or a folder.
    """
    if not path.is_file():
        raise EgoXInputError(
            what,
            got=f"{path.name!r}, which is {'a folder' if path.is_dir() else 'not there'}",
            expected="a file",
            fix="check the name and the folder",
        )
    return path


def refuse_pickled(path: Path, what: str) -> None:
    """Refuse weight formats that run code when they are read.

    Raises:
        EgoXInputError: the suffix is one of PICKLED_SUFFIXES.
    """
    if path.suffix.lower() in PICKLED_SUFFIXES:
        raise EgoXInputError(
            what,
            got=f"{path.name!r}, a pickled file that can run code when it is read",
            expected="a .safetensors file",
            fix=f'convert it once with: python tools/convert_to_safetensors.py "{path.name}"',
        )


def read_json(path: Path, what: str = "JSON file", limit: int = MAX_JSON_BYTES) -> object:
    """The content of a JSON file.

    Raises:
        EgoXInputError: missing, larger than ``limit`` bytes, not UTF-8, not JSON, nested without
            end.
    """
    size = require_file(path, what).stat().st_size
    if size > limit:
        raise EgoXInputError(
            what,
            got=f"{path.name!r} of {size / 2**20:.1f} MB",
            expected=f"at most {limit / 2**20:.0f} MB",
            fix="keep only the clip's own poses in it",
        )
    return parse_json(path.read_bytes(), f"{what} {path.name!r}")


def parse_json(text: str | bytes, what: str) -> object:
    """The content of a JSON text; ``what`` names it in the error.

    Raises:
        EgoXInputError: not UTF-8, not JSON, nested without end.
    """
    try:
        return json.loads(
            text.decode("utf-8-sig") if isinstance(text, bytes) else text, parse_int=_integer
        )
    except (ValueError, RecursionError) as error:
        raise EgoXInputError(
            what,
            got=f"text that is not JSON ({error})",
            expected="JSON in UTF-8",
            fix="check the file with any JSON viewer; it may be cut off",
        ) from error


def _integer(digits: str) -> int | float:
    """An integer of 64 bits, or a longer one as float: Python limits the digits of an int."""
    return int(digits) if len(digits) <= 20 else float(digits)


@contextlib.contextmanager
def open_zip(
    path: Path, what: str = "archive", limit: int = MAX_UNPACKED_BYTES
) -> Iterator[zipfile.ZipFile]:
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


def safe_name(name: str) -> str:
    """A file name as a stranger gives it, as every system can hold it: without folders, never
    empty, accents in one character (macOS writes two, and takes both for one name)."""
    name = (
        re.sub(
            r"[\x00-\x1f\x7f\ud800-\udfff<>:\"|?*]",
            "_",
            unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1]),
        )
        .strip(" ")
        .rstrip(". ")
    )
    stem, suffix = os.path.splitext(name)
    suffix = suffix[: LONGEST_NAME // 4]
    stem = stem[: LONGEST_NAME - len(suffix)]
    while len((stem + suffix).encode()) > MOST_NAME_BYTES:
        stem, suffix = (stem[:-1], suffix) if stem else (stem, suffix[:-1])
    name = stem + suffix
    return f"_{name}" if not name or RESERVED_NAMES.fullmatch(name) else name


def require_safe_name(name: str, what: str) -> str:
    """Refuse a name that cannot be one file's on every system; ``what`` names it in the error.

    Raises:
        EgoXInputError: empty, with folders in it, not as :func:`safe_name` leaves it.
    """
    if name != safe_name(name):
        raise EgoXInputError(
            what,
            got=repr(name[:LONGEST_NAME]),
            expected=f"at most {LONGEST_NAME} characters that Windows can hold, too, and no folder",
            fix="rename it",
        )
    return name


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
                    got=f"{path.name!r} with {member.filename!r} twice, or in another case",
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
                            got=f"{path.name!r}, which holds more than it claims",
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
        posix.is_absolute()
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
        len(shape) > MOST_AXES
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


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; becomes ``path`` at the end, or vanishes with
    an exception.

    Its mode is that of any new file, whatever the writer asked for: safetensors lets nobody else
    read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: encoders take the container format from it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as UTF-8 JSON, whole or not at all. NaN is refused (ValueError): JSON has
    none."""
    with atomic_write(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8"
        )
