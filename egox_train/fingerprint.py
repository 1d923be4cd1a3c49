"""Compute a short hash of everything that a file was made from."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from egox_core.safe_files import visible_files

END_BYTES = 2**20
"""Bytes at each end of a file that tell it from others: all of most text, and a video's index."""


def fingerprint(hashed_values: Any) -> str:
    """Compute a hash of nested lists and mappings of numbers and text, regardless of the order of
    keys."""
    return hashlib.sha256(
        json.dumps(hashed_values, sort_keys=True, default=str).encode()
    ).hexdigest()


def file_ends(file: Path) -> bytes:
    """Read a file's size and the bytes at its start and end, for a fast hash."""
    if not file.is_file():
        return b"-1"
    size = file.stat().st_size
    with file.open("rb") as binary_file:
        first_bytes = binary_file.read(END_BYTES)
        binary_file.seek(max(0, size - END_BYTES))
        return b"%d" % size + first_bytes + binary_file.read(END_BYTES)


def file_state(path: Path | None) -> int | str:
    """Summarise the content of a file or folder without reading all of it.

    A file gives its size (0 if missing). Folders and uncompressed arrays are hashed by names
    and by bytes at both ends, because new numbers don't change their size."""
    if path is None or not path.exists():
        return 0
    if path.is_file() and path.suffix != ".npy":
        return path.stat().st_size
    files = visible_files(path, nested=True) if path.is_dir() else [path]
    return _digest_of_files(tuple((file, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=64)  # all clips of a take ask for the same files
def _digest_of_files(files: tuple[tuple[Path, int], ...]) -> str:
    sha256_digest = hashlib.sha256()
    for file, _ in files:
        sha256_digest.update(file.name.encode("utf-8", "surrogatepass") + file_ends(file))
    return sha256_digest.hexdigest()
