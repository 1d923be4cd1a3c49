"""Test that truncated and damaged video files are reported."""

import io
import re
from pathlib import Path

import numpy as np
import pytest

from egox_core.video import decode_frames, probe_video
from egox_core.video.clip import open_clip
from egox_core.video.containers import cut_off
from tests.core.video.damaged_packets import damage_packets
from tests.core.video.test_video import encode
from tests.refusals import refuses

av = pytest.importorskip("av", reason="decodes video")
FASTSTART_OPTIONS, FRAGMENTED = {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}


def write_noisy_video(
    path: Path, codec: str = "libx264", pixel_format: str = "", **container_options
) -> Path:
    """Write a video of 60 noisy frames, each with another grey level."""
    noise = np.random.default_rng(0).integers(0, 40, (60, 48, 64, 3))
    pictures = np.uint8(3 * np.arange(60)[:, None, None, None] + noise)
    pixel_format = pixel_format or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
    encode(path, pictures, codec, pixel_format, {"g": "10"}, container_options=container_options)
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
    damage_packets(path, damaged_file, lambda _, number: number == 30)
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
