"""Which frames of a video are used and how its picture is cropped or padded; the same for cameras and depth.

Frames are named by source index. The picture change is one rectangle of the source (in square pixels, reaching outside
where it is padded) mapped onto the frames handed on, so intrinsics follow it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from ..cameras.model import CameraModel, crop, rescale
from ..errors import EgoXInputError
from ..sizes import latent_frames, latent_size
from ..types import FrameSelection

"""Pixels: a token is 2 latents of 8 px, and the exo half must end on a token."""


def select_frames(info: VideoInfo, *, start_frame: int = 0, frame_count: int = 49, target_fps: float = 0.0,
                  resize: Literal["crop", "pad"] = "crop", width: int | None = None,
                  height: int | None = None) -> FrameSelection:
    """Choose frames at ``target_fps`` (0: every frame) from ``start_frame`` on, by the video's own time stamps.

    ``width`` and ``height`` (both or none) are those of the frames handed on; none keeps the video's own.

    Raises:
        EgoXInputError: count not 4n+1, size no multiple of 16, start outside, rate above the source's, video too short
            (offering the nearest count that fits).
    """
    latent_frames(frame_count)
    width, height = (info.width, info.height) if width is None or height is None else (width, height)
    latent_size(width, height, "video size")
    if resize not in ("crop", "pad"):
        raise EgoXInputError("resize", got=repr(resize), expected="crop or pad", fix="choose one of the two")
    if not 0 <= start_frame < info.frame_count:
        raise EgoXInputError("start_frame", got=start_frame, expected=f"0 to {info.frame_count - 1}",
                             fix=f"{info.name} holds {info.frame_count} frames")
    if target_fps < 0 or target_fps > info.fps * 1.001:
        raise EgoXInputError("target_fps", got=f"{target_fps:g}", expected=f"0 to {info.fps:g}, the video's own rate",
                             fix="0 takes every frame; more frames than there are can't be shown")
    times = torch.tensor(info.times_s, dtype=torch.float64)
    if target_fps == 0 or abs(target_fps - info.fps) <= 0.001 * info.fps:
        available, fps = info.frame_count - start_frame, info.fps
        indices = torch.arange(start_frame, start_frame + min(frame_count, available))
    else:
        fps = float(target_fps)
        # Half a source frame of slack: the last wanted moment may fall just behind the last frame's time stamp.
        available = int((times[-1] - times[start_frame] + 0.5 / info.fps) * fps + 1e-9) + 1
        wanted = times[start_frame] + torch.arange(min(frame_count, available), dtype=torch.float64) / fps
        right = torch.searchsorted(times, wanted - 1e-9).clamp(1, info.frame_count - 1)
        # A tie takes the earlier frame, so that a rate of one half takes every second frame exactly.
        indices = torch.where(wanted - times[right - 1] <= times[right] - wanted + 1e-9, right - 1, right)
    if available < frame_count:
        near = 4 * ((available - 1) // 4) + 1
        raise EgoXInputError(f"video {info.name}", got=f"{available} frames from frame {start_frame} on at {fps:g} fps",
                             expected=f"at least {frame_count}",
                             fix=f"use frame_count {near}" + (", or start earlier" if start_frame else ""))
    return FrameSelection(source_indices=indices, times_s=times[indices], source_fps=info.fps, fps=fps,
                          source_size=(info.width, info.height), size=(width, height), resize=resize)


def source_rectangle(selection: FrameSelection) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the source picture that the frames show; outside it where they are padded.

    Rounded to whole source pixels, so the two axes may be scaled differently by under one pixel in the whole picture;
    cameras follow that exactly.
    """
    (source_width, source_height), (width, height) = selection.source_size, selection.size
    choose = max if selection.resize == "crop" else min
    scale = choose(width / source_width, height / source_height)
    rect_width, rect_height = max(1, round(width / scale)), max(1, round(height / scale))
    return (source_width - rect_width) // 2, (source_height - rect_height) // 2, rect_width, rect_height


def camera_of_frames(source_camera: CameraModel, selection: FrameSelection) -> CameraModel:
    """The camera of the frames handed on, from the one of the whole source picture. Exact, half-pixel convention.

    Raises:
        EgoXInputError: the camera's picture has another size than the source video.
    """
    if source_camera.stored_size != selection.source_size:
        raise EgoXInputError("exo camera", got=f"intrinsics of a {source_camera.stored_size} picture",
                             expected=f"of the video's {selection.source_size}", fix="rescale the intrinsics first")
    return rescale(crop(source_camera, *source_rectangle(selection)), *selection.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a video file holds, found without decoding it."""

    name: str
    width: int  # as shown: turned, square pixels
    height: int
    fps: float
    frame_count: int
    times_s: tuple[float, ...]  # of every frame, from 0 for the first
    has_audio: bool
    start_s: float  # time stamp of the first frame, seconds; audio is counted from it
    pts: tuple[int, ...] = field(repr=False)  # time stamps in stream units; empty where the file has none
    keyframes: tuple[int, ...] = field(repr=False)  # indices
