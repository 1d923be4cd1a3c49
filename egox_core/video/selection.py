"""Choose a video's frames, and the crop or padding of its picture.

Frames are named by source index. The picture change is one rectangle of the source (in square
pixels, reaching outside where it is padded) mapped onto the frames handed on, so intrinsics follow
it exactly."""

from dataclasses import field, replace
from typing import get_args

import torch

from ..errors import EgoXInputError, check_choice
from ..frozen import frozen
from ..sizes import latent_frames, latent_size, longest_clip
from ..types import FrameSelection, Resize
from .timing import frame_rate


@frozen
class VideoInfo:
    """Properties of a video file, read without decoding all of it."""

    name: str
    width: int  # as shown: turned, square pixels
    height: int
    fps: float
    frame_count: int
    times_s: tuple[float, ...]  # of every frame, from 0 for the first
    has_audio: bool
    start_s: float  # time stamp of the first frame, seconds; times_s are relative to it
    # Time stamps in stream units; empty if the file has none.
    pts: tuple[int, ...] = field(repr=False)
    keyframes: tuple[int, ...] = field(repr=False)  # indices
    hdr: str = ""  # HLG or PQ: frames are brought to the standard range
    # (left, top, width, height) px of the picture: all that its container shows
    part: tuple[int, int, int, int] | None = None
    turn: tuple[bool, int, int] = (False, 1, 1)  # transposed, then 1 or -1 for rows and columns
    matrix: int = 2  # of colours (H.273) that name none; 2: BT.601, as FFmpeg takes them
    remarks: tuple[tuple[str, str], ...] = ()  # key of tracks.REMARKS, value
    # Of recordings put end to end: seconds added to the stamps of each but the first.
    joins_s: tuple[float, ...] = ()
    exo_part: str = "whole"  # of the file's picture, see facts.FACTS["exo.part"]

    @property
    def uneven_times(self) -> list[float] | None:
        """List the seconds of each frame, or return None if the frame rate implies them."""
        times = [round(time_s, 4) for time_s in self.times_s]
        is_even = all(abs(time_s * self.fps - frame) <= 0.5 for frame, time_s in enumerate(times))
        return None if is_even else times


