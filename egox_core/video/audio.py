"""The sound that belongs to the frames in use of a video, in a form that every encoder of the host
takes: one channel or two, at one of RATES."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..remarks import Remark
from ..types import FrameSelection, Sound
from .reader import VideoSource, open_video
from .selection import VideoInfo
from .timing import JOIN_S
from .tracks import chosen_track, decoded_frames, made_safe

if TYPE_CHECKING:
    import av

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Samples a second that AAC, MP3 and FLAC all know; of another number they become the last."""
LOUDEST = 8.0
"""Full scale is 1. More is damage, of which AAC refuses infinite and near infinite samples."""
GAP_S = 0.03
"""Between time stamp and the end of what came before: less is rounding of the stamps."""
LONGEST_S = 3600.0
"""More is damage of time stamps."""
LEAD_S = 1.0
"""Read before the first moment: sound straddles it, and decoders need a little to settle."""


def host_sound(
    waveform: Tensor,  # [channels, N]
    rate: int,
) -> Sound:
    """Bring samples to one channel or two, and to one of RATES.

    Raises:
        EgoXInputError: no channels, a rate that can't be.
    """
    channels, rate = len(waveform), int(rate)
    if not channels or rate < 1:
        raise EgoXInputError(
            "sound",
            got=f"{channels} channels at {rate} Hz",
            expected="at least one channel and a rate above 0",
            fix="load the sound again",
        )
    samples = waveform.detach().float().cpu()
    if channels > 2 or rate not in RATES:
        import av

        packed = np.ascontiguousarray(samples.numpy().T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=_layout(channels))
        frame.sample_rate, frame.pts = rate, 0
        form = _HostForm(_host_rate(rate))
        pieces = [*form.pieces(frame), *form.pieces(None)]
        samples = torch.from_numpy(np.concatenate(pieces, axis=1))
    return Sound(waveform=_finite(samples), sample_rate=_host_rate(rate))


def read_sound(source: VideoSource, info: VideoInfo, selection: FrameSelection) -> Sound | None:
    """Read the sound from the first frame in use to one frame after the last, None without any.

    Shorter than the picture where the sound track ends early. Packets that can't be decoded are
    silent, and its notes name them.

    Raises:
        EgoXInputError: the file can't be opened.
    """
    if not info.has_audio:
        return None
    start = info.start_s + float(selection.times_s[0])
    length = min(len(selection.times_s) / selection.fps, LONGEST_S)
    with open_video(source) as container:
        stream = chosen_track(container.streams.audio)
        if stream is None:
            return None
        made_safe(stream)
        if start > LEAD_S and stream.time_base and info.pts:
            container.seek(int((start - LEAD_S) / stream.time_base), stream=stream)
        lost_packets: list[av.Packet] = []
        track = _Placed(start, length, info.joins_s)
        for frame in decoded_frames(container, stream, lost_packets):
            if not track.add(frame):
                break
        track.end_run()
    moments = [None if p.pts is None else float(p.pts * p.time_base) - start for p in lost_packets]
    damaged = [at for at in moments if at is None or -GAP_S < at < length]
    notes = ()
    if damaged:
        notes = (Remark(f"{len(damaged)} packets of its sound are damaged and left silent"),)
    if not track.end and not damaged:
        return None
    rate, samples = track.rate, track.samples
    if not track.end or samples is None:
        rate = RATES[-1]
        samples = np.zeros((1, round(length * rate)), np.float32)
    else:
        samples = samples[:, : track.end]
    return Sound(waveform=_finite(torch.from_numpy(samples)), sample_rate=rate, notes=notes)


def trim_sound(sound: Sound | None, selection: FrameSelection) -> Sound | None:
    """Cut a whole video's sound to the frames in use."""
    if sound is None:
        return None
    first = round(float(selection.times_s[0]) * sound.sample_rate)
    count = round(len(selection.times_s) / selection.fps * sound.sample_rate)
    part = sound.waveform[:, first : first + count]
    return host_sound(part, sound.sample_rate) if part.shape[-1] else None


