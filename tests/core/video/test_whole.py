"""Test that truncated and damaged video files are reported."""

import io
import re
from pathlib import Path

import numpy as np
import pytest

from egox_core.video import decode_frames, probe_video
from egox_core.video.clip import open_clip
from egox_core.video.containers import cut_off
from tests.refusals import refuses

av = pytest.importorskip("av", reason="decodes video")
PIXEL_FORMATS = {"mjpeg": "yuvj420p"}
FASTSTART_OPTIONS, FRAGMENTED = {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}


def write_noisy_video(
    path: Path, codec: str = "libx264", pixel_format: str = "", **options
) -> Path:
    """Write a video of 60 noisy frames, each with another grey level."""
    noise_generator = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=30, options={"g": "10"})
        stream.width = 64
        stream.height = 48
        stream.pix_fmt = pixel_format or PIXEL_FORMATS.get(codec, "yuv420p")
        for number in range(60):
            picture = np.uint8(3 * number + noise_generator.integers(0, 40, (48, 64, 3)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "remark_pattern"),
    [
        ("mp4", "libx264", FASTSTART_OPTIONS, r"\d+ of 60 frames, .* MB are there"),
        ("mov", "libx264", FASTSTART_OPTIONS, r"\d+ of 60 frames, "),
        ("avi", "mjpeg", {}, r"[\d.]+ of [\d.]+ MB"),
        ("mkv", "libx264", {}, r"[\d.]+ of [\d.]+ MB"),
        ("webm", "libvpx", {}, r"[\d.]+ of [\d.]+ MB"),
        ("mp4", "libx264", FRAGMENTED, r"[\d.]+ of [\d.]+ MB|^$"),  # unless cut between two parts
        ("webm", "libvpx", {"live": "1"}, "^$"),  # nothing tells
        ("ts", "libx264", {}, "^$"),
    ],
)
def test_truncated_video_is_remarked(tmp_path, suffix, codec, options, remark_pattern):
    uncut_file = write_noisy_video(tmp_path / f"whole.{suffix}", codec, **options)
    video_bytes = uncut_file.read_bytes()
    info = probe_video(uncut_file)
    assert info.frame_count == 60
    assert "end" not in dict(info.remarks)
    truncated_file = io.BytesIO(video_bytes[: round(0.6 * len(video_bytes))])
    truncated_info = probe_video(truncated_file)
    assert 10 < truncated_info.frame_count < 60
    remark_match = re.search(remark_pattern, dict(truncated_info.remarks).get("end", ""))
    assert remark_match, truncated_info.remarks
    if remark_pattern != "^$":
        assert "cut off" in str(open_clip(truncated_file, frame_count=9).notes[0])
        with refuses("cut off"):
            open_clip(truncated_file, frame_count=57)
    assert not cut_off(io.BytesIO(video_bytes + bytes(100))), (
        "what lies behind a file is none of it"
    )


def test_video_without_its_index_is_refused(tmp_path):
    """Check that a recording whose end, which contains the index, is cut off is refused."""
    video_bytes = write_noisy_video(tmp_path / "camera.mp4").read_bytes()
    with refuses("cut off: its index .moov. is missing"):
        probe_video(io.BytesIO(video_bytes[: video_bytes.rindex(b"moov") - 4]))


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
def test_single_damaged_picture_is_refused_or_left_out(tmp_path, suffix, codec, pixels):
    path = write_noisy_video(tmp_path / f"a.{suffix}", codec, pixels)
    damaged_file = tmp_path / f"b.{suffix}"
    with (
        av.open(str(path)) as source_container,
        av.open(str(damaged_file), "w") as target_container,
    ):
        video_stream = target_container.add_stream_from_template(source_container.streams.video[0])
        for number, packet in enumerate(
            source_packet for source_packet in source_container.demux(video=0) if source_packet.size
        ):
            if number == 30:
                damaged_packet = av.Packet(b"\x07" * packet.size)
                damaged_packet.pts, damaged_packet.dts, damaged_packet.time_base = (
                    packet.pts,
                    packet.dts,
                    packet.time_base,
                )
                packet = damaged_packet
            packet.stream = video_stream
            target_container.mux(packet)
    info = probe_video(damaged_file)
    frames_before, frames_after = (
        [frame for _, frame in decode_frames(damaged_file, info, indices)]
        for indices in (range(20, 30), range(40, 50))
    )
    expected_levels = np.array([*range(20, 30), *range(40, 50)]) * 3 + 19.5
    grey_levels = np.array([frame.mean() for frame in (*frames_before, *frames_after)])
    assert np.abs(grey_levels - expected_levels).max() < 4
    if info.frame_count == 60:
        with refuses("frame 30 missing or corrupt"):
            list(decode_frames(damaged_file, info, [29, 30, 31]))
