"""The sound that belongs to the frames in use of a video."""

import numpy as np
import torch

from ..types import FrameSelection, Sound
from .reader import VideoSource, open_video
from .selection import VideoInfo
from .tracks import chosen_track

GAP_S = 0.03
"""Between time stamp and the end of what came before: less is rounding of the stamps."""


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
        stream = chosen_track(container.streams.audio)
        if stream is None:
            return None
        rate, resampler = stream.rate, av.AudioResampler(format="fltp")
        if start > 1 and stream.time_base is not None:
            # A second early: audio frames may straddle the point and decoders need a few to settle.
            container.seek(int((start - 1) / stream.time_base), stream=stream)
        count = round(length * rate)
        samples, place, end = np.zeros((0, count), np.float32), None, 0
        for frame in container.decode(stream):
            if frame.time is None:
                continue
            stamped = (frame.time - start) * rate
            if place is None or abs(stamped - place) > GAP_S * rate:
                place = round(stamped)
            for piece in resampler.resample(frame):
                heard = piece.to_ndarray()[:, max(-place, 0) : max(count - place, 0)]
                if not len(samples):
                    samples = np.zeros((len(heard), count), np.float32)
                begin = max(place, 0)
                if heard.size:
                    samples[:, begin : (end := begin + heard.shape[1])] = heard
                place += piece.samples
            if place >= count:
                break
    return Sound(waveform=torch.from_numpy(samples[:, :end]), sample_rate=rate) if end else None


def trim_sound(sound: Sound | None, selection: FrameSelection) -> Sound | None:
    """The part of a whole video's sound that belongs to the frames in use."""
    if sound is None:
        return None
    first = round(float(selection.times_s[0]) * sound.sample_rate)
    count = round(len(selection.times_s) / selection.fps * sound.sample_rate)
    part = sound.waveform[:, first : first + count]
    return Sound(waveform=part, sample_rate=sound.sample_rate) if part.shape[-1] else None
