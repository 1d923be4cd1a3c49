"""Read video files: their properties, and single frames by index without decoding all.

A frame's index counts presentation order from 0. Sizes are those of the picture as it is shown:
turned as the file says, with square pixels. A video that is in memory as frames goes through the
same two steps; :func:`memory_info` is what :func:`probe_video` is for a file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from ..arrays import as_tensor, rectangle
from ..errors import EgoXInputError
from ..foreign_files import BEGINNING, is_unsupported_codec, refuse_codec, refuse_foreign
from ..frame_store import store_frames
from ..frames import UNTIMED_FPS
from ..progress import Progress, no_progress
from ..types import FrameSelection
from .containers import cut_off, frames_of_index
from .hdr import GAMMAS, GAMUTS, TRANSFERS, sdr_picture
from .selection import VideoInfo
from .timing import frame_rate, joined_times
from .tracks import (
    FAST,
    UNREAD_MATRICES,
    chosen_track,
    codec_letters,
    container_crop,
    decoded_frames,
    deinterlaced_frames,
    display_turn,
    dolby_profile,
    has_single_fields,
    is_panorama,
    readable_packets,
    real_tracks,
    shown_part,
    stereo_layout,
    unknown_sound,
    unnamed_matrix,
)

if TYPE_CHECKING:
    import av

VideoSource = Path | io.BytesIO
FORMATS = "mov,matroska,avi,mpegts,mpeg,mxf,flv,asf,ogg,gif,h264,hevc,wav,mp3,aac,flac"
"""FFmpeg's readers of files that hold their own data; a playlist would open others, anywhere."""
MAX_ASPECT = 16.0
"""Aspect of a pixel, in either direction; more is damage."""
SQUARE_TOLERANCE = 0.005
"""Sample aspect ratios this near to 1 are rounding of the writer (1792/1791 occurs), not another
shape."""
CHECKED_FRAMES = 3
"""Frames decoded at the beginning, to see whether they are stamped as their packets are."""
MARK_BYTES = 64 * 1024
"""Read from either end of a file to tell it from others."""
MAX_PROBED = 16
_PROBED: dict[tuple[Path, int, int], VideoInfo] = {}  # by file, size and time of change
SEEK_GAP = 8
"""Frames: decoding up to so many unneeded ones is cheaper than a seek."""


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
            raise _damaged(name, f"a file that is cut off: {cut_text}") from error
        raise _undecodable(name, error) from error


def _container(source: VideoSource, name: str) -> av.container.InputContainer:
    """Open a container after checking that its first bytes belong to a video."""
    import av

    with nullcontext(source) if isinstance(source, io.BytesIO) else source.open("rb") as file:
        first_bytes = file.read(BEGINNING)
        file.seek(0)
    expected = "a container of videos, as mp4, mkv, avi, ts or mxf"
    refuse_foreign(first_bytes, f"video {name}", "a file", expected=expected, video=True)
    try:
        return av.open(
            source if isinstance(source, io.BytesIO) else str(source),
            mode="r",
            options={"format_whitelist": FORMATS},
        )
    except UnicodeDecodeError as error:  # of PyAV, at odd metadata
        raise _undecodable(name, error) from error


def _undecodable(name: str, error: Exception) -> EgoXInputError:
    reason = getattr(error, "strerror", None) or error  # FFmpeg's text names the path as well
    return _damaged(name, f"a file that can't be decoded ({reason})")


def _damaged(name: str, got: str) -> EgoXInputError:
    return EgoXInputError(
        f"video {name}",
        got=got,
        expected="an intact video file",
        fix="copy it again, or re-encode it with ffmpeg",
    )


def video_name(source: VideoSource) -> str:
    """Name a video source for messages."""
    return "in memory" if isinstance(source, io.BytesIO) else Path(source).name


def probe_video(source: VideoSource, progress: Progress = no_progress) -> VideoInfo:
    """Read size, rate and time stamps of a video, cached until the file changes.

    Packets are listed, and only the first frames are decoded; all of them once, where the packets'
    stamps aren't those of the frames that come out.

    Raises:
        EgoXInputError: missing, corrupt, no video stream, no frames, a 360 video.
    """
    if isinstance(source, io.BytesIO) or not source.is_file():
        return _probe(source, progress)
    file_status = source.stat()
    cache_key = source, file_status.st_size, file_status.st_mtime_ns
    info = _PROBED.pop(cache_key, None) or _probe(source, progress)  # the latest used comes last
    _PROBED[cache_key] = info
    if len(_PROBED) > MAX_PROBED:
        _PROBED.pop(next(iter(_PROBED)), None)  # another thread may have been here
    return info


