"""Read the sound of the frames in use in a form that every encoder supports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..remarks import Remark
from ..types import FrameSelection, Sound
from .selection import VideoInfo
from .source import VideoSource, open_video
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
    """Convert samples to one or two channels, at one of RATES.

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

        packed_samples = np.ascontiguousarray(samples.numpy().T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            packed_samples, format="flt", layout=_layout_name(channels)
        )
        frame.sample_rate = rate
        frame.pts = 0
        resampler = _HostResampler(_host_rate(rate))
        resampled_pieces = [*resampler.pieces(frame), *resampler.pieces(None)]
        samples = torch.from_numpy(np.concatenate(resampled_pieces, axis=1))
    return Sound(waveform=_clean_samples(samples), sample_rate=_host_rate(rate))


def read_sound(source: VideoSource, info: VideoInfo, selection: FrameSelection) -> Sound | None:
    """Read the sound of the frames in use, or return None for a video without sound.

    It ends one frame after the last, or earlier if the track does. Packets that can't be decoded
    are silent, and its notes name them.

    Raises:
        EgoXInputError: the file can't be opened.
    """
    if not info.has_audio:
        return None
    start_s = info.start_s + float(selection.times_s[0])
    length_s = min(len(selection.times_s) / selection.fps, LONGEST_S)
    with open_video(source) as container:
        stream = chosen_track(container.streams.audio)
        if stream is None:
            return None
        made_safe(stream)
        if start_s > LEAD_S and stream.time_base and info.pts:
            container.seek(int((start_s - LEAD_S) / stream.time_base), stream=stream)
        lost_packets: list[av.Packet] = []
        track = _PlacedSamples(start_s, length_s, info.joins_s)
        for frame in decoded_frames(container, stream, lost_packets):
            if not track.add(frame):
                break
        track.end_run()
    moments = [
        None if packet.pts is None else float(packet.pts * packet.time_base) - start_s
        for packet in lost_packets
    ]
    damaged_moments = [moment for moment in moments if moment is None or -GAP_S < moment < length_s]
    notes = ()
    if damaged_moments:
        notes = (
            Remark(f"{len(damaged_moments)} packets of its sound are damaged and left silent"),
        )
    if not track.end and not damaged_moments:
        return None
    rate, samples = track.rate, track.samples
    if not track.end or samples is None:
        rate = RATES[-1]
        samples = np.zeros((1, round(length_s * rate)), np.float32)
    else:
        samples = samples[:, : track.end]
    return Sound(waveform=_clean_samples(torch.from_numpy(samples)), sample_rate=rate, notes=notes)


def trim_sound(sound: Sound | None, selection: FrameSelection) -> Sound | None:
    """Cut a whole video's sound to the frames in use."""
    if sound is None:
        return None
    first_sample = round(float(selection.times_s[0]) * sound.sample_rate)
    count = round(len(selection.times_s) / selection.fps * sound.sample_rate)
    trimmed_waveform = sound.waveform[:, first_sample : first_sample + count]
    return host_sound(trimmed_waveform, sound.sample_rate) if trimmed_waveform.shape[-1] else None


def _clean_samples(samples: Tensor) -> Tensor:
    return samples.nan_to_num(0, 1, -1).clamp(-LOUDEST, LOUDEST)


def _host_rate(rate: int) -> int:
    return rate if rate in RATES else RATES[-1]


def _layout_name(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


class _HostResampler:
    """Resampler of audio frames of one format to one or two channels at ``rate``."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._resampler: Any = None

    def pieces(self, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:  # [1 or 2, N]
        """Convert an audio frame to the samples that are ready, or flush the remaining ones for
        None."""
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
        layout = _layout_name(min(frame.layout.nb_channels, 2))
        try:
            self._resampler = av.AudioResampler(format="flt", layout=layout, rate=self._rate)
            return self._resampler.resample(frame)
        except ValueError:  # channels that FFmpeg can't place: their mean
            self._resampler = av.AudioResampler(format="flt", rate=self._rate)
            return self._resampler.resample(frame)


class _PlacedSamples:
    """Samples of a sound track from ``start`` (seconds) on, each placed by its time stamp."""

    def __init__(self, start: float, length: float, joins_s: tuple[float, ...]) -> None:
        self.samples: np.ndarray | None = None  # [1 or 2, N]
        self.rate, self.end = 0, 0
        self._start, self._length, self._joins_s = start, length, joins_s
        self._resampler_of_format: _HostResampler | None = None
        self._frame_format: tuple | None = None
        self._next_input, self._next_output = 0.0, 0  # next sample that comes in, that goes out
        self._latest_s = -np.inf
        self._joins_passed = 0
        self._samples_beyond = 0

    def add(self, frame: av.AudioFrame) -> bool:
        """Place an audio frame, and return whether more samples of the wanted range may follow."""
        if frame.sample_rate < 1 or frame.layout.nb_channels < 1 or frame.samples < 1:
            return True
        self.rate = self.rate or _host_rate(frame.sample_rate)
        sample_number = self._next_input if frame.time is None else self._sample_of(frame.time)
        frame_format = frame.format.name, frame.layout.name, frame.sample_rate
        resampler = self._resampler_of_format
        if (
            resampler is None
            or frame_format != self._frame_format
            or abs(sample_number - self._next_input) > GAP_S * self.rate
        ):
            self.end_run()
            resampler = _HostResampler(self.rate)
            self._frame_format = frame_format
            self._resampler_of_format = resampler
            self._next_input, self._next_output = sample_number, round(sample_number)
        self._next_input += frame.samples * self.rate / frame.sample_rate
        self._write_pieces(resampler.pieces(frame))
        return self._samples_beyond < LEAD_S * self.rate

    def end_run(self) -> None:
        """Place the samples that are still in the resampler."""
        if self._resampler_of_format is not None:
            self._write_pieces(self._resampler_of_format.pieces(None))

    def _sample_of(self, moment_s: float) -> float:
        if moment_s < self._latest_s - JOIN_S and self._joins_passed < len(self._joins_s):
            self._joins_passed = self._joins_passed + 1
            self._latest_s = moment_s
        self._latest_s = max(self._latest_s, moment_s)
        join_s = self._joins_s[self._joins_passed - 1] if self._joins_passed else 0.0
        return (moment_s + join_s - self._start) * self.rate

    def _write_pieces(self, pieces: Iterator[np.ndarray]) -> None:
        count = round(self._length * self.rate)
        for piece in pieces:
            visible_piece = piece[:, max(-self._next_output, 0) : max(count - self._next_output, 0)]
            if self.samples is None:
                self.samples = np.zeros((len(piece), count), np.float32)
            if len(piece) > len(self.samples):
                self.samples = self.samples.repeat(2, axis=0)
            first_sample = max(self._next_output, 0)
            if visible_piece.size:
                self.samples[:, first_sample : first_sample + visible_piece.shape[1]] = (
                    visible_piece
                )
                self.end = max(self.end, first_sample + visible_piece.shape[1])
            self._next_output += piece.shape[1]
            self._samples_beyond = (
                self._samples_beyond + piece.shape[1] if first_sample >= count else 0
            )