def _finite(samples: Tensor) -> Tensor:
    return samples.nan_to_num(0, 1, -1).clamp(-LOUDEST, LOUDEST)


def _host_rate(rate: int) -> int:
    return rate if rate in RATES else RATES[-1]


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


class _HostForm:
    """Converter of frames of one format to one channel or two, at ``rate``, one of RATES."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._resampler: Any = None

    def pieces(self, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:  # [1 or 2, N]
        """Convert a frame to the samples that are ready, or None, the end, to those that remain."""
        for piece in self._resampled(frame):
            channels = piece.layout.nb_channels
            samples = piece.to_ndarray().reshape(-1, channels).T
            yield samples if channels < 3 else samples.mean(0, keepdims=True).repeat(2, axis=0)

    def _resampled(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        import av

        if self._resampler is not None:  # PyAV answers [None] where nothing was to be done
            return [piece for piece in self._resampler.resample(frame) if piece is not None]
        if frame is None:
            return []
        # Packed: PyAV reads beyond its arrays where 8 channels or more are planar.
        layout = _layout(min(frame.layout.nb_channels, 2))
        try:
            self._resampler = av.AudioResampler(format="flt", layout=layout, rate=self._rate)
            return self._resampler.resample(frame)
        except ValueError:  # channels that FFmpeg can't place: their mean
            self._resampler = av.AudioResampler(format="flt", rate=self._rate)
            return self._resampler.resample(frame)


class _Placed:
    """Samples from ``start`` (seconds by the file's stamps) on, each where its stamp says."""

    def __init__(self, start: float, length: float, joins_s: tuple[float, ...]) -> None:
        self.samples: np.ndarray | None = None  # [1 or 2, N]
        self.rate, self.end = 0, 0
        self._start, self._length, self._joins_s = start, length, joins_s
        self._form: _HostForm | None = None
        self._kind: tuple | None = None
        self._given, self._place = 0.0, 0  # next sample that comes in, that goes out
        self._latest, self._joined, self._beyond = -np.inf, 0, 0

    def add(self, frame: av.AudioFrame) -> bool:
        """Place a frame, and tell whether more of the wanted part may follow."""
        if frame.sample_rate < 1 or frame.layout.nb_channels < 1 or frame.samples < 1:
            return True
        self.rate = self.rate or _host_rate(frame.sample_rate)
        at = self._given if frame.time is None else self._sample_of(frame.time)
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        form = self._form
        if form is None or kind != self._kind or abs(at - self._given) > GAP_S * self.rate:
            self.end_run()
            self._kind, self._form = kind, (form := _HostForm(self.rate))
            self._given, self._place = at, round(at)
        self._given += frame.samples * self.rate / frame.sample_rate
        self._put(form.pieces(frame))
        return self._beyond < LEAD_S * self.rate

    def end_run(self) -> None:
        """Place what the converter still holds."""
        if self._form is not None:
            self._put(self._form.pieces(None))

    def _sample_of(self, moment_s: float) -> float:
        if moment_s < self._latest - JOIN_S and self._joined < len(self._joins_s):
            self._joined, self._latest = self._joined + 1, moment_s
        self._latest = max(self._latest, moment_s)
        join_s = self._joins_s[self._joined - 1] if self._joined else 0.0
        return (moment_s + join_s - self._start) * self.rate

    def _put(self, pieces: Iterator[np.ndarray]) -> None:
        count = round(self._length * self.rate)
        for piece in pieces:
            visible_piece = piece[:, max(-self._place, 0) : max(count - self._place, 0)]
            if self.samples is None:
                self.samples = np.zeros((len(piece), count), np.float32)
            if len(piece) > len(self.samples):
                self.samples = self.samples.repeat(2, axis=0)
            first = max(self._place, 0)
            if visible_piece.size:
                self.samples[:, first : first + visible_piece.shape[1]] = visible_piece
                self.end = max(self.end, first + visible_piece.shape[1])
            self._place += piece.shape[1]
            self._beyond = self._beyond + piece.shape[1] if first >= count else 0
