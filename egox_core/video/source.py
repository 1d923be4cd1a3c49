"""Open video files, with FFmpeg's errors as refusals, and mark them to know them again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EgoXInputError
from ..foreign_files import BEGINNING, refuse_codec, refuse_foreign
from .containers import cut_off
from .tracks import chosen_track, codec_letters

if TYPE_CHECKING:
    import av

VideoSource = Path | io.BytesIO
FORMATS = "mov,matroska,avi,mpegts,mpeg,mxf,flv,asf,ogg,gif,h264,hevc,wav,mp3,aac,flac"
"""FFmpeg's readers of files that hold their own data; a playlist would open others, anywhere."""
MARK_BYTES = 64 * 1024
"""Read from either end of a file to tell it from others."""


def video_mark(path: Path | None) -> dict[str, str] | None:
    """Compute a mark that identifies a video file by its first and last bytes.

    It has the names of the folder and file (``video``) and a digest of the first and last bytes and
    their count (``id``).

    A copy or another name changes nothing of the ``id``.
    """
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for start in (0, max(0, size - MARK_BYTES)):
            file.seek(start)
            digest.update(file.read(MARK_BYTES))
    return {"video": "/".join(path.parts[-2:]), "id": digest.hexdigest()[:16]}


@contextmanager
def open_video(source: VideoSource) -> Generator[av.container.InputContainer]:
    """Open a video container for reading, with FFmpeg's errors converted to EgoXInputError.

    Raises:
        EgoXInputError: missing, corrupt, none of FORMATS, no video stream.
    """
    name = video_name(source)
    if isinstance(source, io.BytesIO):
        source.seek(0)
    elif not Path(source).is_file():
        raise EgoXInputError(
            "video file",
            got=f"{name!r}, which is not there",
            expected="a video file",
            fix="check the name and the folder",
        )
    import av  # not above: all else works without

    try:
        with _container(source, name) as container:
            if chosen_track(container.streams.video) is None:
                if undecodable_tracks := [
                    track for track in container.streams.video if track.codec_context is None
                ]:
                    refuse_codec(f"video {name}", codec_letters(source, undecodable_tracks[0]))
                raise EgoXInputError(
                    f"video {name}",
                    got="no video stream",
                    expected="a file with a video track",
                    fix="choose a video; this file may contain only sound and a cover image",
                )
            yield container
    except (av.error.FFmpegError, EOFError) as error:
        if cut_text := cut_off(source):
            raise damaged_error(name, f"a file that is cut off: {cut_text}") from error
        raise _undecodable_error(name, error) from error


def _container(source: VideoSource, name: str) -> av.container.InputContainer:
    """Open a container after checking that its first bytes belong to a video."""
    import av

    with nullcontext(source) if isinstance(source, io.BytesIO) else source.open("rb") as file:
        first_bytes = file.read(BEGINNING)
        file.seek(0)
    if not first_bytes:
        raise damaged_error(name, "an empty file")
    expected = "a container of videos, as mp4, mkv, avi, ts or mxf"
    refuse_foreign(first_bytes, f"video {name}", "a file", expected=expected, video=True)
    try:
        return av.open(
            source if isinstance(source, io.BytesIO) else str(source),
            mode="r",
            options={"format_whitelist": FORMATS},
        )
    except UnicodeDecodeError as error:  # of PyAV, at odd metadata
        raise _undecodable_error(name, error) from error


def _undecodable_error(name: str, error: Exception) -> EgoXInputError:
    reason = getattr(error, "strerror", None) or error  # FFmpeg's text names the path as well
    return damaged_error(name, f"a file that can't be decoded ({reason})")


def damaged_error(name: str, got: str) -> EgoXInputError:
    """Make the error for a video of which a part is missing or can't be read."""
    return EgoXInputError(
        f"video {name}",
        got=got,
        expected="an intact video file",
        fix="copy it again, or re-encode it with ffmpeg",
    )


def video_name(source: VideoSource) -> str:
    """Name a video source for messages."""
    return "in memory" if isinstance(source, io.BytesIO) else Path(source).name
