"""The sound that belongs to the frames in use of a video."""

import numpy as np
import torch
from torch import Tensor

from ..frozen import frozen
from ..types import FrameSelection
from .reader import VideoSource, open_video
from .selection import VideoInfo


@frozen
class Sound:
    """Samples of all channels."""

    waveform: Tensor  # [channels, N] float32 -1...1
    sample_rate: int


def read_sound(source: VideoSource, info: VideoInfo, selection: FrameSelection) -> Sound | None:
    """The sound from the first frame in use to one frame after the last; None where the file has none.

    Shorter than the picture where the sound track ends early.

    Raises:
        EgoXInputError: the file can't be decoded.
    """
    if not info.has_audio:
        return None
    import av

    start = info.start_s + float(selection.times_s[0])
    length = len(selection.times_s) / selection.fps
    with open_video(source) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            return None
        rate, resampler = stream.rate, av.AudioResampler(format="fltp")
        if start > 1 and stream.time_base is not None:
            # A second early: audio frames may straddle the point and decoders need a few to settle.
            container.seek(int((start - 1) / stream.time_base), stream=stream)
        first, count = None, round(length * rate)
        pieces: list[np.ndarray] = []
        samples_read = 0
        for frame in container.decode(stream):
            if frame.time is None:
                continue
            if first is None:
                first = frame.time
            for piece in resampler.resample(frame):
                pieces.append(piece.to_ndarray())
                samples_read += pieces[-1].shape[-1]
            if first + samples_read / rate >= start + length:
                break
    if first is None or not pieces:
        return None
    samples = np.concatenate(pieces, axis=-1)
    skip = round((start - first) * rate)
    if skip < 0:
        samples, skip = np.pad(samples, ((0, 0), (-skip, 0))), 0
    samples = samples[:, skip : skip + count]
    return (
        Sound(waveform=torch.from_numpy(samples.astype(np.float32)), sample_rate=rate)
        if samples.size
        else None
    )


def trim_sound(sound: Sound | None, selection: FrameSelection) -> Sound | None:
    """The part of a whole video's sound that belongs to the frames in use."""
    if sound is None:
        return None
    first = round(float(selection.times_s[0]) * sound.sample_rate)
    count = round(len(selection.times_s) / selection.fps * sound.sample_rate)
    part = sound.waveform[:, first : first + count]
    return Sound(waveform=part, sample_rate=sound.sample_rate) if part.shape[-1] else None
