"""Probe videos: their size, rate, time stamps, keyframes and oddities, without their pictures.

A frame's index counts presentation order from 0. Sizes are those of the picture as it is shown:
turned as the file says, with square pixels. :func:`memory_info` is for frames in memory what
:func:`probe_video` is for a file."""

from __future__ import annotations

import io
from itertools import islice, pairwise
from pathlib import Path

from torch import Tensor

from ..arrays import as_tensor
from ..errors import EgoXInputError
from ..foreign_files import is_unsupported_codec, refuse_codec
from ..frames import UNTIMED_FPS
from ..progress import Progress, no_progress
from .containers import cut_off, frames_of_index
from .hdr import TRANSFERS, gamut_name
from .selection import VideoInfo
from .source import VideoSource, damaged_error, open_video, video_name
from .timing import frame_rate, joined_times
from .tracks import (
    FAST,
    UNREAD_MATRICES,
    chosen_track,
    container_crop,
    decoded_frames,
    display_turn,
    dolby_profile,
    has_single_fields,
    is_panorama,
    pixel_aspect,
    readable_packets,
    real_tracks,
    shown_part,
    stereo_layout,
    unknown_sound,
    unnamed_matrix,
)

CHECKED_FRAMES = 3
"""Frames decoded at the beginning, to see whether they are stamped as their packets are."""
MAX_PROBED = 16
_PROBED: dict[tuple[Path, int, int], VideoInfo] = {}  # by file, size and time of change


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
            raise damaged_error(name, "no frame that can be decoded")
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
            if not pts:
                raise damaged_error(name, "no frame that can be decoded")
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
                fix=(
                    "convert it with ffmpeg's filter zscale=matrix=709:range=limited,format=yuv420p"
                ),
            )
        codec = stream.codec_context
        aspect, turn = pixel_aspect(stream), display_turn(first_frame)
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
            "gamut": "" if hdr else gamut_name(first_frame),
            "crop": ""
            if shown_rectangle is None
            else f"{shown_rectangle[2]}x{shown_rectangle[3]} px at {shown_rectangle[:2]}",
            "matrix": "" if hdr or gamut_name(first_frame) else unsure_matrix,
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


def memory_info(
    images: Tensor,  # [T, H, W, 3]
    fps: float,  # 0 or less: not known
    has_audio: bool,
) -> VideoInfo:
    """Describe frames in memory in the way that :func:`probe_video` describes a file.

    Raises:
        EgoXInputError: no frames.
    """
    as_tensor(images, "video in memory", "frames", "height", "width", "channels")
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
