"""Parse video containers for facts that FFmpeg doesn't report: whether a file is complete, and its
crop.

Whether a file is whole, by the length that it has by itself (of TS, and of a stream that was saved
as it came, nothing can tell), and Matroska's crop.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

_BOXES = (
    *(b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"uuid", b"meta"),
    *(b"mfra", b"sidx", b"pdin", b"pnot", b"prft", b"emsg", b"udta"),
)
"""What an MP4 or MOV consists of."""
_NEEDED_BOXES = (b"mdat", b"moov", b"moof")
_EBML, _SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_CROP = 0x54AA, 0x54BB, 0x54CC, 0x54DD  # bottom, top, left, right
_DISCARDED = 2  # flag of an entry of FFmpeg's index: cut away by an edit list


def cut_off(source: Path | io.BytesIO) -> str:
    """Describe what an incomplete file still contains, or return "" for a complete file."""
    with _open_bytes(source) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        first_bytes = file.read(12)
        file.seek(0)
        full_size = 0
        if first_bytes[4:8] in _BOXES:
            boxes = dict(_boxes(file))
            if b"mdat" in boxes and not boxes.keys() & {b"moov", b"moof"}:
                return "its index (moov) is missing"
            full_size = max(
                (end for kind, end in boxes.items() if kind in _NEEDED_BOXES), default=0
            )
        elif first_bytes[:4] == b"RIFF" and first_bytes[8:] == b"AVI ":
            full_size = _riff_length(file, size)
        elif int.from_bytes(first_bytes[:4], "big") == _EBML:
            full_size = _matroska_length(file)
    return f"{size / 1e6:.3g} of {full_size / 1e6:.3g} MB are there" if full_size > size + 1 else ""


def frames_of_index(stream: Any, size: int) -> int:
    """Count the frames in an MP4's index if the file was cut off, or return 0."""
    entries = [entry for entry in stream.index_entries if not entry.flags & _DISCARDED]
    return len(entries) if any(entry.pos + entry.size > size for entry in entries) else 0


def _open_bytes(source: Path | io.BytesIO) -> AbstractContextManager[IO[bytes]]:
    return nullcontext(source) if isinstance(source, io.BytesIO) else source.open("rb")


def _boxes(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield the type and the end position of each top-level box in an MP4."""
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        kind = header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:], "big")
        if kind not in _BOXES or (length < 8 and length != 0):
            return
        yield kind, (offset := offset + length) if length else 0
        if not length:
            return


def _riff_length(file: IO[bytes], size: int) -> int:
    """Read the length of a RIFF file from its headers."""
    end = 0
    while end < size:
        file.seek(end)
        header = file.read(8)
        content_length = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or content_length in (0, 2**32 - 1):  # not closed
            break
        end += 8 + content_length + content_length % 2
    return end


def _matroska_length(file: IO[bytes]) -> int:
    """Read the length of a Matroska file in bytes from its header, or return 0 if it is unknown."""
    end_of_element = {name: end for name, _, end in _matroska_elements(file)}
    return end_of_element.get(_SEGMENT) or 0


def matroska_crop(
    beginning: bytes, number: int
) -> tuple[int, int, int, int]:  # px: bottom, top, left, right
    """Read the margins that a Matroska file crops from a track's pictures."""
    file = io.BytesIO(beginning)
    ranges = [(0, len(beginning))]
    for names in ((_SEGMENT,), (_TRACKS,), (_TRACK,), (_VIDEO,)):
        ranges = [
            (start, end or len(beginning))
            for byte_range in ranges
            for name, start, end in _matroska_elements(file, *byte_range)
            if name in names
        ]
        if names == (_TRACK,):
            ranges = ranges[number : number + 1]
    crop = dict.fromkeys(_CROP, 0)
    for byte_range in ranges:
        for name, start, end in _matroska_elements(file, *byte_range):
            if name in crop:
                crop[name] = int.from_bytes(beginning[start:end], "big")
    bottom, top, left, right = crop.values()
    return bottom, top, left, right


def _matroska_elements(
    file: IO[bytes], offset: int = 0, stop: int | None = None
) -> Iterator[tuple[int, int, int | None]]:
    """Yield name, start and end of each element in a part of a Matroska file."""
    while stop is None or offset < stop:
        file.seek(offset)
        name = _variable_integer(file, keep_length_bits=True)
        length = _variable_integer(file)
        if name is None:
            return
        start = file.tell()
        yield name, start, None if length is None else start + length
        if length is None or name == _SEGMENT:
            return
        offset = start + length


def _variable_integer(file: IO[bytes], keep_length_bits: bool = False) -> int | None:
    """Read a variable-length integer of a Matroska file, or return None if it is unknown."""
    first_byte = file.read(1)
    if not first_byte or not first_byte[0]:
        return None
    more_bytes = 8 - first_byte[0].bit_length()
    value = int.from_bytes(first_byte + file.read(more_bytes), "big")
    value_bits = value & ((1 << 7 * (more_bytes + 1)) - 1)
    if keep_length_bits:
        return value
    return None if value_bits == (1 << 7 * (more_bytes + 1)) - 1 else value_bits
