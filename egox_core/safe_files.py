"""Read untrusted files safely, and write files whole or not at all.

JSON is limited in size, pickled weights are refused with the command that converts them. Names are
such that every system can hold them. Archives and numpy files: see :mod:`.archives`."""

import contextlib
import json
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Callable, Collection, Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import EgoXInputError
from .foreign_files import BEGINNING, refuse_foreign

Value = TypeVar("Value")
MAX_JSON_BYTES = 16 * 2**20
MAX_DIGITS = 18
"""Digits of a number in 64 bits; Python refuses to read some thousand."""
LONGEST_NAME = 120
"""Characters of a file's name."""
MAX_NAME_BYTES = 240
"""Length of a name in UTF-8: file systems hold 255, and what is being written has a few more."""
RESERVED_NAMES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Devices of Windows, with any suffix."""
NO_NAMES = (OSError, ValueError)
"""Raised by pathlib at names that are too long, or hold a NUL or half a surrogate pair."""
NAME_CLASHES = (FileExistsError, IsADirectoryError, NotADirectoryError)
"""Raised where a file and a folder are to have one name."""
HALF_MADE = re.compile(r"\.(.+)\.(?:lock|part|[0-9a-f]{8}(?:\.\w+)?)")
"""Files made under :func:`file_lock`: that of the name, which comes first, and the lock itself."""
PROBE_BYTES = 4096
"""A block: an empty file fits on a full disk."""
OLDER_ENCODINGS = ("gbk", "shift_jis", "euc_kr", "big5", "cp1252", "cp1251")
"""Encodings that Windows' programs still write."""
PICKLED_SUFFIXES = (".pt", ".pt2", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


@contextlib.contextmanager
def file_lock(path: Path, wait: bool = True) -> Generator[bool]:
    """Lock the file ``path`` while this process makes it, and yield False if it is locked.

    The lock, ``.<name>.lock`` beside it, ends with its process, also with a killed one. A file
    system that knows no locks gives no protection: two processes then do the same work, and what
    they write is whole all the same.

    Args:
        wait: until the other process is through, instead of yielding False.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock_file = path.with_name(f".{path.name}.lock")
    lock = FileLock(lock_file)
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
            lock_file.unlink()
        lock.release()


def clear_leftovers(
    folder: Path, pattern: str = ".*", names: Collection[str] | None = None
) -> None:
    """Remove the unfinished files of killed processes from ``folder``, but not those of running
    ones.

    Args:
        names: of what is made there, where the folder is a user's own; None: whatever has the form.
    """
    for leftover in list(folder.glob(pattern)):
        leftover_match = HALF_MADE.fullmatch(leftover.name)
        if leftover_match is None or (names is not None and leftover_match[1] not in names):
            continue
        with file_lock(folder / leftover_match[1], wait=False) as is_free:
            if is_free and leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            elif is_free and leftover.suffix != ".lock":
                leftover.unlink(missing_ok=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Replace a folder by a finished new one, and delete the old one only after the move.

    Windows moves no folder in which a file is open, and would delete its other files.

    Raises:
        OSError: the file system refuses; ``folder`` is as it was.
    """
    old_folder = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    if not folder.exists():
        os.replace(new, folder)
        return
    os.replace(folder, old_folder)
    try:
        os.replace(new, folder)
    except OSError:
        os.replace(old_folder, folder)
        raise
    shutil.rmtree(old_folder, ignore_errors=True)


def require_file(path: Path, label: str, most_bytes: int | None = None) -> Path:
    """Refuse a path that isn't an existing file of a supported kind.

    Raises:
        EgoXInputError: nothing there, a folder, larger than ``most_bytes``, or of a kind that no
            reader takes.
    """
    if not path.is_file():
        raise EgoXInputError(
            label,
            got=f"{path.name!r}, which is {'a folder' if path.is_dir() else 'not there'}",
            expected="a file",
            fix="check the name and the folder",
        )
    size = path.stat().st_size
    if most_bytes is not None and size > most_bytes:
        raise EgoXInputError(
            label,
            got=f"{path.name!r} of {size / 2**20:.1f} MB",
            expected=f"at most {most_bytes / 2**20:.0f} MB",
            fix="check that it is the right file, and keep only what belongs to the clip",
        )
    with path.open("rb") as file:
        refuse_foreign(file.read(BEGINNING), label, f"{path.name!r} of {size:,} bytes")
    return path


def require_folder(folder: Path | None, label: str, expected: str) -> None:
    """Refuse a path that isn't an existing folder, unless it is None.

    Raises:
        EgoXInputError: nothing there, or a file.
    """
    if folder is not None and not folder.is_dir():
        raise EgoXInputError(
            label,
            got=f"{folder.name!r}, which is no folder",
            expected=expected,
            fix="check the path",
        )


def visible_files(folder: Path, pattern: str = "*", *, nested: bool = False) -> list[Path]:
    """List the files of a folder by name, without hidden ones.

    On other systems' disks, macOS writes a hidden ``._NAME`` next to each NAME.
    """
    paths = folder.rglob(pattern) if nested else folder.glob(pattern)
    folder_depth = len(folder.parts)
    return sorted(
        path
        for path in paths
        if path.is_file() and not any(part.startswith(".") for part in path.parts[folder_depth:])
    )


def refuse_pickled(path: Path, label: str) -> None:
    """Refuse pickled weight files, which can run code when they are read.

    Raises:
        EgoXInputError: the suffix is one of PICKLED_SUFFIXES.
    """
    if path.suffix.lower() in PICKLED_SUFFIXES:
        raise EgoXInputError(
            label,
            got=f"{path.name!r}, a pickled file that can run code when it is read",
            expected="a .safetensors file",
            fix=f'convert it with safetensors.torch.save_file: "{path.name}"',
        )


def read_json(path: Path, label: str = "JSON file", limit: int = MAX_JSON_BYTES) -> object:
    """Read the content of a JSON file.

    Raises:
        EgoXInputError: missing, larger than ``limit`` bytes, not Unicode, not JSON, nested without
            end.
    """
    # Nothing here holds the bytes, so that they are free once they are text: lists have 100 MB.
    return parse_json(require_file(path, label, limit).read_bytes(), f"{label} {path.name!r}")


def read_json_object(path: Path, label: str, limit: int = MAX_JSON_BYTES) -> dict:
    """Read a JSON file whose content must be an object.

    Raises:
        EgoXInputError: as there; anything else in it.
    """
    content = read_json(path, label, limit)
    if not isinstance(content, dict):
        raise EgoXInputError(
            label,
            got=f"{path.name!r} with a {type(content).__name__}",
            expected="a JSON object",
            fix="check the file; copy or write it again",
        )
    return content


def parse_json(text: str | bytes, label: str) -> object:
    """Parse a JSON text, with ``label`` as its name in the error.

    Raises:
        EgoXInputError: not Unicode, not JSON, nested without end.
    """
    text = decode_text(text, label) if isinstance(text, bytes) else text
    try:
        return json.loads(text, parse_int=_parse_integer)
    except (ValueError, RecursionError) as error:
        raise EgoXInputError(
            label,
            got=f"text that is not JSON ({error})",
            expected="JSON in UTF-8",
            fix="check the file with any JSON viewer; it may be cut off",
        ) from error


def decode_text(content: bytes, label: str) -> str:
    """Decode a UTF-8, UTF-16 or UTF-32 text, with ``label`` as its name in the error.

    Raises:
        EgoXInputError: an older encoding, with those that it may be.
    """
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError as error:
        raise EgoXInputError(
            label,
            got=(
                f"text that is no Unicode (byte {content[error.start] if content else 0:#x} at "
                f"place {error.start}) but may be "
                f"{' or '.join(_older_encodings(content)) or 'no text at all'}"
            ),
            expected="text in UTF-8",
            fix="open it in the program that wrote it, and save it as UTF-8",
        ) from error


def _older_encodings(content: bytes) -> list[str]:
    possible_names = []
    for name in OLDER_ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            content.decode(name)
            possible_names.append(name)
    return possible_names


def read_optional(
    content: Mapping, name: str, key: str, read: Callable[[Any, str], Value]
) -> Value | None:
    """Read an optional value of a parsed file by the function ``read``, or return None without
    one."""
    value = content.get(key)
    return None if value is None else read(value, f"{key} of {name}")


def _parse_integer(digits: str) -> int | float:
    """Parse an integer, as float if it is longer than 64 bits."""
    return int(digits) if len(digits) <= MAX_DIGITS + 2 else float(digits)


def whole_number(text: str) -> int | None:
    """Parse the digits of an integer, or return None for other text and beyond 64 bits."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def safe_name(name: str) -> str:
    """Turn an untrusted file name into a valid one on every system, without folders and never
    empty."""
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
    while len((stem + suffix).encode()) > MAX_NAME_BYTES:
        stem, suffix = (stem[:-1], suffix) if stem else (stem, suffix[:-1])
    name = stem + suffix
    return f"_{name}" if not name or RESERVED_NAMES.fullmatch(name) else name


def require_safe_name(name: str, label: str) -> str:
    """Refuse a file name that isn't valid on every system, with ``label`` as its name in the error.

    Raises:
        EgoXInputError: empty, with folders in it, not as :func:`safe_name` leaves it.
    """
    if name != safe_name(name):
        raise EgoXInputError(
            label,
            got=repr(name[:LONGEST_NAME]),
            expected=f"at most {LONGEST_NAME} characters that Windows can hold, too, and no folder",
            fix="rename it",
        )
    return name


@contextlib.contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Yield a temporary path that replaces ``path`` when writing has succeeded.

    Its mode is that of any new file, whatever the writer asked for: safetensors lets nobody else
    read. An error of the disk names ``path``: writing itself tells none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: encoders take the container format from it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    temporary.touch()
    file_mode = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(file_mode)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        # Not by the error's own filename, which PyAV's can't be given.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def refuse_overwriting(target: Path, source: Path | None) -> None:
    """Refuse a target that is the source itself, or a file of the source's folder.

    Raises:
        EgoXInputError: it is.
    """
    if source is None or not source.exists() or not target.exists():
        return
    for file in source.rglob("*") if source.is_dir() else (source,):
        if target.samefile(file):
            raise EgoXInputError(
                "target",
                got=f"{target.name}, which it is made of",
                expected="another file",
                fix="give it a name of its own: the source would be lost",
            )


def require_there(path: Path | None, label: str) -> None:
    """Refuse a path that a user gave and that isn't there, before anything is imported to read it.

    Raises:
        EgoXInputError: neither a file nor a folder. None, where a path may be left out, passes.
    """
    if path is not None and not path.exists():
        raise EgoXInputError(
            label,
            got=f"{str(path)!r}, which isn't there",
            expected="a file or folder that is there",
            fix="check the path",
        )


def require_writable(folder: Path, label: str, name: str = "") -> None:
    """Refuse a folder, existing or not, that can't be written to.

    ``name`` stands for its path in messages that a browser shows.

    Raises:
        EgoXInputError: says what the system says: a full disk, no rights, a file in its place.
    """
    try:
        existing_folder = next(
            ancestor for ancestor in (folder, *folder.absolute().parents) if ancestor.exists()
        )
        probe_path = existing_folder / f".{uuid.uuid4().hex[:8]}.part"
        try:
            probe_path.write_bytes(bytes(PROBE_BYTES))
        finally:
            with contextlib.suppress(OSError):
                probe_path.unlink()
    except NO_NAMES as error:
        raise EgoXInputError(
            label,
            got=f"{name or repr(str(folder))}, where nothing can be written "
            f"({getattr(error, 'strerror', None) or error})",
            expected="a folder that may be written to, on a disk with room",
            fix="choose another one, or free some space",
        ) from error


def write_json(path: Path, content: object, indent: int | None = 1) -> None:
    """Write ``content`` as a UTF-8 JSON file, whole or not at all.

    Without ``indent`` it is one line. NaN is refused (ValueError), since JSON has none.
    """
    with atomic_write(path) as temporary:
        text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
        # Bytes of a name that is no UTF-8 become \\udcXX, an escape of JSON, too.
        temporary.write_text(text, "utf-8", "backslashreplace")
