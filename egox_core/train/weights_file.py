"""What identifies a weight file: a short hash of its header and a sample of every tensor, without reading 28 GB."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from ..errors import EgoXInputError
from ..safe_files import refuse_pickled, require_file

SAMPLE_BYTES = 4096
MAX_HEADER_BYTES = 100 * 2**20


def read_header(file: Path, what: str) -> dict:
    """The JSON header of a safetensors file (tensor names, shapes, ``__metadata__``).

    Raises:
        EgoXInputError: missing, pickled, not safetensors, cut off.
    """
    refuse_pickled(file, what)
    size = require_file(file, what).stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("header longer than the file")
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if ends and 8 + length + max(ends) > size:
            raise ValueError("tensor data cut off")
        return header
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise EgoXInputError(what, got=f"{file.name!r}, which is no whole safetensors file ({error})",
                             expected="a .safetensors file", fix="download it again") from error


def weights_hash(path: Path, what: str = "weights") -> str:
    """16 hex digits that change with any tensor's name, shape or beginning. A folder: of all its weight files.

    Raises:
        EgoXInputError: nothing there, or no safetensors.
    """
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise EgoXInputError(what, got=f"{path.name!r} without .safetensors files", expected="weights",
                             fix="give a diffusers folder or a single file")
    digest = hashlib.sha256()
    for file in files:
        header = read_header(file, what)
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            for name in sorted(header):
                if name == "__metadata__":
                    continue
                entry = header[name]
                digest.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode())
                begin, end = entry["data_offsets"]
                stream.seek(8 + length + begin)
                digest.update(stream.read(min(SAMPLE_BYTES, end - begin)))
    return digest.hexdigest()[:16]


def file_metadata(file: Path, what: str) -> dict[str, str]:
    """The ``__metadata__`` of a safetensors file."""
    return dict(read_header(file, what).get("__metadata__") or {})