def _probe(source: VideoSource, progress: Progress) -> VideoInfo:
    name = video_name(source)
    with open_video(source) as container:  # opened twice: bare streams can't be rewound
        stream = chosen_track(container.streams.video)
        first_frames = list(islice(decoded_frames(container, stream, []), CHECKED_FRAMES))
        reorders = bool(stream.codec_context.has_b_frames)
    with open_video(source) as container:
        stream = chosen_track(container.streams.video)
        packets = [
            (p.pts, bool(p.is_keyframe))
            for p in readable_packets(container, stream)
            if p.size and not p.is_discard
        ]
        if not first_frames and is_unsupported_codec(stream.codec_context.codec_tag):
            refuse_codec(f"video {name}", stream.codec_context.codec_tag)
        if not first_frames or not packets:
            raise _damaged(name, "no frame that can be decoded")
        stated_rate = float(stream.average_rate or stream.guessed_rate or 0)
        first_frame = first_frames[0]
        time_base = stream.time_base
        packet_stamps = [p for p, _ in packets]
        pts = tuple(sorted({p for p in packet_stamps if p is not None}))
        if (
            len(pts) < len(packet_stamps)
            or any(frame.pts != stamp for frame, stamp in zip(first_frames, pts, strict=False))
            or (
                reorders and packet_stamps == list(pts)
            )  # AVI: packets stamped in the order they lie in
        ):
            pts = _decoded_stamps(source, len(packet_stamps), progress)
        count = len(pts)
        has_stamps = time_base is not None and None not in pts
        timing = joined_times([float(p * time_base) for p in pts]) if has_stamps else None
        start_s = float(min(pts) * time_base) if has_stamps else 0.0
        if timing is None:
            joins = ()
            fps = stated_rate if stated_rate > 0 else UNTIMED_FPS
            times = tuple(number / fps for number in range(count))
        else:
            times, joins = timing
            fps = frame_rate(times, stated_rate) or UNTIMED_FPS
            start_s = float(pts[0] * time_base)
        keyframes = ()
        if timing is None or any(
            later_stamp <= earlier_stamp for earlier_stamp, later_stamp in pairwise(pts)
        ):
            pts = ()  # such frames are counted
        else:
            key_stamps = {p for p, is_key in packets if is_key}
            keyframes = tuple(number for number, p in enumerate(pts) if p in key_stamps)
        if is_panorama(source, container.format.name, first_frame):
            raise EgoXInputError(
                f"video {name}",
                got="a 360 video",
                expected="the image of a single lens",
                fix="cut a plain view out of it, by the camera's own program or ffmpeg's filter "
                "v360=e:flat:h_fov=90:v_fov=60",
            )
        if int(first_frame.colorspace) in UNREAD_MATRICES and not first_frame.format.is_rgb:
            raise EgoXInputError(
                f"video {name}",
                got=f"colours in {UNREAD_MATRICES[int(first_frame.colorspace)]}",
                expected="colours that FFmpeg makes RGB of, as BT.709",
                fix="convert it with ffmpeg's filter zscale=matrix=709:range=limited,format=yuv420p",
            )
        codec = stream.codec_context
        aspect, turn = _pixel_aspect(stream), display_turn(first_frame)
        has_fields = has_single_fields(stream, first_frame)
        width = round(codec.width * aspect)
        height = codec.height * (1 + has_fields)
        shown_rectangle = container_crop(source, container.format.name, stream)
        if shown_rectangle is not None:
            shown_rectangle = shown_part(shown_rectangle, (codec.width, codec.height), aspect, turn)
        if turn[0]:
            width, height = height, width
        matrix, unsure_matrix = unnamed_matrix(container, first_frame)
        cut_text = cut_off(source)
        if cut_text and "mp4" in container.format.name:
            listed_count = frames_of_index(stream, container.size)
            cut_text = f"{count} of {listed_count} frames, {cut_text}" if listed_count else cut_text
        hdr = TRANSFERS.get(int(first_frame.color_trc), "")
        track_count = len(real_tracks(container.streams.video))
        is_cut = count < len(packets) and not first_frame.interlaced_frame and not cut_text
        remarks = {
            "cut": str(len(packets) - count) if is_cut else "",
            "tracks": str(track_count) if track_count > 1 else "",
            "end": cut_text,
            "interlaced": "frames" if first_frame.interlaced_frame and not has_fields else "",
            "fields": "fields" if has_fields else "",
            "gamut": "" if hdr else _gamut(first_frame),
            "crop": ""
            if shown_rectangle is None
            else f"{shown_rectangle[2]}x{shown_rectangle[3]} px at {shown_rectangle[:2]}",
            "matrix": "" if hdr or _gamut(first_frame) else unsure_matrix,
            "stereo": stereo_layout(first_frame, codec.name),
            "dolby": dolby_profile(source, container.format.name),
            "panorama": f"{width}x{height}" if width == 2 * height else "",
            "sound": unknown_sound(container),
            "fast": f"{fps:g}" if fps > FAST else "",
        }
        return VideoInfo(
            name=name,
            width=width,
            height=height,
            fps=fps,
            frame_count=count,
            times_s=times,
            has_audio=bool(real_tracks(container.streams.audio)),
            start_s=start_s,
            joins_s=joins,
            pts=pts,
            keyframes=keyframes,
            hdr=hdr,
            part=shown_rectangle,
            turn=turn,
            matrix=matrix,
            remarks=tuple((kind, text) for kind, text in remarks.items() if text),
        )


