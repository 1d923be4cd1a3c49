"""The boxes by which an mp4 says that it holds two eyes, and half a sphere: st3d and sv3d.

Layout: Google's spherical-video-v2 RFC. Numbers are big-endian; a box is its size, four letters and
its content."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import EgoXInputError
from ..safe_files import atomic_write

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
VIDEO = (b"avc1", b"avc3", b"hvc1", b"hev1", b"av01", b"vp09", b"mp4v")
DECODERS = (b"avcC", b"hvcC", b"av1C", b"vpcC", b"esds")
ENTRY = 78
"""Bytes of a picture's description before the boxes in it."""
PIECE = 2**20
WIDE = 2**32
"""Length from which on places need 64 bits."""
QUARTER = 0x40000000
"""Share of the panorama's width, of 2^32, that half a sphere leaves out at each side."""


def mark_stereo(path: Path, *, half_sphere: bool) -> None:
    """Mark an mp4 as left and right eye side by side; its index comes to the front.

    The file is written anew, whole or not at all; pictures and sound stay as they are.

    Raises:
        EgoXInputError: no mp4 with an index.
    """
    marks = _box(b"st3d", bytes(4) + b"\x02")
    if half_sphere:
        head = _box(b"svhd", bytes(4) + b"EgoX\0")
        bounds = _box(b"equi", struct.pack(">5I", 0, 0, 0, QUARTER, QUARTER))
        projection = _box(b"proj", _box(b"prhd", bytes(16)) + bounds)
        marks += _box(b"sv3d", head + projection)
    with atomic_write(path) as temporary:
        with path.open("rb") as source, temporary.open("wb") as target:
            total = path.stat().st_size
            parts = list(_top_level(source, total))
            kinds = [kind for kind, *_ in parts]
            if kinds[:1] != [b"ftyp"] or kinds.count(b"moov") != 1 or b"moof" in kinds:
                raise EgoXInputError(
                    "video to mark",
                    got=f"{path.name!r}, without one index for all of it",
                    expected="an mp4",
                    fix="write it as an mp4 in one piece",
                )
            (_, begin, head, size) = parts.pop(kinds.index(b"moov"))
            source.seek(begin + head)
            content = source.read(size - head)
            wide = total + len(content) + len(marks) >= WIDE
            length = len(_index(content, marks, wide, lambda offset: offset))
            ways, place = [], 0
            for number, (_, begin, _, size) in enumerate(parts):
                ways.append((begin, begin + size, place - begin))
                place += size + (length if number == 0 else 0)

            def moved(offset: int) -> int:
                return offset + next(way for low, high, way in ways if low <= offset < high)

            for number, (_, begin, _, size) in enumerate(parts):
                source.seek(begin)
                for done in range(0, size, PIECE):
                    target.write(source.read(min(PIECE, size - done)))
                if number == 0:
                    target.write(_index(content, marks, wide, moved))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _top_level(source: BinaryIO, total: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(letters, begin, length of the header, whole size) of the boxes of a file."""
    begin = 0
    while begin + 8 <= total:
        source.seek(begin)
        size, kind, large = struct.unpack(">I4sQ", source.read(16).ljust(16, b"\0"))
        head = 16 if size == 1 else 8
        size = {0: total - begin, 1: large}.get(size, size)
        if size < head or begin + size > total:
            return
        yield kind, begin, head, size
        begin += size


def _inner(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(letters, content) of the boxes in a box."""
    begin = 0
    while begin + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, begin)
        yield kind, content[begin + 8 : begin + size]
        begin += max(size, 8)


def _index(content: bytes, marks: bytes, wide: bool, moved: Callable[[int], int]) -> bytes:
    """The index with marks at its pictures, and with the places that its chunks move to."""

    def rebuilt(kind: bytes, content: bytes) -> bytes:
        if kind in PARENTS:
            content = b"".join(rebuilt(*box) for box in _inner(content))
        elif kind == b"stsd":
            entries = (_entry(*box, marks) for box in _inner(content[8:]))
            content = content[:8] + b"".join(entries)
        elif kind in (b"stco", b"co64"):
            letter = "Q" if kind == b"co64" else "I"
            count = struct.unpack_from(">I", content, 4)[0]
            places = map(moved, struct.unpack_from(f">{count}{letter}", content, 8))
            kind, letter = (b"co64", "Q") if wide else (kind, letter)
            content = content[:8] + struct.pack(f">{count}{letter}", *places)
        return _box(kind, content)

    return rebuilt(b"moov", content)


def _entry(kind: bytes, content: bytes, marks: bytes) -> bytes:
    """A track's description; of pictures with the marks behind what the decoder needs."""
    if kind in VIDEO:
        inner = [box for box in _inner(content[ENTRY:]) if box[0] not in (b"st3d", b"sv3d")]
        inner.sort(key=lambda box: box[0] not in DECODERS)
        boxes = [_box(*box) for box in inner]
        content = content[:ENTRY] + b"".join((*boxes[:1], marks, *boxes[1:]))
    return _box(kind, content)
