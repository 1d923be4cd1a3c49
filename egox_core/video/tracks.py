"""Choose the video track of a container, and read properties of its pictures: rotation,
interlacing, panorama."""

from __future__ import annotations

import re
import struct
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

from .containers import matroska_crop

if TYPE_CHECKING:
    import av

REMARKS: Mapping[str, str] = {
    "tracks": "{} video tracks: the default one, of colour, is read",
    "cut": (
        "{} frames that can't be decoded, such as those before the first whole one, are left out"
    ),
    "end": "the file is cut off: {}. Copy or download it again",
    "interlaced": "interlaced {}: lines of two moments are made one picture (bwdif)",
    "crop": "the container shows {} of the picture, and so do the frames; depth and K are those of "
    "the whole picture",
    "fields": "HEVC {}, of half the height: each is made a picture of its own",
    "gamut": "{} brought to sRGB",
    "matrix": "the file doesn't say how its colours are meant, so they are read as most programs "
    "write them ({}). If greens and reds look a little off, export it again as BT.709",
    "stereo": "stereo 3D, both eyes {}: declare exo.part=left where the video is read (halves that "
    "are one above the other: cut one out first), or exo is a picture of two rooms",
    "dolby": (
        "Dolby Vision profile {}, whose colours only its own players know (here they are green and "
        "purple): export the video as HDR10, HLG or SDR"
    ),
    "sound": "sound in a form that can't be decoded here ({}) is left out",
    "fast": (
        "{} frames a second: unless a high-speed camera recorded it, its times are wrong, as in an "
        "AVI that another file was copied into. Give the frames as images, with images_fps"
    ),
    "panorama": "a picture of {}: if it is a 360 video, cut a plain view out of it first",
}
"""Remark of :class:`.VideoInfo` -> a sentence with its value."""
UNREAD_MATRICES: Mapping[int, str] = {
    **{8: "YCgCo", 10: "BT.2020 of constant luminance", 11: "YDzDx", 14: "ICtCp", 15: "IPT-C2"},
    **{12: "a matrix of its primaries", 13: "one of constant luminance", 16: "YCgCo-Re"},
    17: "YCgCo-Ro",
}
"""By their numbers in H.273: FFmpeg decodes their planes and can't make RGB of them."""
FAST = 300.0
"""Frames a second that phones don't reach."""
HD_LINES = 720
"""From here on cameras have the matrix of BT.709."""
MAX_ASPECT = 16.0
"""Aspect of a pixel, in either direction; more is damage."""
SQUARE_TOLERANCE = 0.005
"""Sample aspect ratios this near to 1 are rounding of the writer (1792/1791 occurs), not another
shape."""
_PANORAMA = re.compile(rb"sv3d.{4}svhd|Spherical(?:>|=\")\s*true", re.DOTALL)
_STEREO: Mapping[int, str] = {
    1: "side by side",
    2: "one above the other",
    3: "in alternate frames",
    4: "as a checkerboard",
    5: "side by side",
    6: "line by line",
    7: "column by column",
}
"""FFmpeg's numbers of layouts, from the codec's frame packing, st3d or Matroska's StereoMode."""
_DOLBY = re.compile(rb"(?:\0\0\0 dv[cvw]C|dv[cvw]C\x41\xed[\x80-\xff])(.{5})", re.DOTALL)
"""The settings of Dolby Vision as a box of MP4, as an element of Matroska."""
_CLEAN_APERTURE = re.compile(rb"\0\0\0\x28clap(.{32})", re.DOTALL)
_DOLBY_ONLY_PROFILES = (5, 10)
"""Profiles whose base layer, where it is compatible with nothing else, has Dolby's own colours."""
_MAX_HEADER, _MAX_BEGINNING = 2**26, 2**16
_NOT_COLOUR_TITLE = re.compile(
    r"\b(alpha|depth|ir|infrared|disparity|confidence|thermal)\b", re.IGNORECASE
)
"""Titles of tracks whose pictures are none of colour."""
_DEFAULT, _COVER = 1, 1024  # bits of a track's disposition


def chosen_track(tracks: Any) -> Any:
    """Choose the container's default track, or return None without any.

    A cover picture is none. Of several, and of a recorder's that are all the default, the colour
    picture is taken, not depth or infrared: by their titles, else a compressed one before a raw
    one; then the largest. A still one beside them, as of an AVIF or HEIF, comes last."""
    return max(
        real_tracks(tracks),
        key=lambda track: (
            track.frames != 1,
            _NOT_COLOUR_TITLE.search(track.metadata.get("title", "")) is None,
            bool(track.disposition & _DEFAULT),
            track.codec_context.name != "rawvideo",
            track.type == "video" and track.codec_context.width * track.codec_context.height,
        ),
        default=None,
    )


def real_tracks(tracks: Any) -> list:
    """Select the tracks that can be decoded and aren't cover pictures."""
    return [
        track
        for track in tracks
        if track.codec_context is not None and not track.disposition & _COVER
    ]


