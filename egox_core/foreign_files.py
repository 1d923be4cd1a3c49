"""Recognise files of unsupported kinds by their first bytes, and say how to convert them.

To add a kind: a row of :data:`FOREIGN`, or of :data:`CODECS` for a form of pictures in a container
that is read."""

import re
from typing import NamedTuple

from .errors import EgoXInputError

BEGINNING = 4096
"""Bytes that tell a kind; some have their mark at the end of a block."""


class ForeignFile(NamedTuple):
    """Unsupported kind of file, with the advice for it."""

    words: str
    begins: bytes  # pattern of its first bytes
    fix: str
    of_pictures: bool = False  # other doors than the video's may read it


AGAIN = "open its page in a browser, accept what it asks for, and download the file itself"
UNPACK = "unpack it, and give the file in it"
TO_MP4 = "convert it to mp4, for instance with ffmpeg"
FROM_BAG = (
    "export the camera's stream as mp4 (foxglove, ros2 bag, or the camera's own converter), its \
depth as 16-bit PNG or npz"
)
AS_TABLE = "export its arrays as npz: depth as depth_m, z depth in metres"
FOREIGN = (
    # what a download left in place of the file
    ForeignFile(
        "a Git LFS pointer",
        rb"version https://(git-lfs|hawser)",
        "run git lfs pull in its folder, or download the file itself",
    ),
    ForeignFile(
        "a git-annex pointer",
        rb"(\.\./)*(\.git)?/annex/objects/",
        "run git annex get on it, or download the file itself",
    ),
    ForeignFile("a web page", rb"(\xef\xbb\xbf)?\s*(?i:<!doctype html|<html|<head|<script)", AGAIN),
    ForeignFile(
        "XML (a server's message, or a project of another program)",
        rb"(\xef\xbb\xbf)?\s*<[?!a-zA-Z]",
        "download the file itself, or export it as a form that is read here",
    ),
    ForeignFile(
        "a ._ file of macOS (attributes of the file without ._)",
        rb"\0\x05\x16[\0\x07]\0",
        "give the file without ._ in its name",
    ),
    ForeignFile(
        "a property list of macOS (perhaps a file that is still in iCloud)",
        rb"bplist00",
        "download it in Finder, and give the file itself",
    ),
    # recordings of cameras and robots
    ForeignFile(
        "an MCAP recording (ROS 2, or SVO2 of a ZED camera)",
        rb"\x89MCAP0\r\n",
        "export mp4 and depth: of SVO2 by ZED_SVO_Editor or the SDK's SVO export, else " + FROM_BAG,
    ),
    ForeignFile("a rosbag (ROS 1, or a RealSense recording)", rb"#ROSBAG V", FROM_BAG),
    ForeignFile("an SQLite data base (perhaps a rosbag of ROS 2)", rb"SQLite format 3\0", FROM_BAG),
    ForeignFile(
        "a VRS recording (Project Aria)",
        rb"VisionRe",
        (
            "export the camera's stream as mp4 (vrs_to_mp4 of projectaria_tools), its poses as CSV "
            "or json"
        ),
    ),
    ForeignFile(
        "a RED camera's R3D", rb".{4}RED[12]", "export ProRes or H.264 from REDCINE-X or Resolve"
    ),
    ForeignFile("RealMedia", rb"\.RMF", TO_MP4),
    # arrays and scenes of other programs
    ForeignFile("HDF5", rb"\x89HDF\r\n\x1a\n", AS_TABLE),
    ForeignFile("a PLY (points or a splat)", rb"ply\r?\n", "give depth maps, one per frame"),
    ForeignFile(
        "a Blender file", rb"BLENDER", "export the camera as transforms.json or .chan from Blender"
    ),
    ForeignFile(
        "an FBX scene",
        rb"Kaydara FBX|; FBX ",
        "open it in Blender, and export the camera as transforms.json or .chan",
    ),
    ForeignFile(
        "a USD scene",
        rb"PXR-USDC|#usda ",
        "open it in Blender, and export the camera as transforms.json or .chan",
    ),
    ForeignFile("a PDF", rb"%PDF-", "give the file that belongs here"),
    # archives that aren't unpacked
    ForeignFile("a 7z archive", rb"7z\xbc\xaf\x27\x1c", UNPACK),
    ForeignFile("a RAR archive", rb"Rar!\x1a\x07", UNPACK),
    ForeignFile("a gzip archive", rb"\x1f\x8b\x08", UNPACK),
    ForeignFile("an xz archive", rb"\xfd7zXZ\0", UNPACK),
    ForeignFile("a zstd archive", rb"\x28\xb5\x2f\xfd", UNPACK),
    ForeignFile("a tar archive", rb".{257}ustar", UNPACK),
    # pictures that move or stand, which the reader of videos doesn't take
    ForeignFile("a WebP", rb"RIFF.{4}WEBP", TO_MP4, True),
    ForeignFile("a PNG, animated or not", rb".PNG", TO_MP4, True),
    ForeignFile("a JPEG", rb"\xff\xd8\xff", "give the video, or its frames as images", True),
    ForeignFile(
        "an EXR", rb"\x76\x2f\x31\x01", "give the video: EXR files are read as depth", True
    ),
    ForeignFile("a y4m (pictures that aren't packed)", rb"YUV4MPEG2", TO_MP4, True),
    ForeignFile("an IVF", rb"DKIF", TO_MP4, True),
    ForeignFile("a NUT", rb"nut/multimedia container", TO_MP4, True),
    ForeignFile("a DV stream of a camcorder", rb"\x1f\x07\0[\x3f\xbf]", TO_MP4, True),
    ForeignFile("a zip archive", rb"PK\x03\x04", UNPACK, True),
    ForeignFile("numpy's arrays", rb"\x93NUMPY", "give it as depth; here belongs the video", True),
    ForeignFile("a text, no video", rb"[\t\n\f\r -\xff]+\Z", "choose the video", True),
)
CODECS: tuple[ForeignFile, ...] = (
    ForeignFile(
        "pictures that are encrypted",
        rb"enc[vam]|drm[is]|p608",
        "export it without protection from the program that plays it",
    ),
    ForeignFile(
        "Blackmagic RAW", rb"br[xshv][qtnwv0-9]", "export ProRes or H.264 from DaVinci Resolve"
    ),
    ForeignFile(
        "ProRes RAW",
        rb"apr[nh]",
        "export ProRes 422 or H.264 from Final Cut, Compressor or Premiere",
    ),
    ForeignFile("Canon's RAW", rb"CRAW", "export ProRes or H.264 from Cinema RAW Development"),
)
"""Forms of pictures, by their container's four letters, that can't be decoded here."""
OTHER_CODEC = "re-encode it as H.264, with the program that wrote it or a newer ffmpeg"


