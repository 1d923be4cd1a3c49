"""The boxes by which an mp4 says that it holds two eyes, and half a sphere: st3d and sv3d.

Layout: Google's spherical-video-v2 RFC. Numbers are big-endian; a box is its size, four letters and
its content.
"""

import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ..errors import EgoXInputError
from ..safe_files import atomic_write

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
PICTURES = (b"avc1", b"avc3", b"hvc1", b"hev1", b"av01", b"vp09", b"mp4v")
PIECE = 2**20
WIDE = 2**32
"""Length from which on places need 64 bits."""
QUARTER = 2**30
"""Share of the panorama's width, of 2^32, that half a sphere leaves out at each side."""


def mark_stereo(path: Path, *, half_sphere: bool) -> None:
    """Mark an mp4 as left and right eye side by side; its index comes to the front.

    The file is written anew, whole or not at all; pictures and sound stay as they are.

    Raises:
        EgoXInputError: no mp4 with one index.
    """
    marks = _box(b"st3d", bytes(4) + b"\x02")
    if half_sphere:
        bounds = _box(b"equi", struct.pack(">5I", 0, 0, 0, QUARTER, QUARTER))
        projection = _box(b"proj", _box(b"prhd", bytes(16)) + bounds)
        marks += _box(b"sv3d", _box(b"svhd", bytes(4) + b"EgoX\0") + projection)
    with atomic_write(path) as temporary:
        with path.open("rb") as source, temporary.open("wb") as target:
            length = path.stat().st_size
            parts = list(_boxes(source, length))
            index = [part for part in parts if part[0] == b"moov"]
            if len(index) != 1 or any(kind == b"moof" for kind, *_ in parts):
                raise EgoXInputError(
                    "video to mark",
                    got=f"{path.name!r}, without one index for all of it",
                    expected="an mp4",
                    fix="write it as an mp4 in one piece",
                )
            parts.remove(index[0])
            _, begin, head, size = index[0]
            content = _read(source, begin + head, size - head)
            wide = length + size + len(marks) >= WIDE
            place = parts[0][3] + len(_index(content, marks, wide, int))  # behind ftyp
            ways = []
            for _, begin, _, size in parts[1:]:
                ways.append((begin, begin + size, place - begin))
                place += size

            def moved(offset: int) -> int:
                return offset + next(way for low, high, way in ways if low <= offset < high)

            for number, (_, begin, _, size) in enumerate(parts):
                for done in range(0, size, PIECE):
                    target.write(_read(source, begin + done, min(PIECE, size - done)))
                if number == 0:
                    target.write(_index(content, marks, wide, moved))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _read(source: BinaryIO, begin: int, size: int) -> bytes:
    source.seek(begin)
    return source.read(size)


def _boxes(source: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(letters, begin, length of the header, whole size) of boxes one after the other."""
    begin = 0
    while begin + 8 <= end:
        start = _read(source, begin, 16).ljust(16, b"\0")
        size, kind, large = struct.unpack(">I4sQ", start)
        head = 16 if size == 1 else 8
        size = {0: end - begin, 1: large}.get(size, size)
        yield kind, begin, head, size
        begin += max(size, head)


def _index(content: bytes, marks: bytes, wide: bool, moved: Callable[[int], int]) -> bytes:
    """The index with marks at its pictures, and with the places that its chunks move to."""

    def rebuilt(kind: bytes, content: bytes) -> bytes:
        first = 8 if kind == b"stsd" else 0  # of the boxes in it
        if kind in PARENTS or first:
            inner = BytesIO(content[first:])
            boxes = [
                rebuilt(each, _read(inner, begin + head, size - head))
                for each, begin, head, size in _boxes(inner, len(content) - first)
            ]
            content = content[:first] + b"".join(boxes)
        elif kind in PICTURES:
            content += marks
        elif kind in (b"stco", b"co64"):
            form = ">Q" if kind == b"co64" else ">I"
            places = [moved(place) for (place,) in struct.iter_unpack(form, content[8:])]
            kind, form = (b"co64", ">Q") if wide else (kind, form)
            content = content[:8] + b"".join(struct.pack(form, place) for place in places)
        return _box(kind, content)

    return rebuilt(b"moov", content)