def container_crop(
    source: Any, format_name: str, stream: Any
) -> tuple[int, int, int, int] | None:  # (left, top, width, height), px as coded
    """Read the crop of a track's picture from MP4's clean aperture or Matroska's crop."""
    size = width, height = stream.codec_context.width, stream.codec_context.height
    rectangle = None
    if "mp4" in format_name:
        track = _mp4_header(source).split(b"trak")[1:][stream.index : stream.index + 1]
        box_match = _CLEAN_APERTURE.search(track[0]) if track else None
        values = struct.unpack(">IIIIiIiI", box_match[1]) if box_match else (0,) * 8
        if all(values[1::2]):
            crop_width, crop_height, right_offset, down_offset = (
                numerator / denominator
                for numerator, denominator in zip(values[::2], values[1::2], strict=True)
            )
            rectangle = (
                (width - crop_width) / 2 + right_offset,
                (height - crop_height) / 2 + down_offset,
                crop_width,
                crop_height,
            )
    elif "matroska" in format_name:
        bottom, top, left, right_offset = matroska_crop(_beginning(source), stream.index)
        rectangle = left, top, width - left - right_offset, height - top - bottom
    if rectangle is None:
        return None
    left, top, crop_width, crop_height = map(round, rectangle)
    inside = 0 <= left < left + crop_width <= width and 0 <= top < top + crop_height <= height
    return (
        (left, top, crop_width, crop_height)
        if inside and (crop_width, crop_height) != size
        else None
    )


def shown_part(
    part: tuple[int, int, int, int],  # (left, top, width, height) of a picture as coded
    size: tuple[int, int],  # (width, height) of that picture
    aspect: float,  # of its pixels
    turn: tuple[bool, int, int],  # see display_turn
) -> tuple[int, int, int, int]:
    """Transform a rectangle of the coded picture to the picture as it is shown."""
    transposed, down, right = turn
    left, width, picture_width = (round(length * aspect) for length in (part[0], part[2], size[0]))
    horizontal = (left, width, picture_width)
    vertical = (part[1], part[3], size[1])
    if transposed:
        horizontal, vertical = vertical, horizontal
    (left, width, whole_width), (top, height, whole_height) = horizontal, vertical
    left = whole_width - left - width if right < 0 else left
    top = whole_height - top - height if down < 0 else top
    return left, top, width, height


def codec_letters(source: Any, stream: Any) -> str:
    """Read the four-letter code of a track's codec in an MP4 or MOV, or return "" without one."""
    tracks = _mp4_header(source).split(b"trak")[1:]
    codec_entry = b"".join(tracks[stream.index : stream.index + 1]).partition(b"stsd")[2]
    return codec_entry[12:16].decode("latin-1") if codec_entry[12:16].isalnum() else ""


def unnamed_matrix(container: Any, frame: av.VideoFrame) -> tuple[int, str]:
    """Choose the colour matrix of pictures without a tag, and name it if the choice is uncertain.

    The number is that of H.273, where 2 is FFmpeg's default, BT.601.

    Cameras write HD in BT.709, and libraries without a tag in BT.601."""
    if frame.colorspace != 2 or frame.height < HD_LINES or frame.format.is_rgb:
        return 2, ""
    metadata = {name.lower(): value for name, value in container.metadata.items()}
    if "prompt" in metadata or "workflow" in metadata:  # of the host's own Save Video
        return 2, ""
    return (2, "BT.601") if metadata.get("encoder", "").startswith("Lavf") else (1, "")


def made_safe(stream: Any) -> tuple[int, bool]:
    """Count a sound track's channels, and reset channel names that would crash PyAV.

    It must be asked before the first packet is decoded. PyAV (18) frees the names of such channels
    with every layout that it hands out, of the track's and of each frame: the process ends. So they
    are taken out here, and the channels are those that are usual for their number.
    """
    layout = stream.codec_context.layout
    channels = layout.nb_channels
    has_names = " channels (" in layout.name
    del layout  # which frees them
    if has_names:
        stream.codec_context.layout = f"{channels} channels"
    return channels, has_names


def unknown_sound(container: Any) -> str:
    """Count the sound tracks in words if none can be decoded, or return ""."""
    tracks = container.streams.audio
    return f"{len(tracks)} of {len(tracks)} tracks" if tracks and not real_tracks(tracks) else ""


def display_turn(frame: av.VideoFrame) -> tuple[bool, int, int]:
    """Read a frame's display matrix as a quarter turn, mirrored or not.

    True where rows become columns, then 1 or -1 for the order of the new rows, of the new
    columns.
    """
    display_matrix = _side_data(frame, "DISPLAYMATRIX")
    # x' = a x + c y, y' = b x + d y
    x_from_x, y_from_x, _, x_from_y, y_from_y = (
        struct.unpack("=5i", display_matrix[:20]) if display_matrix else (1, 0, 0, 0, 1)
    )
    is_transposed = abs(x_from_x) + abs(y_from_y) < abs(y_from_x) + abs(x_from_y)
    column_factor, row_factor = (x_from_y, y_from_x) if is_transposed else (x_from_x, y_from_y)
    return is_transposed, -1 if row_factor < 0 else 1, -1 if column_factor < 0 else 1


