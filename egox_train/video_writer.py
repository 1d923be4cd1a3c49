"""Write frames as an mp4 video that every player supports."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import atomic_write

QUALITY = 16
"""x264's constant rate factor; 18 counts as visually lossless, and pictures measured against others
deserve more."""


def write_video(
    path: Path,  # .mp4
    frames: Tensor
    | Iterable[
        Tensor
    ],  # [T, H, W, 3], or one after the other, 0...1 or uint8; [.., H, W] becomes grey
    fps: float,
    *,
    quality: int = QUALITY,  # x264 constant rate factor, smaller is better
    threads: int = 0,  # of the encoder, 0: all cores; 1 gives the same bytes every time
    progress: Progress = no_progress,
) -> None:
    """Write an mp4 video from frames, which are encoded one at a time.

    Raises:
        EgoXInputError: odd size (4:2:0 needs even ones), no frames, non-positive rate.
    """
    import av  # not above: who draws takes without writing them needs none

    if fps <= 0:
        raise EgoXInputError("frame rate", got=fps, expected="above 0", fix="give frames a second")
    frame_rate = Fraction(fps).limit_denominator(1001)
    frame_total = len(frames) if isinstance(frames, Tensor) else 0
    with (
        atomic_write(path) as temporary_file,
        av.open(str(temporary_file), "w", options={"movflags": "+faststart"}) as container,
    ):
        video_stream = None
        for index, frame in enumerate(frames):
            picture = _to_bytes(frame)
            if video_stream is None:
                video_stream = _add_stream(container, frame_rate, picture, quality, threads)
            container.mux(video_stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            progress(index + 1, max(frame_total, index + 1), "writing video")
        if video_stream is None:
            raise EgoXInputError(
                "video to write", got="no frames", expected="at least one", fix="check the input"
            )
        container.mux(video_stream.encode(None))


def write_levels(
    path: Path,  # .mkv
    maps: Tensor,  # [T, H, W] uint8
    fps: float,
) -> None:
    """Write maps of 8-bit numbers as a lossless grey video."""
    import av

    reproducible_options = {"fflags": "+bitexact"}  # else each file has a random number
    with (
        atomic_write(path) as temporary_file,
        av.open(
            str(temporary_file), "w", format="matroska", options=reproducible_options
        ) as container,
    ):
        video_stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1001))
        video_stream.height, video_stream.width = maps.shape[1:]
        video_stream.pix_fmt = "gray"
        for level_map in maps:
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(level_map.numpy()), format="gray"
            )
            container.mux(video_stream.encode(frame))
        container.mux(video_stream.encode(None))


def _add_stream(container, rate: Fraction, picture: np.ndarray, quality: int, threads: int):
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        raise EgoXInputError(
            "video to write",
            got=f"{width}x{height}",
            expected="an even width and height",
            fix="crop or pad one row or column",
        )
    # x264's macroblock tree looks at memory that it never set (measured: other bytes in one run of
    # five at 96x96 px).
    reproducible_options = {"x264-params": "mbtree=0"} if threads == 1 else {}
    video_stream = container.add_stream(
        "libx264",
        rate=rate,
        options={"crf": str(quality), "preset": "medium", **reproducible_options},
    )
    video_stream.width, video_stream.height, video_stream.pix_fmt = width, height, "yuv420p"
    video_stream.codec_context.sample_aspect_ratio = Fraction(1, 1)
    video_stream.codec_context.colorspace = 6 if height >= 720 else 2  # players take HD for BT.709
    video_stream.codec_context.thread_count = threads
    return video_stream


def _to_bytes(frame: Tensor) -> np.ndarray:
    if frame.ndim == 2:
        frame = frame[..., None].expand(*frame.shape, 3)
    if frame.dtype == torch.bool:
        frame = frame.to(torch.uint8) * 255
    elif frame.is_floating_point():
        frame = (frame.detach().float().nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(frame.cpu().numpy())
