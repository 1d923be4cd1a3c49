"""Split weight files into parts of at most 15 MiB, and join them again."""

import hashlib
import re
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.safe_files import atomic_write

from .files import BASE_FILE, LORA_FILE, WorkFiles

PART_BYTES = 15 * 2**20
PART_PATTERN = re.compile(
    r"(?P<name>.+)\.(?P<save>\d{4})-(?P<number>\d)of(?P<count>\d)-(?P<digest>\w{8})"
)


def write_parts(file: Path, folder: Path) -> None:
    """Write the parts of a file to ``folder``, then delete the parts of its earlier save."""
    file_bytes, earlier_parts = file.read_bytes(), _parts_of(folder, file.name)
    save_number = 1 + max((int(name_match["save"]) for _, name_match in earlier_parts), default=0)
    sha256_digest = hashlib.sha256(file_bytes).hexdigest()[:8]
    byte_pieces = [
        file_bytes[offset : offset + PART_BYTES] for offset in range(0, len(file_bytes), PART_BYTES)
    ]
    for part_number, byte_piece in enumerate(byte_pieces, 1):
        name = f"{file.name}.{save_number:04d}-{part_number}of{len(byte_pieces)}-{sha256_digest}"
        with atomic_write(folder / name) as temporary_file:
            temporary_file.write_bytes(byte_piece)
    for path, _ in earlier_parts:
        path.unlink()


def join_parts(folder: Path, target: Path) -> list[Path]:
    """Join the parts of the newest complete save of each file.

    Raises:
        EgoXInputError: no save is whole.
    """
    work_files, joined_files = WorkFiles(target), []
    for name, file in ((BASE_FILE, work_files.base), (LORA_FILE, work_files.lora)):
        parts_by_save: dict[str, list[tuple[int, Path]]] = {}
        counts = {}
        for path, name_match in _parts_of(folder, name):
            key = f"{name_match['save']}-{name_match['digest']}"
            parts_by_save.setdefault(key, []).append((int(name_match["number"]), path))
            counts[key] = int(name_match["count"])
        for key in sorted(parts_by_save, reverse=True):
            joined_bytes = b"".join(path.read_bytes() for _, path in sorted(parts_by_save[key]))
            is_intact = hashlib.sha256(joined_bytes).hexdigest()[:8] == key.rpartition("-")[2]
            if len(parts_by_save[key]) == counts[key] and is_intact:
                with atomic_write(file) as temporary_file:
                    temporary_file.write_bytes(joined_bytes)
                joined_files.append(file)
                break
    if not joined_files:
        raise EgoXInputError(
            "parts of weights",
            got=f"no whole save in {folder}",
            expected="files that end in 0001-1of2-… and the like",
            fix="give the folder that --out named",
        )
    return joined_files


def _parts_of(folder: Path, name: str) -> list[tuple[Path, re.Match[str]]]:
    name_matches = ((path, PART_PATTERN.fullmatch(path.name)) for path in folder.glob(f"{name}.*"))
    return [
        (path, name_match)
        for path, name_match in name_matches
        if name_match and name_match["name"] == name
    ]
