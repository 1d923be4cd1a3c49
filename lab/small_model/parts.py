"""Split weights into parts of at most 15 MiB, for machines that return small files only. The name
of a part says which save it belongs to."""

import hashlib
import re
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.safe_files import atomic_write

from .files import BASE_FILE, LORA_FILE, WorkFiles

PART_BYTES = 15 * 2**20
PART = re.compile(r"(?P<name>.+)\.(?P<save>\d{4})-(?P<number>\d)of(?P<count>\d)-(?P<digest>\w{8})")


def write_parts(file: Path, folder: Path) -> None:
    """Write the parts of a file to ``folder``, then delete those of its earlier save, so that a
    killed process leaves one complete save."""
    data, earlier = file.read_bytes(), _parts_of(folder, file.name)
    save_number = 1 + max((int(match["save"]) for _, match in earlier), default=0)
    digest = hashlib.sha256(data).hexdigest()[:8]
    pieces = [data[offset : offset + PART_BYTES] for offset in range(0, len(data), PART_BYTES)]
    for number, piece in enumerate(pieces, 1):
        name = f"{file.name}.{save_number:04d}-{number}of{len(pieces)}-{digest}"
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(piece)
    for path, _ in earlier:
        path.unlink()


def join_parts(folder: Path, target: Path) -> list[Path]:
    """Join the newest complete save of each file, at the path below ``target`` that
    :class:`WorkFiles` defines.

    Raises:
        EgoXInputError: no save is whole.
    """
    work_files, joined_files = WorkFiles(target), []
    for name, file in ((BASE_FILE, work_files.base), (LORA_FILE, work_files.lora)):
        saves: dict[str, list[tuple[int, Path]]] = {}
        counts = {}
        for path, match in _parts_of(folder, name):
            key = f"{match['save']}-{match['digest']}"
            saves.setdefault(key, []).append((int(match["number"]), path))
            counts[key] = int(match["count"])
        for key in sorted(saves, reverse=True):
            data = b"".join(path.read_bytes() for _, path in sorted(saves[key]))
            is_intact = hashlib.sha256(data).hexdigest()[:8] == key.rpartition("-")[2]
            if len(saves[key]) == counts[key] and is_intact:
                with atomic_write(file) as temporary:
                    temporary.write_bytes(data)
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
    matches = ((path, PART.fullmatch(path.name)) for path in folder.glob(f"{name}.*"))
    return [(path, match) for path, match in matches if match and match["name"] == name]
