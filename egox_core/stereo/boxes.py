"""Write the mp4 boxes that declare stereo video and a half sphere: st3d and sv3d.

Layout: Google's spherical-video-v2 RFC. Numbers are big-endian; a box is its size, four letters and
its content.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import EgoXInputError
from ..safe_files import atomic_write

PARENT_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
PICTURE_BOXES = (b"avc1", b"avc3", b"hvc1", b"hev1", b"av01", b"vp09", b"mp4v")
QUARTER = 2**30
"""Share of the panorama's width, of 2^32, that half a sphere leaves out at each side."""


def mark_stereo(path: Path, *, half_sphere: bool) -> None:
    """Mark an mp4 as side-by-side stereo, and move its index to the beginning of the file.

    The file is written anew, whole or not at all; pictures and sound stay as they are.

    Raises:
        EgoXInputError: no mp4 with one index.
    """
    st3d_box = _make_box(b"st3d", bytes(4) + b"\x02")
    if half_sphere:
        equi_box = _make_box(b"equi", struct.pack(">5I", 0, 0, 0, QUARTER, QUARTER))
        projection = _make_box(b"proj", _make_box(b"prhd", bytes(16)) + equi_box)
        st3d_box += _make_box(b"sv3d", _make_box(b"svhd", bytes(4) + b"EgoX\0") + projection)
    with (
        atomic_write(path) as temporary,
        path.open("rb") as source,
        mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mp4_bytes,
        temporary.open("wb") as target,
    ):
        boxes = list(_boxes(mp4_bytes))
        box_types = [kind for kind, *_ in boxes]
        if box_types[:1] != [b"ftyp"] or box_types.count(b"moov") != 1 or b"moof" in box_types:
            raise EgoXInputError(
                "video to mark",
                got=f"{path.name!r}, without one index for all of it",
                expected="an mp4",
                fix="write it as an mp4 in one piece",
            )
        _, index_begin, index_body, index_end = boxes.pop(box_types.index(b"moov"))
        index_size = len(_rewrite_index(mp4_bytes[index_body:index_end], st3d_box, int))
        index = _rewrite_index(
            mp4_bytes[index_body:index_end],
            st3d_box,
            lambda offset: offset + index_size - (offset > index_begin) * (index_end - index_begin),
        )
        for kind, box_begin, _, box_end in boxes:
            target.write(memoryview(mp4_bytes)[box_begin:box_end])
            if kind == b"ftyp":
                target.write(index)


def _make_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _boxes(data: bytes | mmap.mmap) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (type, begin, begin of the content, end) of each box in an mp4."""
    begin = 0
    while begin + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, begin)
        content_begin = begin + 8
        if size == 1:
            content_begin += 8
            size = int.from_bytes(data[content_begin - 8 : content_begin], "big")
        end = begin + max(size, 8) if size else len(data)
        yield kind, begin, content_begin, end
        begin = end


def _rewrite_index(content: bytes, marks: bytes, moved_offset: Callable[[int], int]) -> bytes:
    """Rewrite the mp4 index with stereo marks, and with the new offsets of its chunks.

    Places get 64 bits, since a file may grow past 4 GiB by it.
    """

    def rebuild_box(kind: bytes, content: bytes) -> bytes:
        header_bytes = 8 if kind == b"stsd" else 0  # of the boxes in it
        if kind in PARENT_BOXES or header_bytes:
            inner_boxes = content[header_bytes:]
            boxes = [
                rebuild_box(box_kind, inner_boxes[content_begin:end])
                for box_kind, _, content_begin, end in _boxes(inner_boxes)
            ]
            content = content[:header_bytes] + b"".join(boxes)
        elif kind in PICTURE_BOXES:
            content += marks
        elif kind in (b"stco", b"co64"):
            number_format = ">Q" if kind == b"co64" else ">I"
            offsets = [
                moved_offset(offset) for (offset,) in struct.iter_unpack(number_format, content[8:])
            ]
            kind = b"co64"
            content = content[:8] + struct.pack(f">{len(offsets)}Q", *offsets)
        return _make_box(kind, content)

    return rebuild_box(b"moov", content)
