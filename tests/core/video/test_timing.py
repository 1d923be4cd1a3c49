"""Test the frame rate of videos and the sound that ComfyUI gets with them."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.video.audio import RATES, host_sound
from egox_core.video.clip import open_clip
from egox_core.video.timing import frame_rate
from tests.core.video.damaged_packets import damage_packets
from tests.refusals import refuses
from tests.uneven_clip import write_uneven_clip

av = pytest.importorskip("av", reason="decodes video")
TONE_HZ = 440
FRAME_NUMBERS = np.arange(60.0)
JITTER_S = np.random.default_rng(3).uniform(-0.005, 0.005, 60)
PULLED_DOWN_TIMES = np.cumsum([0, *([3, 2] * 30)])[:60] / 60 * 1.001  # 24 a second in fields of 60
SLOWING_TIMES = np.concatenate([np.arange(10) / 30, 9 / 30 + np.arange(1, 17) / 10])
SKIPPED_FRAME_TIMES = (FRAME_NUMBERS[:38] + (FRAME_NUMBERS[:38] > 0)) / (
    30 / 1.001
)  # one frame is missing behind the first


@pytest.mark.parametrize(
    ("times_s", "stated_fps", "expected_fps"),
    [  # frames a second
        (FRAME_NUMBERS / 24, 24.0, 24.0),
        (np.round(FRAME_NUMBERS * 1.001 / 30, 3), 30 / 1.001, 30 / 1.001),
        (FRAME_NUMBERS / 29.83, 29.83, 29.83),  # a phone's
        (FRAME_NUMBERS / 24.3, 24.3000001, 24.3000001),  # bit for bit
        (FRAME_NUMBERS / 30 + JITTER_S, 1000.0, 30.0),  # a browser's WebM
        (FRAME_NUMBERS / 30 + JITTER_S, 90000.0, 30.0),
        (PULLED_DOWN_TIMES, 30 / 1.001, 24 / 1.001),
        (np.delete(FRAME_NUMBERS, slice(4, None, 5)) / 30, 30.0, 24.0),  # dropped chunks of AVI
        (SLOWING_TIMES, 30.0, 25 / 1.9),
        (SKIPPED_FRAME_TIMES, 29.18, 30 / 1.001),
        ((FRAME_NUMBERS + (FRAME_NUMBERS > 0)) / 30, 30.0, 30.0),
        (np.append(FRAME_NUMBERS[:34], 36) / 30, 30.0, 30.0),  # the last picture before a cut
        (np.append(FRAME_NUMBERS[:34], 36) / 27.3, 25.0, 27.3),
        (FRAME_NUMBERS[:9] / 30.2, 0.0, 30.2),
        (FRAME_NUMBERS[:1], 25.0, 25.0),
        (FRAME_NUMBERS[:1], 0.0, 0.0),
    ],
)
def test_stated_frame_rate_is_used_only_if_the_times_agree(times_s, stated_fps, expected_fps):
    measured_fps = frame_rate(times_s, stated_fps)
    assert measured_fps == (
        expected_fps if stated_fps == expected_fps else pytest.approx(expected_fps, rel=2e-3)
    )


def test_frame_rate_is_that_of_the_frames_in_use(tmp_path):
    video_file = write_uneven_clip(tmp_path / "phone.mkv")
    assert open_clip(video_file, frame_count=57).info.fps == pytest.approx(59 / 3.9)
    for start, expected_fps in ((0, 30), (45, 10)):
        trimmed_clip = open_clip(video_file, start_frame=start, frame_count=13)
        assert trimmed_clip.selection.fps == expected_fps
        assert f"and {expected_fps} that of the frames in use" in str(trimmed_clip.notes[0])


def write_video_with_sound(
    path: Path,
    waveform: np.ndarray,  # [channels, N] -1...1
    sample_rate: int,
    layout: str,
    codec: str = "pcm_s16le",
    frame_time_s=lambda number: number / 30,
) -> Path:
    """Write a grey video of two seconds with a sound track."""
    with av.open(str(path), "w") as container:
        picture_stream = container.add_stream("libx264", rate=30, options={"bf": "0"})
        picture_stream.width, picture_stream.height, picture_stream.pix_fmt = 64, 48, "yuv420p"
        picture_stream.codec_context.time_base = Fraction(1, 90000)
        audio_stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * number, np.uint8))
            frame.pts, frame.time_base = round(frame_time_s(number) * 90000), Fraction(1, 90000)
            container.mux(picture_stream.encode(frame))
            frame_sound = waveform[:, number * sample_rate // 30 : (number + 1) * sample_rate // 30]
            sound_samples = np.round(frame_sound.T * 32767).astype(np.int16).reshape(1, -1)
            audio_frame = av.AudioFrame.from_ndarray(sound_samples, format="s16", layout=layout)
            audio_frame.sample_rate = sample_rate
            audio_frame.pts = number * sample_rate // 30
            container.mux(audio_stream.encode(audio_frame))
        container.mux([*picture_stream.encode(None), *audio_stream.encode(None)])
    return path


def sine_tone(sample_rate: int, channels: int) -> np.ndarray:
    times = np.arange(2 * sample_rate) / sample_rate
    return np.repeat(0.25 * np.sin(2 * math.pi * TONE_HZ * times)[None], channels, axis=0)


def beep_starts(waveform: torch.Tensor, sample_rate: int) -> list[float]:
    """Find the times in seconds at which beeps begin in a sound track."""
    levels = waveform.abs().amax(0)[
        : waveform.shape[1] // (sample_rate // 50) * (sample_rate // 50)
    ]
    is_loud = levels.reshape(-1, sample_rate // 50).amax(1) > 0.05
    return [i / 50 for i in range(len(is_loud)) if is_loud[i] and not (i and is_loud[i - 1])]


@pytest.mark.parametrize(
    ("suffix", "codec", "layout", "channels", "sample_rate"),
    [
        ("mov", "pcm_s16le", "mono", 1, 48000),
        ("mov", "pcm_s16le", "stereo", 2, 44100),
        ("mov", "pcm_s16le", "2.1", 3, 48000),
        ("mov", "pcm_s16le", "quad", 4, 48000),
        ("mov", "pcm_s16le", "5.1", 6, 48000),
        ("mov", "pcm_s16le", "7.1", 8, 48000),  # MOV names each channel
        ("mkv", "aac", "7.1", 8, 48000),
        ("mkv", "libopus", "7.1", 8, 48000),
        ("mkv", "flac", "6.1", 7, 44100),
        ("mov", "pcm_s16le", "hexadecagonal", 16, 48000),
        ("mkv", "pcm_s16le", "9 channels", 9, 48000),  # FFmpeg knows no places for them
        ("mov", "pcm_s16le", "mono", 1, 192000),
        ("mov", "pcm_s16le", "stereo", 2, 11024),
        ("mov", "pcm_s16le", "mono", 1, 1000),
    ],
)
def test_sound_is_converted_to_a_form_that_comfyui_can_save(
    tmp_path, suffix, codec, layout, channels, sample_rate
):
    """Check that unusual channel layouts, on which PyAV's conversion crashes, become saveable
    sound."""
    video_file = tmp_path / f"film.{suffix}"
    write_video_with_sound(video_file, sine_tone(sample_rate, channels), sample_rate, layout, codec)
    sound = open_clip(video_file, frame_count=57).sound()
    assert sound.sample_rate == (sample_rate if sample_rate in RATES else 48000)
    assert not sound.notes
    assert sound.waveform.shape == (min(channels, 2), 1.9 * sound.sample_rate)
    spectrum = torch.fft.rfft(sound.waveform).abs()
    assert spectrum.argmax(1).tolist() == [TONE_HZ * 1.9] * min(channels, 2)
    memory_sound = host_sound(torch.from_numpy(sine_tone(sample_rate, channels)), sample_rate)
    assert memory_sound.sample_rate == sound.sample_rate
    assert memory_sound.waveform.shape == (min(channels, 2), 2 * sound.sample_rate)


def test_sound_in_memory_is_used_unchanged_or_refused():
    waveform = torch.randn(2, 4410)
    assert torch.equal(host_sound(waveform, 44100).waveform, waveform)
    assert host_sound(torch.tensor([[math.nan, math.inf, 0.5]]), 8000).waveform.tolist() == [
        [0, 1, 0.5]
    ]
    for channels, sample_rate in ((0, 48000), (2, 0)):
        with refuses("at least one channel"):
            host_sound(torch.zeros(channels, 9), sample_rate)


def test_damaged_sound_packets_are_silent_and_remarked(tmp_path):
    sample_rate = 48000
    intact_file = write_video_with_sound(
        tmp_path / "whole.mkv", sine_tone(sample_rate, 1), sample_rate, "mono", "aac"
    )
    damaged_file = tmp_path / "damaged.mkv"
    damage_packets(
        intact_file,
        damaged_file,
        lambda packet, _: (
            packet.stream.type == "audio" and 0.5 < packet.pts * packet.time_base < 0.6
        ),
    )
    sound = open_clip(damaged_file, frame_count=57).sound()
    assert "packets of its sound are damaged" in str(sound.notes[0])
    assert sound.waveform.shape == (1, 1.9 * sample_rate)
    is_loud = sound.waveform[0].reshape(19, -1).abs().amax(1) > 0.2
    damaged_sound = sound.waveform[0, round(0.54 * sample_rate) : round(0.57 * sample_rate)]
    assert damaged_sound.abs().max() < 0.01
    assert is_loud.sum() == 19


def test_concatenated_recordings_keep_their_sound(tmp_path):
    """Check that joined mono and stereo recordings keep their sound though their time stamps
    restart."""
    sample_rate = 48000
    file_contents = []
    for channels, layout in ((1, "mono"), (2, "stereo")):
        sound = sine_tone(sample_rate, channels)
        sound[:, : sample_rate // 2] = sound[:, sample_rate // 2 + sample_rate // 10 :] = 0
        recording_file = write_video_with_sound(
            tmp_path / f"{layout}.ts", sound, sample_rate, layout, "mp2"
        )
        file_contents.append(recording_file.read_bytes())
    (tmp_path / "joined.ts").write_bytes(b"".join(file_contents))
    joined_clip = open_clip(tmp_path / "joined.ts", frame_count=117)
    assert joined_clip.info.fps == 30 and joined_clip.info.times_s[-1] == pytest.approx(
        119 / 30, abs=1e-3
    )
    joined_sound = joined_clip.sound()
    assert joined_sound.waveform.shape == (2, 3.9 * sample_rate)
    assert beep_starts(joined_sound.waveform, sample_rate) == pytest.approx([0.5, 2.5], abs=0.03)
    grey_levels = joined_clip.read()[::30, 24, 32, 0].tolist()
    assert grey_levels == pytest.approx([0, 120, 0, 120], abs=4)