def part_info(info: VideoInfo, exo_part: str) -> VideoInfo:
    """Describe a part of a video's picture, ``left`` or ``right`` half or ``mirrored``, as a video.

    Raises:
        EgoXInputError: no halves of whole pixels.
    """
    if exo_part == "whole":
        return info
    left, top, width, height = info.part or (0, 0, info.width, info.height)
    if exo_part == "mirrored":
        shown_part = (info.width - left - width, top, width, height)
        return replace(info, exo_part=exo_part, part=info.part and shown_part)
    if info.width % 2 or info.part is not None:
        raise EgoXInputError(
            f"video {info.name}",
            got=f"{info.width} px of width" + (", of which a part is shown" if info.part else ""),
            expected="a picture of two equal halves",
            fix="cut the half out with ffmpeg's filter crop, and leave exo.part out",
        )
    remarks = tuple(remark for remark in info.remarks if remark[0] not in ("stereo", "panorama"))
    return replace(info, width=info.width // 2, exo_part=exo_part, remarks=remarks)


def trim_info(info: VideoInfo, start_s: float, duration_s: float) -> tuple[VideoInfo, int]:
    """Cut a video to ComfyUI's Trim Video window, and find the window's first frame.

    A duration of 0 reaches to the end.

    Indices keep counting from the file's first frame: depth and poses know nothing of the trim.

    Raises:
        EgoXInputError: no frame in the window.
    """
    if start_s <= 0 and duration_s <= 0:
        return info, 0
    end_s = start_s + duration_s if duration_s > 0 else float("inf")
    frames_inside = [
        number
        for number, time_s in enumerate(info.times_s)
        if start_s - 1e-6 <= time_s + info.start_s < end_s - 1e-6
    ]
    if not frames_inside:
        raise EgoXInputError(
            f"video {info.name}",
            got=f"no frame between {start_s:g} and {start_s + duration_s:g} s",
            expected="a trim inside the video",
            fix="correct Trim Video's start and duration",
        )
    end = frames_inside[-1] + 1
    return replace(
        info,
        frame_count=end,
        times_s=info.times_s[:end],
        pts=info.pts[:end],
        keyframes=tuple(key_index for key_index in info.keyframes if key_index < end),
    ), frames_inside[0]


def select_frames(
    info: VideoInfo,
    *,
    start_frame: int = 0,
    frame_count: int | None = 49,  # None: the largest 4n+1 that there are
    target_fps: float = 0.0,
    step: int = 1,
    resize: Resize = "crop",
    width: int | None = None,
    height: int | None = None,
    whole_latents: bool = True,
) -> FrameSelection:
    """Choose frames at ``target_fps`` from ``start_frame`` on, by the video's time stamps.

    A ``target_fps`` of 0 takes every ``step``-th frame.

    ``width`` and ``height`` (both or none) are those of the frames handed on; none keeps the
    video's own. Without ``whole_latents`` any count will do, and None takes all frames.

    Raises:
        EgoXInputError: count not 4n+1, size no multiple of 16, start outside, rate above the
            source's, video too short (offering the nearest count that fits).
    """
    if frame_count is not None and whole_latents:
        latent_frames(frame_count)
    longest = longest_clip if whole_latents else int
    if width is None or height is None:
        width, height = (info.width, info.height) if info.part is None else info.part[2:]
    latent_size(width, height, "video size")
    check_choice("resize", resize, get_args(Resize))
    if not 0 <= start_frame < info.frame_count:
        raise EgoXInputError(
            "start_frame",
            got=start_frame,
            expected=f"0 to {info.frame_count - 1}",
            fix=f"{info.name} contains {info.frame_count} frames",
        )
    if target_fps < 0 or target_fps > info.fps * 1.001:
        raise EgoXInputError(
            "target_fps",
            got=f"{target_fps:g}",
            expected=f"0 to {info.fps:g}, the video's own rate",
            fix="0 takes every frame; more frames than there are can't be shown",
        )
    times = torch.tensor(info.times_s, dtype=torch.float64)
    if target_fps == 0 or abs(target_fps - info.fps) <= 0.001 * info.fps:
        indices = torch.arange(start_frame, info.frame_count, step)
        available_count = len(indices)
        frame_count = longest(available_count) if frame_count is None else frame_count
        indices = indices[:frame_count]
        fps = frame_rate(times[indices].numpy(), info.fps / step)
    else:
        fps = float(target_fps)
        # Half a source frame of slack: the last wanted moment may fall just behind the last frame's
        # time stamp.
        available_count = int((times[-1] - times[start_frame] + 0.5 / info.fps) * fps + 1e-9) + 1
        frame_count = longest(available_count) if frame_count is None else frame_count
        target_s = (
            times[start_frame]
            + torch.arange(min(frame_count, available_count), dtype=torch.float64) / fps
        )
        next_frames = torch.searchsorted(times, target_s - 1e-9).clamp(1, info.frame_count - 1)
        # A tie takes the earlier frame, so that a rate of one half takes every second frame
        # exactly.
        indices = torch.where(
            target_s - times[next_frames - 1] <= times[next_frames] - target_s + 1e-9,
            next_frames - 1,
            next_frames,
        )
    if available_count < frame_count:
        raise EgoXInputError(
            f"video {info.name}",
            got=f"{available_count} frame{'' if available_count == 1 else 's'} "
            f"from frame {start_frame} on at {fps:g} fps",
            expected=f"at least {frame_count}",
            fix=f"use frame_count {longest(available_count)}"
            + (", or start earlier" if start_frame else "")
            + ("; the file is cut off" if "end" in dict(info.remarks) else ""),
        )
    return FrameSelection(
        indices=indices,
        times_s=times[indices],
        rate=info.fps,
        fps=fps,
        source_size=(info.width, info.height),
        size=(width, height),
        resize=resize,
        total=info.frame_count,
        end_s=info.times_s[-1],
        part=info.part,
        exo_part=info.exo_part,
        turn=info.turn,
    )
