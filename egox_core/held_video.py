"""A video that is already in memory as frames, behind the same steps as one in a file."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .errors import EgoXInputError
from .frame_selection import source_rectangle
from .progress import Progress, no_progress
from .types import FrameSelection
from .video import VideoInfo, fit_picture
from .video_audio import Sound


def held_info(images: Tensor, fps: float, has_audio: bool, name: str = "given frames") -> VideoInfo:
    """What :func:`video.probe_video` would say of frames [T, H, W, 3].

    Raises:
        EgoXInputError: no frames.
    """
    if images.ndim != 4 or len(images) == 0:
        raise EgoXInputError(f"video {name}", got=f"frames of shape {tuple(images.shape)}",
                             expected="at least one frame", fix="check the node that makes the video")
    fps = fps if fps > 0 else 25.0
    return VideoInfo(name=name, width=images.shape[2], height=images.shape[1], fps=fps, frame_count=len(images),
                     times_s=tuple(i / fps for i in range(len(images))), has_audio=has_audio, start_s=0.0, pts=(),
                     keyframes=())


def pick_frames(images: Tensor, selection: FrameSelection, progress: Progress = no_progress) -> Tensor:
    """The chosen frames of [N, H, W, 3] float 0...1, cropped or padded and scaled: [T, H', W', 3] float32."""
    rectangle, (width, height) = source_rectangle(selection), selection.size
    out = torch.empty((len(selection.source_indices), height, width, 3))
    for place, index in enumerate(selection.source_indices.tolist()):
        picture = np.ascontiguousarray(images[index, ..., :3].float().cpu().numpy())
        out[place] = torch.from_numpy(fit_picture(picture, rectangle, selection.size))
        progress(place + 1, len(out), "reading video")
    return out.clamp_(0, 1)


def trim_sound(sound: Sound | None, selection: FrameSelection) -> Sound | None:
    """The part of a whole video's sound that belongs to the chosen frames."""
    if sound is None:
        return None
    first = round(float(selection.times_s[0]) * sound.sample_rate)
    count = round(len(selection.times_s) / selection.fps * sound.sample_rate)
    part = sound.waveform[:, first:first + count]
    return Sound(waveform=part, sample_rate=sound.sample_rate) if part.shape[-1] else None