def foreign_file(start: bytes, *, video: bool = False) -> ForeignFile | None:
    """Find the unsupported kind of a file that begins with ``start``, or None for a supported
    one."""
    return next(
        (
            kind
            for kind in FOREIGN
            if (video or not kind.of_pictures) and re.match(kind.begins, start, re.DOTALL)
        ),
        None,
    )


def refuse_foreign(
    start: bytes, label: str, name: str, *, expected: str = "the file itself", video: bool = False
) -> None:
    """Refuse a file of an unsupported kind, recognised by its first bytes.

    Raises:
        EgoXInputError: it is one of :data:`FOREIGN`.
    """
    kind = foreign_file(start, video=video)
    if kind is not None:
        raise EgoXInputError(label, got=f"{name}, {kind.words}", expected=expected, fix=kind.fix)


def is_unsupported_codec(letters: str) -> bool:
    """Check whether a container's four-letter code is that of an unsupported codec."""
    return any(re.match(kind.begins, letters.encode()) for kind in CODECS)


def refuse_codec(label: str, letters: str) -> None:
    """Refuse a video codec that FFmpeg can't decode, given its four-letter code or FFmpeg's name
    for it.

    Raises:
        EgoXInputError: always.
    """
    kind = next((kind for kind in CODECS if re.match(kind.begins, letters.encode())), None)
    raise EgoXInputError(
        label,
        got=f"{kind.words} ({letters})"
        if kind
        else f"a codec that FFmpeg lacks ({letters or '?'})",
        expected="pictures that FFmpeg decodes, as H.264, HEVC, AV1, VP9 or ProRes",
        fix=kind.fix if kind else OTHER_CODEC,
    )