def _decoded_stamps(source: VideoSource, packets: int, progress: Progress) -> tuple:
    """Read the stamps of all frames by decoding them, None for a frame without a stamp."""
    stamps = []
    with open_video(source) as container:
        stream = chosen_track(container.streams.video)
        stream.thread_type = "AUTO"
        for frame in decoded_frames(container, stream, []):
            stamps.append(frame.pts)
            progress(len(stamps), max(len(stamps), packets), "counting frames")
    return tuple(stamps)


def read_frames(
    # A tensor contains all frames [N, H, W, 3], uint8 or float 0...1.
    source: VideoSource | Tensor,
    info: VideoInfo,
    selection: FrameSelection,
    progress: Progress = no_progress,
    # Redraws a picture for another lens.
    redrawn: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:  # [T, H, W, 3] of the same kind; RGB, of a long clip mapped from the disk
    """Read the frames in use, cropped or padded and scaled.

    Raises:
        EgoXInputError: one of them can't be decoded.
    """
    indices, counts = torch.unique(
        selection.indices, return_counts=True
    )  # rising; uneven ones may repeat
    if isinstance(source, Tensor):
        pictures = (
            np.ascontiguousarray(source[number, ..., :3].cpu().numpy()) for number in indices
        )
    else:
        pictures = (picture for _, picture in decode_frames(source, info, indices.tolist()))

    def fitted_frames() -> Iterator[Tensor]:
        done_count = 0
        for picture, count in zip(pictures, counts.tolist(), strict=True):
            if selection.part is not None and redrawn is None:
                picture = _black_outside(picture, selection.part)
            if redrawn is not None:
                picture = redrawn(torch.from_numpy(picture)).numpy()
            frame = torch.from_numpy(fit_picture(picture, selection.rectangle, selection.size))
            for _ in range(count):
                yield frame
                progress(done_count := done_count + 1, len(selection), "reading video")

    frames = store_frames(fitted_frames(), len(selection))
    return frames.clamp_(0, 1) if frames.is_floating_point() else frames


def decode_frames(
    source: VideoSource, info: VideoInfo, indices: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode the frames of ascending ``indices``, from the nearest keyframes on.

    Yields:
        index; image [H, W, 3], uint8 RGB, as shown.

    Raises:
        EgoXInputError: a frame can't be decoded.
    """
    count = 0
    with open_video(source) as container:
        stream = chosen_track(container.streams.video)
        stream.thread_type = "AUTO"
        aspect = _pixel_aspect(stream)
        for index, frame in _wanted_frames(container, stream, info, indices):
            picture = _shown_picture(frame, aspect, info, index)
            if picture.shape[:2] != (info.height, info.width):
                raise EgoXInputError(
                    f"video {info.name}",
                    got=f"frame {index} of {picture.shape[1]}x{picture.shape[0]} px",
                    expected=f"{info.width}x{info.height} px in all",
                    fix="re-encode it with ffmpeg",
                )
            yield index, picture
            count += 1
    if count < len(indices):
        raise EgoXInputError(
            f"video {info.name}",
            got=f"frame {indices[count]} missing or corrupt",
            expected="frames that can be decoded",
            fix="use frames before or after it, or copy the file again",
        )


def _wanted_frames(
    container, stream, info: VideoInfo, indices: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode frames in ascending order, and stop at the first one that is missing."""
    index_of = {pts: number for number, pts in enumerate(info.pts)}

    def frames_from_here() -> Iterator[tuple[int | None, av.VideoFrame]]:
        """Yield frames with their indices from the current position on, counted if the file has no
        stamps."""
        for count, frame in enumerate(deinterlaced_frames(container, stream)):
            yield index_of.get(frame.pts) if info.pts else count, frame

    position = -1
    frames = None
    frames_needed_before = "interlaced" in dict(
        info.remarks
    )  # its lines are also made from the frame before
    for index in indices:
        keyframe = max(
            (
                key_index
                for key_index in info.keyframes
                if key_index <= index - frames_needed_before
            ),
            default=0,
        )
        if frames is None or keyframe > position + SEEK_GAP:
            if frames is not None or keyframe > 0:
                container.seek(info.pts[keyframe], stream=stream, backward=True)
            frames = frames_from_here()
        found_frame = _frame_at(frames, index)
        if found_frame is None and keyframe > 0:
            # The index of some containers points past the keyframe: the plain way from the start
            # always works.
            container.seek(0, stream=stream)
            frames = frames_from_here()
            found_frame = _frame_at(frames, index)
        if found_frame is None:
            return
        position = index
        yield index, found_frame


def _frame_at(frames, index: int) -> av.VideoFrame | None:
    for frame_number, frame in frames:
        if frame_number is not None and frame_number >= index:
            return frame if frame_number == index else None
    return None


def _pixel_aspect(stream) -> float:
    aspect = float(stream.sample_aspect_ratio or 1)
    is_damaged = not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT
    return 1.0 if is_damaged or abs(aspect - 1) < SQUARE_TOLERANCE else aspect


def _gamut(frame: av.VideoFrame) -> str:
    """Name the frame's wide gamut, or return "" for the usual one."""
    return GAMUTS.get(int(frame.color_primaries), ("",))[0]


def _rgb_picture(frame: av.VideoFrame, matrix: int) -> np.ndarray:  # [H, W, 3] uint8, sRGB
    """Convert a frame to sRGB, by ``matrix`` if the frame names no colour matrix."""
    transfer = TRANSFERS.get(int(frame.color_trc))
    if transfer is None and _gamut(frame):
        transfer = GAMMAS.get(int(frame.color_trc), "2.4")
    if frame.colorspace == 2 and transfer:
        frame.colorspace = 1 if int(frame.color_primaries) in (1, 11, 12) else 9
    elif frame.colorspace == 2:
        frame.colorspace = matrix
    return sdr_picture(frame, transfer) if transfer else frame.to_ndarray(format="rgb24")


def _shown_picture(
    frame: av.VideoFrame, aspect: float, info: VideoInfo, index: int
) -> np.ndarray:  # [H, W, 3] uint8
    picture = _rgb_picture(frame, info.matrix)
    if aspect != 1:
        picture = resize_picture(picture, round(picture.shape[1] * aspect), picture.shape[0])
    if "fields" in dict(info.remarks):
        # Every second one has the lower lines.
        field_shift = np.array([[1, 0, 0], [0, 0.5, -0.5 * (index % 2)]])
        picture = cv2.warpAffine(
            picture,
            field_shift,
            (picture.shape[1], 2 * picture.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    transposed, down, right = info.turn
    picture = picture.swapaxes(0, 1) if transposed else picture
    return np.ascontiguousarray(picture[::down, ::right])


def _black_outside(picture: np.ndarray, part: tuple[int, int, int, int]) -> np.ndarray:
    """Black out a picture outside of a rectangle (left, top, width, height)."""
    left, top, width, height = part
    kept_picture = np.zeros_like(picture)
    kept_picture[top : top + height, left : left + width] = picture[
        top : top + height, left : left + width
    ]
    return kept_picture


def fit_picture(
    picture: np.ndarray,  # [H, W, 3]
    part: tuple[int, int, int, int],  # (left, top, width, height) px
    size: tuple[int, int],  # (width, height) px of the result
) -> np.ndarray:  # [height, width, 3]
    """Cut a rectangle from a picture, black outside of it, and scale it to ``size``."""
    return resize_picture(rectangle(picture, *part), *size)


def resize_picture(
    picture: np.ndarray, width: int, height: int
) -> np.ndarray:  # [H, W, C] -> [height, width, C]
    """Resize a picture, where pixel centres follow the half-pixel convention.

    Shrinking averages areas, so that nothing aliases.
    """
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    shrinks = height <= picture.shape[0] and width <= picture.shape[1]
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )


def memory_info(
    images: Tensor,  # [T, H, W, 3]
    fps: float,  # 0 or less: not known
    has_audio: bool,
) -> VideoInfo:
    """Describe frames in memory in the way that :func:`probe_video` describes a file.

    Raises:
        EgoXInputError: no frames.
    """
    as_tensor(images, "video in memory", None, None, None, None)
    fps = fps if fps > 0 else UNTIMED_FPS
    return VideoInfo(
        name="in memory",
        width=images.shape[2],
        height=images.shape[1],
        fps=fps,
        frame_count=len(images),
        times_s=tuple(number / fps for number in range(len(images))),
        has_audio=has_audio,
        start_s=0.0,
        pts=(),
        keyframes=(),
    )
