"""Files whose end is missing, or one picture of them: said, and never of a whole one."""

import io
import re
from pathlib import Path

import numpy as np
import pytest

from egox_core.video.clip import open_clip
from egox_core.video.containers import cut_off
from egox_core.video.reader import decode_frames, probe_video
from tests.refusals import refuses

av = pytest.importorskip("av", reason="decodes video")
PIXELS = {"mjpeg": "yuvj420p"}
FASTSTART, FRAGMENTED = {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}


def written(path: Path, codec: str = "libx264", pixels: str = "", **options) -> Path:
    """Write 60 noisy frames, each of a grey of its own."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=30, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels or PIXELS.get(codec, "yuv420p")
        for number in range(60):
            picture = np.uint8(3 * number + noise.integers(0, 40, (48, 64, 3)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "words"),
    [
        ("mp4", "libx264", FASTSTART, r"\d+ of 60 frames, .* MB are there"),
        ("mov", "libx264", FASTSTART, r"\d+ of 60 frames, "),
        ("avi", "mjpeg", {}, r"[\d.]+ of [\d.]+ MB"),
        ("mkv", "libx264", {}, r"[\d.]+ of [\d.]+ MB"),
        ("webm", "libvpx", {}, r"[\d.]+ of [\d.]+ MB"),
        ("mp4", "libx264", FRAGMENTED, r"[\d.]+ of [\d.]+ MB|^$"),  # unless cut between two parts
        ("webm", "libvpx", {"live": "1"}, "^$"),  # nothing tells
        ("ts", "libx264", {}, "^$"),
    ],
)
def test_a_file_that_is_cut_off_is_said_to_be(tmp_path, suffix, codec, options, words):
    uncut_file = written(tmp_path / f"whole.{suffix}", codec, **options)
    content = uncut_file.read_bytes()
    info = probe_video(uncut_file)
    assert info.frame_count == 60 and "end" not in dict(info.remarks)
    part = io.BytesIO(content[: round(0.6 * len(content))])
    rest = probe_video(part)
    assert 10 < rest.frame_count < 60
    match = re.search(words, dict(rest.remarks).get("end", ""))
    assert match, rest.remarks
    if words != "^$":
        assert "cut off" in str(open_clip(part, frame_count=9).notes[0])
        with refuses("cut off"):
            open_clip(part, frame_count=57)
    assert not cut_off(io.BytesIO(content + bytes(100))), "what lies behind a file is none of it"


def test_a_recording_without_its_index_is_named(tmp_path):
    """It comes last, where nothing put it first."""
    content = written(tmp_path / "camera.mp4").read_bytes()
    with refuses("cut off: its index .moov. is missing"):
        probe_video(io.BytesIO(content[: content.rindex(b"moov") - 4]))


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        ("mkv", "ffv1", "yuv420p"),
        ("mov", "png", "rgb24"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("mkv", "libvpx", "yuv420p"),
    ],
)
def test_one_damaged_picture_is_named_or_left_out(tmp_path, suffix, codec, pixels):
    path, damaged = written(tmp_path / f"a.{suffix}", codec, pixels), tmp_path / f"b.{suffix}"
    with av.open(str(path)) as old, av.open(str(damaged), "w") as new:
        track = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            if number == 30:
                bad = av.Packet(b"\x07" * packet.size)
                bad.pts, bad.dts, bad.time_base = packet.pts, packet.dts, packet.time_base
                packet = bad
            packet.stream = track
            new.mux(packet)
    info = probe_video(damaged)
    before, after = (
        [frame for _, frame in decode_frames(damaged, info, part)]
        for part in (range(20, 30), range(40, 50))
    )
    expected = np.array([*range(20, 30), *range(40, 50)]) * 3 + 19.5
    levels = np.array([frame.mean() for frame in (*before, *after)])
    assert np.abs(levels - expected).max() < 4
    if info.frame_count == 60:
        with refuses("frame 30 missing or corrupt"):
            list(decode_frames(damaged, info, [29, 30, 31]))