def pixel_aspect(stream: Any) -> float:
    """Return width / height of a pixel, 1 where the file names none, a rounded or a damaged one."""
    aspect = float(stream.sample_aspect_ratio or 1)
    is_damaged = not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT
    return 1.0 if is_damaged or abs(aspect - 1) < SQUARE_TOLERANCE else aspect


def is_panorama(source: Any, format_name: str, frame: av.VideoFrame) -> bool:
    """Check whether the file declares a panorama."""
    return bool(
        _side_data(frame, "SPHERICAL")
        or ("mp4" in format_name and _PANORAMA.search(_mp4_header(source)))
    )


def stereo_layout(frame: av.VideoFrame, codec: str) -> str:
    """Name the layout of a stereo picture, or return "" for a single picture.

    Spatial video of phones (MV-HEVC) is said to alternate, but one eye alone is decoded."""
    data = _side_data(frame, "STEREO3D")
    layout_number = int.from_bytes(data[:4], sys.byteorder) if data else 0
    return "" if (layout_number, codec) == (3, "hevc") else _STEREO.get(layout_number, "")


def dolby_profile(source: Any, format_name: str) -> str:
    """Name a Dolby Vision profile whose colours can't be converted, or return ""."""
    if "mp4" not in format_name and "matroska" not in format_name:
        return ""
    header = _mp4_header(source) if "mp4" in format_name else _beginning(source)
    dolby_record = _DOLBY.search(header)
    profile, compatible = (
        (dolby_record[1][2] >> 1, dolby_record[1][4] >> 4) if dolby_record else (0, 0)
    )
    return str(profile) if profile in _DOLBY_ONLY_PROFILES and not compatible else ""


def _side_data(frame: av.VideoFrame, name: str) -> bytes | None:
    """Read the side data of a frame by name, or return None without it.

    PyAV keeps a frame of which it was asked until the next collection.
    """
    entries: Any = frame.side_data  # typed as a mapping of its names
    return next((bytes(data) for data in entries if data.type.name == name), None)


def _beginning(source: Any) -> bytes:
    with nullcontext(source) if hasattr(source, "getbuffer") else source.open("rb") as file:
        file.seek(0)
        return file.read(_MAX_BEGINNING)


def _mp4_header(source: Any) -> bytes:
    """Read the box ``moov`` of an MP4, empty without one."""
    with nullcontext(source) if hasattr(source, "getbuffer") else source.open("rb") as file:
        file.seek(0)
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[:4], "big") - 8
            kind = header[4:]
            if size == 1 - 8:
                size = int.from_bytes(file.read(8), "big") - 16
            if not 0 <= size < 2**60:
                break
            if kind == b"moov":
                return file.read(min(size, _MAX_HEADER))
            file.seek(size, 1)
    return b""


def readable_packets(container: Any, stream: Any) -> Iterator[av.Packet]:
    """Yield a stream's packets, skipping what can't be read."""
    import av

    has_read = True
    while has_read:
        has_read = False
        try:
            for packet in container.demux(stream):
                has_read = has_read or bool(packet.size)
                yield packet
            return
        except av.error.FFmpegError:
            continue


def decoded_frames(container: Any, stream: Any, lost: list[av.Packet]) -> Iterator[Any]:
    """Decode a stream's frames, and append packets that can't be decoded to ``lost``."""
    import av

    for packet in readable_packets(container, stream):
        try:
            yield from stream.decode(packet)
        except (av.error.FFmpegError, ValueError):
            lost.append(packet)


def has_single_fields(stream: Any, frame: av.VideoFrame) -> bool:
    """Check whether a stream's pictures are single fields, as only HEVC has them."""
    return frame.interlaced_frame and stream.codec_context.name == "hevc"


def deinterlaced_frames(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """Yield a stream's frames from the current position on, deinterlaced where needed.

    Interlaced frames keep the lines of their first moment and get bwdif's between them. Single
    fields stay as they are.
    """
    from av.filter import Graph

    graph = None
    stamps = deque()
    frames: Iterator[Any] = chain(
        decoded_frames(container, stream, []), (None,)
    )  # which ends the filter
    for frame in frames:
        if (
            graph is None
            and frame
            and frame.interlaced_frame
            and not has_single_fields(stream, frame)
        ):
            graph = Graph()
            bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
            graph.link_nodes(graph.add_buffer(template=stream), bwdif, graph.add("buffersink"))
            graph.configure()
        if graph is None:
            if frame:
                yield frame
            continue
        stamps.append(frame and frame.pts)
        graph.push(frame)
        while True:
            try:
                frame_out: Any = graph.pull()
            except (BlockingIOError, EOFError):
                break
            frame_out.pts = stamps.popleft()
            yield frame_out
