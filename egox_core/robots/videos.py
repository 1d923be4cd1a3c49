"""Write the videos of a robot data set, in which episodes follow each other within one mp4 file.

Each episode is encoded by itself, without frames that lean on later ones, so that its packets can
be appended to a file, or cut off again, without touching a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ..errors import EgoXInputError
from ..frozen import frozen
from ..progress import Progress, no_progress

DEPTH_MIN_M, DEPTH_MAX_M, DEPTH_SHIFT_M, LEVELS = 0.01, 10.0, 3.5, 4095
"""LeRobot's own quantisation of depth, logarithmic with a shift. It has no code for "unknown",
which is written as the least depth."""


PictureKind = Literal["colour", "classes", "depth"]


@frozen
class VideoForm:
    """Encoding of one kind of picture (colour, classes or depth)."""

    encoder: str = "libx264"
    codec: str = "h264"  # as info.json names it
    pixels: str = "yuv420p"  # of the encoder
    picture: str = "rgb24"  # of the frames that are given
    options: dict[str, str]  # of the encoder


FORMS: dict[PictureKind, VideoForm] = {
    "colour": VideoForm(
        options={"crf": "18", "preset": "medium", "bf": "0", "x264-params": "mbtree=0"}
    ),
    # Grey has no chroma to lose, so the four levels come back within one.
    "classes": VideoForm(options={"qp": "0", "preset": "medium", "bf": "0"}),
    "depth": VideoForm(
        encoder="libx265",
        codec="hevc",
        pixels="gray12le",
        picture="gray12le",
        options={
            "x265-params": "lossless=1:bframes=0:keyint=2:pools=none:frame-threads=1:log-level=none"
        },
    ),
}
MAX_S = 500.0
"""Length of a file, seconds: LeRobot's reader, which looks for times of 32 bits, fails from 1300 s
on."""
KEY_EVERY = 2
"""Frames from one that needs no other to the next: whoever learns reads frames in any order."""


def as_loaded(
    # See :func:`encode`.
    frames: Tensor,
    kind: PictureKind,
) -> np.ndarray:  # the same shape, float64
    """Convert pictures to the values that a loader returns: 0...1, or metres for depth."""
    if kind != "depth":
        return frames.numpy() / 255
    return frames.double().nan_to_num(DEPTH_MIN_M).clamp(DEPTH_MIN_M, DEPTH_MAX_M).numpy()


def depth_codes(
    depth_m: Tensor,  # [...] z depth, metres, NaN unknown
) -> np.ndarray:  # [...] uint16
    """Quantise depth to 12 bits as LeRobot does, about 1 mm at 1 m.

    Unknown depth becomes 0, that is 1 cm.
    """
    log_near, log_far = np.log(DEPTH_MIN_M + DEPTH_SHIFT_M), np.log(DEPTH_MAX_M + DEPTH_SHIFT_M)
    relative_depth = (np.log(as_loaded(depth_m, "depth") + DEPTH_SHIFT_M) - log_near) / (
        log_far - log_near
    )
    return np.rint(LEVELS * relative_depth).astype(np.uint16)


def video_feature(
    # See :func:`encode`.
    frames: Tensor,
    kind: PictureKind,
    fps: int,
) -> dict[str, Any]:
    """Make the feature of info.json that describes a video."""
    video_form = FORMS[kind]
    (height, width, channels) = frames.shape[1:]
    info: dict[str, Any] = {
        "video.height": height,
        "video.width": width,
        "video.codec": video_form.codec,
        "video.pix_fmt": video_form.pixels,
        "video.fps": fps,
        "video.channels": channels,
        "video.g": KEY_EVERY,
        "has_audio": False,
        "is_depth_map": kind == "depth",
    }
    if kind == "depth":
        info |= {
            "depth_unit": "m",
            "video.depth_min": DEPTH_MIN_M,
            "video.depth_max": DEPTH_MAX_M,
            "video.shift": DEPTH_SHIFT_M,
            "video.use_log": True,
            "video.extra_options": {"x265-params": "lossless=1"},
        }
    names = ["height", "width", "channels"]
    shape = [height, width, channels]
    return {"dtype": "video", "shape": shape, "names": names, "info": info}


def encode(
    path: Path,
    frames: Tensor,  # [T, H, W, 3] uint8, of classes grey; of depth [T, H, W, 1] metres
    kind: PictureKind,
    fps: int,
    progress: Progress = no_progress,
) -> None:
    """Encode one episode's video, always to the same bytes for the same frames.

    Raises:
        EgoXInputError: an odd side, which 4:2:0 can't hold; a build of PyAV without the encoder.
    """
    import av

    video_form = FORMS[kind]
    (height, width) = frames.shape[1:3]
    if height % 2 or width % 2:
        raise EgoXInputError(
            "video of an episode",
            got=f"{width}x{height} px",
            expected="an even width and height",
            fix="crop one row or column",
        )
    if video_form.encoder not in av.codecs_available:
        raise EgoXInputError(
            "video of an episode",
            got=f"a PyAV without {video_form.encoder}",
            expected="one with it",
            fix="pip install -U av, whose wheels have it",
        )
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream(video_form.encoder, rate=fps, options=video_form.options)
        stream.width = width
        stream.height = height
        stream.pix_fmt = video_form.pixels
        stream.codec_context.gop_size = KEY_EVERY
        stream.codec_context.thread_count = 1
        for count, frame in enumerate(frames, 1):
            picture = depth_codes(frame[..., 0]) if kind == "depth" else frame.numpy()
            video_frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(picture), format=video_form.picture
            )
            file.mux(stream.encode(video_frame))
            progress(count, len(frames), "writing video")
        file.mux(stream.encode(None))


def join_videos(
    path: Path,
    # Files, and how many of their first frames are taken.
    parts: Sequence[tuple[Path, int]],
    fps: int,
) -> None:
    """Join videos of the same size and encoding without encoding them again."""
    import av

    with av.open(str(path), "w", format="mp4") as target:
        target_stream, frame_number = None, 0
        for video_path, count in parts:
            with av.open(str(video_path)) as source:
                source_stream = source.streams.video[0]
                target_stream = target_stream or target.add_stream_from_template(source_stream)
                packets = (
                    packet_read
                    for packet_read in source.demux(source_stream)
                    if packet_read.dts is not None
                )
                for packet in islice(packets, count):
                    packet.stream, packet.time_base = target_stream, Fraction(1, fps)
                    packet.pts = packet.dts = frame_number
                    packet.duration = 1
                    target.mux(packet)
                    frame_number += 1
