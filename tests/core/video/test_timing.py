"""A video's rate, and the sound that the host gets with it."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.video.audio import RATES, host_sound
from egox_core.video.clip import open_clip
from egox_core.video.timing import frame_rate
from tests.refusals import refuses
from tests.uneven_clip import uneven_clip

av = pytest.importorskip("av", reason="decodes video")
TONE_HZ = 440
EVEN = np.arange(60.0)
JITTER = np.random.default_rng(3).uniform(-0.005, 0.005, 60)
PULLED_DOWN = np.cumsum([0, *([3, 2] * 30)])[:60] / 60 * 1.001  # 24 a second in fields of 60
SLOWER = np.concatenate([np.arange(10) / 30, 9 / 30 + np.arange(1, 17) / 10])
HELD = (EVEN[:38] + (EVEN[:38] > 0)) / (30 / 1.001)  # one frame is missing behind the first


@pytest.mark.parametrize(
    ("times_s", "stated", "expected"),
    [  # frames a second
        (EVEN / 24, 24.0, 24.0),
        (np.round(EVEN * 1.001 / 30, 3), 30 / 1.001, 30 / 1.001),
        (EVEN / 29.83, 29.83, 29.83),  # a phone's
        (EVEN / 24.3, 24.3000001, 24.3000001),  # bit for bit
        (EVEN / 30 + JITTER, 1000.0, 30.0),  # a browser's WebM
        (EVEN / 30 + JITTER, 90000.0, 30.0),
        (PULLED_DOWN, 30 / 1.001, 24 / 1.001),
        (np.delete(EVEN, slice(4, None, 5)) / 30, 30.0, 24.0),  # dropped chunks of AVI
        (SLOWER, 30.0, 25 / 1.9),
        (HELD, 29.18, 30 / 1.001),
        ((EVEN + (EVEN > 0)) / 30, 30.0, 30.0),
        (np.append(EVEN[:34], 36) / 30, 30.0, 30.0),  # the last picture before a cut
        (np.append(EVEN[:34], 36) / 27.3, 25.0, 27.3),
        (EVEN[:9] / 30.2, 0.0, 30.2),
        (EVEN[:1], 25.0, 25.0),
        (EVEN[:1], 0.0, 0.0),
    ],
)
def test_the_rate_is_the_stated_one_only_where_it_holds(times_s, stated, expected):
    rate = frame_rate(times_s, stated)
    assert rate == (expected if stated == expected else pytest.approx(expected, rel=2e-3))


def test_the_rate_is_that_of_the_frames_in_use(tmp_path):
    clip = uneven_clip(tmp_path / "phone.mkv")
    assert open_clip(clip, frame_count=57).info.fps == pytest.approx(59 / 3.9)
    for start, expected in ((0, 30), (45, 10)):
        trimmed_clip = open_clip(clip, start_frame=start, frame_count=13)
        assert trimmed_clip.selection.fps == expected
        assert f"and {expected} that of the frames in use" in str(trimmed_clip.notes[0])


def with_sound(
    path: Path,
    sound: np.ndarray,  # [channels, N] -1...1
    rate: int,
    layout: str,
    codec: str = "pcm_s16le",
    pts_s=lambda number: number / 30,
) -> Path:
    """Write two seconds of grey with this sound."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=30, options={"bf": "0"})
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        picture.codec_context.time_base = Fraction(1, 90000)
        track = container.add_stream(codec, rate=rate, layout=layout)
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * number, np.uint8))
            frame.pts, frame.time_base = round(pts_s(number) * 90000), Fraction(1, 90000)
            container.mux(picture.encode(frame))
            part = sound[:, number * rate // 30 : (number + 1) * rate // 30]
            samples = np.round(part.T * 32767).astype(np.int16).reshape(1, -1)
            heard = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
            heard.sample_rate, heard.pts = rate, number * rate // 30
            container.mux(track.encode(heard))
        container.mux([*picture.encode(None), *track.encode(None)])
    return path


def tone(rate: int, channels: int) -> np.ndarray:
    times = np.arange(2 * rate) / rate
    return np.repeat(0.25 * np.sin(2 * math.pi * TONE_HZ * times)[None], channels, axis=0)


def beeps(waveform: torch.Tensor, rate: int) -> list[float]:
    """Find the seconds at which beeps begin."""
    parts = waveform.abs().amax(0)[: waveform.shape[1] // (rate // 50) * (rate // 50)]
    loud = parts.reshape(-1, rate // 50).amax(1) > 0.05
    return [i / 50 for i in range(len(loud)) if loud[i] and not (i and loud[i - 1])]


@pytest.mark.parametrize(
    ("suffix", "codec", "layout", "channels", "rate"),
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
def test_the_host_gets_sound_that_it_can_save(tmp_path, suffix, codec, layout, channels, rate):
    """PyAV itself ends the process on 8 planar channels, and on channels that a container names."""
    path = tmp_path / f"film.{suffix}"
    with_sound(path, tone(rate, channels), rate, layout, codec)
    heard = open_clip(path, frame_count=57).sound()
    assert heard.sample_rate == (rate if rate in RATES else 48000) and not heard.notes
    assert heard.waveform.shape == (min(channels, 2), 1.9 * heard.sample_rate)
    spectrum = torch.fft.rfft(heard.waveform).abs()
    assert spectrum.argmax(1).tolist() == [TONE_HZ * 1.9] * min(channels, 2)
    from_memory = host_sound(torch.from_numpy(tone(rate, channels)), rate)
    assert from_memory.sample_rate == heard.sample_rate
    assert from_memory.waveform.shape == (min(channels, 2), 2 * heard.sample_rate)


def test_sound_in_memory_stays_or_is_refused():
    plain = torch.randn(2, 4410)
    assert torch.equal(host_sound(plain, 44100).waveform, plain)
    assert host_sound(torch.tensor([[math.nan, math.inf, 0.5]]), 8000).waveform.tolist() == [
        [0, 1, 0.5]
    ]
    for channels, rate in ((0, 48000), (2, 0)):
        with refuses("at least one channel"):
            host_sound(torch.zeros(channels, 9), rate)


def test_damaged_packets_of_sound_are_silent_and_said(tmp_path):
    rate = 48000
    path = with_sound(tmp_path / "whole.mkv", tone(rate, 1), rate, "mono", "aac")
    damaged = tmp_path / "damaged.mkv"
    with av.open(str(path)) as old, av.open(str(damaged), "w") as new:
        tracks = [new.add_stream_from_template(each) for each in old.streams]
        for packet in old.demux():
            if packet.size:
                if packet.stream.type == "audio" and 0.5 < packet.pts * packet.time_base < 0.6:
                    bad = av.Packet(b"\xff" * packet.size)
                    bad.pts, bad.dts, bad.time_base = packet.pts, packet.dts, packet.time_base
                    packet, track = bad, tracks[1]
                else:
                    track = tracks[packet.stream.index]
                packet.stream = track
                new.mux(packet)
    heard = open_clip(damaged, frame_count=57).sound()
    assert "packets of its sound are damaged" in str(heard.notes[0])
    assert heard.waveform.shape == (1, 1.9 * rate)
    loud = heard.waveform[0].reshape(19, -1).abs().amax(1) > 0.2
    silent = heard.waveform[0, round(0.54 * rate) : round(0.57 * rate)]
    assert silent.abs().max() < 0.01 and loud.sum() == 19


def test_recordings_put_end_to_end_keep_their_sound(tmp_path):
    """Each begins its stamps anew. One is mono, the other stereo."""
    rate, parts = 48000, []
    for channels, layout in ((1, "mono"), (2, "stereo")):
        sound = tone(rate, channels)
        sound[:, : rate // 2] = sound[:, rate // 2 + rate // 10 :] = 0
        path = with_sound(tmp_path / f"{layout}.ts", sound, rate, layout, "mp2")
        parts.append(path.read_bytes())
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    joined = open_clip(tmp_path / "joined.ts", frame_count=117)
    assert joined.info.fps == 30 and joined.info.times_s[-1] == pytest.approx(119 / 30, abs=1e-3)
    heard = joined.sound()
    assert heard.waveform.shape == (2, 3.9 * rate)
    assert beeps(heard.waveform, rate) == pytest.approx([0.5, 2.5], abs=0.03)
    levels = joined.read()[::30, 24, 32, 0].tolist()
    assert levels == pytest.approx([0, 120, 0, 120], abs=4)


def test_jittered_stamps_keep_rate_and_sound(tmp_path):
    """TS then states 90,000 frames a second, and the sound was of 60 of those."""
    rate, sound = 48000, tone(48000, 1)
    sound[:, : rate // 2] = sound[:, rate // 2 + rate // 10 :] = 0
    path = tmp_path / "stream.ts"
    with_sound(path, sound, rate, "mono", "mp2", pts_s=lambda i: 0.1 + i / 30 + JITTER[i])
    clip = open_clip(path, frame_count=57)
    assert clip.info.fps == clip.selection.fps == pytest.approx(30, rel=0.002)
    heard = clip.sound()
    assert heard.waveform.shape[1] == pytest.approx(1.9 * rate, rel=0.002)
    assert beeps(heard.waveform, rate) == pytest.approx([0.4], abs=0.03)


@pytest.mark.parametrize(("rate", "said"), [(600, True), (240, False)])
def test_times_that_only_a_high_speed_camera_has_are_said(tmp_path, rate, said):
    path = tmp_path / "copied.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for _ in range(9):
            picture = np.zeros((48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    clip = open_clip(path, frame_count=9)
    assert clip.info.fps == rate
    assert any("high-speed camera" in str(note) for note in clip.notes) == said
