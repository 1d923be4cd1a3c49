"""The boxes by which an mp4 says that it holds two eyes, and half a sphere: st3d and sv3d.

Layout: Google's spherical-video-v2 RFC. Numbers are big-endian; a box is its size, four letters and
its content.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import EgoXInputError
from ..safe_files import atomic_write

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
PICTURES = (b"avc1", b"avc3", b"hvc1", b"hev1", b"av01", b"vp09", b"mp4v")
QUARTER = 2**30
"""Share of the panorama's width, of 2^32, that half a sphere leaves out at each side."""


def mark_stereo(path: Path, *, half_sphere: bool) -> None:
    """Mark an mp4 as left and right eye side by side, and put its index first.

    The file is written anew, whole or not at all; pictures and sound stay as they are.

    Raises:
        EgoXInputError: no mp4 with one index.
    """
    marks = _box(b"st3d", bytes(4) + b"\x02")
    if half_sphere:
        bounds = _box(b"equi", struct.pack(">5I", 0, 0, 0, QUARTER, QUARTER))
        projection = _box(b"proj", _box(b"prhd", bytes(16)) + bounds)
        marks += _box(b"sv3d", _box(b"svhd", bytes(4) + b"EgoX\0") + projection)
    with (
        atomic_write(path) as temporary,
        path.open("rb") as source,
        mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data,
        temporary.open("wb") as target,
    ):
        boxes = list(_boxes(data))
        kinds = [kind for kind, *_ in boxes]
        if kinds[:1] != [b"ftyp"] or kinds.count(b"moov") != 1 or b"moof" in kinds:
            raise EgoXInputError(
                "video to mark",
                got=f"{path.name!r}, without one index for all of it",
                expected="an mp4",
                fix="write it as an mp4 in one piece",
            )
        _, begin, body, end = boxes.pop(kinds.index(b"moov"))
        size = len(_index(data[body:end], marks, int))
        index = _index(
            data[body:end], marks, lambda place: place + size - (place > begin) * (end - begin)
        )
        for kind, first, _, last in boxes:
            target.write(memoryview(data)[first:last])
            if kind == b"ftyp":
                target.write(index)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _boxes(data: bytes | mmap.mmap) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (letters, begin, begin of the content, end) of each box in turn."""
    begin = 0
    while begin + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, begin)
        body = begin + 8
        if size == 1:
            body += 8
            size = int.from_bytes(data[body - 8 : body], "big")
        end = begin + max(size, 8) if size else len(data)
        yield kind, begin, body, end
        begin = end


def _index(content: bytes, marks: bytes, moved: Callable[[int], int]) -> bytes:
    """Rewrite the index with marks at its pictures, and with the places that its chunks move to.

    Places get 64 bits, since a file may grow past 4 GiB by it.
    """

    def rebuilt(kind: bytes, content: bytes) -> bytes:
        first = 8 if kind == b"stsd" else 0  # of the boxes in it
        if kind in PARENTS or first:
            inner = content[first:]
            boxes = [rebuilt(box_kind, inner[body:end]) for box_kind, _, body, end in _boxes(inner)]
            content = content[:first] + b"".join(boxes)
        elif kind in PICTURES:
            content += marks
        elif kind in (b"stco", b"co64"):
            form = ">Q" if kind == b"co64" else ">I"
            places = [moved(place) for (place,) in struct.iter_unpack(form, content[8:])]
            kind, content = b"co64", content[:8] + struct.pack(f">{len(places)}Q", *places)
        return _box(kind, content)

    return rebuilt(b"moov", content)
