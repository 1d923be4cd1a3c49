"""Video in and out: only the frames needed, by index; sizes, rates and defects named."""

import io
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.video.audio import read_sound
from egox_core.video.reader import decode_frames, probe_video, read_frames
from egox_core.video.selection import camera_of_frames, select_frames, source_rectangle
from egox_train.video_writer import write_video
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

av = pytest.importorskip("av", reason="decodes video")
RATE = 20.0


def numbered_frames(
    count: int, height: int = 48, width: int = 80
) -> torch.Tensor:  # [T, H, W, 3] uint8
    """Frame t is a grey of 4 t, with a red left edge and a blue right edge that survive the
    codec."""
    frames = torch.zeros(count, height, width, 3, dtype=torch.uint8)
    frames += (4 * torch.arange(count, dtype=torch.uint8))[:, None, None, None]
    frames[:, :, :16] = torch.tensor([250, 5, 5], dtype=torch.uint8)
    frames[:, :, -16:] = torch.tensor([5, 5, 250], dtype=torch.uint8)
    return frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory, add_sound) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    tone = torch.sin(torch.arange(44100 * 3) * (2 * math.pi * 440 / 44100))[None] * 0.5
    tone[:, :44100] = 0  # silent for a second: the trim can be told from the tone
    write_video(path, numbered_frames(60), RATE)
    add_sound(path, tone.numpy(), 44100)
    return path


def patches(path: Path, transfer: int, levels: list[float]) -> None:
    """A 10-bit video of grey patches in BT.2020, its signal at these shares of the narrow range."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 32 * len(levels), 32, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = (
            transfer,
            9,
            9,
            1,
        )
        frame = av.VideoFrame(stream.width, stream.height, "yuv420p10le")
        luma = np.repeat(np.round(64 + 876 * np.array(levels)).astype("<u2"), 32)
        for plane, values in zip(
            frame.planes, (luma, *2 * [np.full(stream.width // 2, 512, "<u2")]), strict=True
        ):
            row = np.zeros(plane.line_size // 2, "<u2")
            row[: len(values)] = values
            plane.update(np.tile(row, (plane.height, 1)).tobytes())
        frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = (
            transfer,
            9,
            9,
            1,
        )
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.mark.parametrize(
    ("transfer", "name", "levels"),
    [(18, "HLG", [0.0, 0.38, 0.75, 1.0]), (16, "PQ", [0.0, 0.38, 0.58, 0.75])],
)
def test_high_dynamic_range_becomes_standard(tmp_path, transfer, name, levels):
    """Reference white (75 % HLG, 58 % PQ: 203 cd/m²) is nearly white, 38 % a mid grey."""
    path = tmp_path / "phone.mkv"
    patches(path, transfer, levels)
    info = probe_video(path)
    assert info.hdr == name
    ((_, picture),) = decode_frames(path, info, [0])
    shown = picture[16, 16::32].astype(int)
    assert np.ptp(shown, axis=1).max() <= 2, "grey stays grey"
    black, grey_, white, light = shown[:, 1]
    assert black <= 2 and 90 <= grey_ <= 145 and 238 <= white <= 248 and white < light <= 255


def encode(
    path: Path, pictures, codec: str = "libx264", pixels: str = "yuv420p", options=None, change=None
) -> None:
    """A file of pictures [T, H, W, 3]; ``change`` may set more of its stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=20, options=options)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixels
        if change is not None:
            change(stream)
        for picture in np.asarray(pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def grey(frames: torch.Tensor) -> list[int]:
    return (frames[:, 24, 40].float().mean(-1) / 4).round().int().tolist()


def test_probe(clip):
    info = probe_video(clip)
    assert (info.width, info.height, info.frame_count, info.fps, info.has_audio) == (
        80,
        48,
        60,
        RATE,
        True,
    )
    assert np.allclose(info.times_s, np.arange(60) / RATE, atol=1e-4)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p" and stream.sample_aspect_ratio in (None, 1)


@pytest.mark.parametrize("source", ["path", "memory"])
def test_frames_come_by_index(clip, source):
    file = clip if source == "path" else io.BytesIO(clip.read_bytes())
    info = probe_video(file)
    selection = select_frames(info, start_frame=30, frame_count=9)
    frames = read_frames(file, info, selection)
    assert frames.dtype == torch.uint8 and frames.shape == (9, 48, 80, 3)
    assert grey(frames) == list(range(30, 39))
    assert frames[0, 20, 4, 0] > 200 and frames[0, 20, -4, 2] > 200


def test_only_needed_frames_are_decoded(clip, monkeypatch, tmp_path):
    path = tmp_path / "keyed.mp4"
    encode(path, numbered_frames(60), options={"x264-params": "keyint=10:min-keyint=10:scenecut=0"})
    info = probe_video(path)
    assert len(info.keyframes) == 6
    import egox_core.video.reader as video

    decoded = []
    advance = video._advance
    monkeypatch.setattr(
        video,
        "_advance",
        lambda frames, index_of, index: advance(
            (decoded.append(index_of[f.pts]) or f for f in frames), index_of, index
        ),
    )
    got = {
        index: picture[24, 40].mean() / 4
        for index, picture in decode_frames(path, info, [3, 44, 45, 59])
    }
    assert [round(v) for v in got.values()] == [3, 44, 45, 59]
    assert set(decoded) == {0, 1, 2, 3, *range(40, 60)}  # from 45 on a seek would not pay


def test_half_the_rate_takes_every_second_frame(clip):
    info = probe_video(clip)
    selection = select_frames(info, start_frame=8, frame_count=25, target_fps=RATE / 2)
    assert selection.source_indices.tolist() == list(range(8, 57, 2))
    assert torch.allclose(selection.times_s, selection.source_indices.double() / RATE, atol=1e-4)
    assert selection.fps == RATE / 2 and selection.source_fps == RATE
    third = select_frames(info, frame_count=5, target_fps=8)
    assert third.source_indices.tolist() == [0, 2, 5, 7, 10]


def test_sound_is_trimmed_to_the_frames(clip):
    info = probe_video(clip)
    early = read_sound(clip, info, select_frames(info, start_frame=0, frame_count=17))
    late = read_sound(clip, info, select_frames(info, start_frame=30, frame_count=21))
    assert (
        early.waveform.shape == (1, round(17 / RATE * 44100)) and early.waveform.abs().max() < 0.05
    )
    assert late.waveform.shape == (1, round(21 / RATE * 44100)) and late.waveform.abs().max() > 0.4
    straddling = read_sound(
        clip, info, select_frames(info, start_frame=10, frame_count=41)
    ).waveform[0]
    begins = int((straddling.abs() > 0.1).nonzero()[0])
    assert abs(begins - 22050) < 1100  # half a second in; AAC frames are 1024 samples long


def test_crop_and_pad_keep_the_geometry():
    """A camera point lands in the resized picture where the resized camera says, for both ways and
    any size."""
    from egox_core.video.reader import fit_picture

    camera = CameraModel(lens="pinhole", width=200, height=96, fx=150, fy=150, cx=101, cy=50)
    picture = np.zeros((96, 200, 3), np.uint8)
    picture[40:44, 120:124] = 255  # centre (121.5, 41.5)
    for size, resize in (
        ((112, 64), "crop"),
        ((112, 64), "pad"),
        ((160, 96), "crop"),
        ((400, 192), "crop"),
    ):
        selection = frames_in_use([0], size, source_size=(200, 96), resize=resize)
        fitted = fit_picture(picture, source_rectangle(selection), size).astype(np.float64).mean(-1)
        assert fitted.shape == size[::-1]
        rows, columns = np.indices(fitted.shape)
        seen = ((fitted * columns).sum() / fitted.sum(), (fitted * rows).sum() / fitted.sum())
        ray, _ = camera.unproject(torch.tensor([121.5, 41.5], dtype=torch.float64))
        expected, _ = camera_of_frames(camera, selection).project(ray)
        assert np.allclose(seen, expected.numpy(), atol=0.05), (size, resize)
    assert camera.crop(0, 0, 200, 96).rescale(200, 96) == camera


def test_padding_is_black(clip):
    info = probe_video(clip)
    frames = read_frames(
        clip,
        info,
        select_frames(info, start_frame=40, frame_count=1, resize="pad", width=80, height=96),
    )
    assert frames[0, :20].max() == 0 and frames[0, 48].max() > 100


def test_turned_pictures_are_shown_upright(tmp_path):
    """A phone's portrait video is stored lying down with a note how to turn it."""
    path = tmp_path / "portrait.mp4"
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV can't write a rotation")
    encode(path, numbered_frames(5, 48, 96), change=lambda stream: stream.set_display_rotation(90))
    info = probe_video(path)
    frames = read_frames(path, info, select_frames(info, frame_count=5))
    assert (info.width, info.height) == (48, 96) and frames.shape == (5, 96, 48, 3)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        expected = np.rot90(
            frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)
        )  # as the host turns it
    assert np.array_equal(frames[0].numpy(), expected) and frames[0, :, 24].float().std() > 30


def test_uneven_time_stamps(tmp_path):
    """Frames are chosen by the moment they are shown, not by counting."""
    path = tmp_path / "uneven.mkv"
    ticks = [
        0,
        50,
        100,
        150,
        400,
        450,
        500,
        550,
        600,
        650,
        700,
        750,
    ]  # ms; nothing for a quarter of a second
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = (
            80,
            48,
            "yuv420p",
            Fraction(1, 1000),
        )
        stream.codec_context.time_base = Fraction(1, 1000)
        for tick, picture in zip(ticks, numbered_frames(12).numpy(), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info = probe_video(path)
    assert [round(1000 * t) for t in info.times_s] == ticks
    chosen = select_frames(info, frame_count=5, target_fps=10)
    assert chosen.source_indices.tolist() == [
        0,
        2,
        3,
        4,
        4,
    ]  # 200 ms is nearest to 150, 300 and 400 to 400
    assert grey(read_frames(path, info, chosen)) == [0, 2, 3, 4, 4]
    assert chosen.times_s.tolist() == pytest.approx([0, 0.1, 0.15, 0.4, 0.4])


def test_turned_and_stretched_pixels(tmp_path):
    """A file whose pixels are twice as wide as high is shown twice as wide."""
    path = tmp_path / "anamorphic.mp4"
    encode(
        path,
        numbered_frames(5, 96, 80),
        change=lambda stream: setattr(stream.codec_context, "sample_aspect_ratio", Fraction(2, 1)),
    )
    info = probe_video(path)
    assert (info.width, info.height) == (160, 96)
    assert read_frames(path, info, select_frames(info, frame_count=5)).shape == (5, 96, 160, 3)


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "pixels"),
    [
        ("webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "b:v": "4M"}, "yuv420p"),
        (
            "webm",
            "libvpx-vp9",
            {"auto-alt-ref": "1", "lag-in-frames": "25", "b:v": "4M"},
            "yuv420p",
        ),
        ("avi", "mjpeg", {"q:v": "2"}, "yuvj420p"),
        ("mov", "prores_ks", {}, "yuv422p10le"),
        ("h264", "libx264", {}, "yuv420p"),  # a bare stream without time stamps
    ],
)
def test_other_formats(tmp_path, suffix, codec, options, pixels):
    """Formats with hidden frames, other depths, or no time stamps give the same frames by index."""
    path = tmp_path / f"clip.{suffix}"
    try:
        levels = np.arange(0, 240, 8, dtype=np.uint8)[:, None, None, None]
        encode(path, levels.repeat(48, 1).repeat(80, 2).repeat(3, 3), codec, pixels, options)
    except (av.error.FFmpegError, ValueError):
        pytest.skip(f"this ffmpeg has no encoder {codec}")
    info = probe_video(path)
    assert info.frame_count == 30 and (info.width, info.height) == (80, 48)
    levels = (
        read_frames(path, info, select_frames(info, start_frame=13, frame_count=17))[:, 24, 40]
        .float()
        .mean(-1)
    )
    assert (levels / 8 - torch.arange(13, 30)).abs().max() < 0.5


def test_bad_requests_are_refused(clip):
    info = probe_video(clip)
    for options, message in (
        ({"frame_count": 48}, "use 49"),
        ({"frame_count": 0}, "use 1"),
        ({"frame_count": 61}, "use frame_count 57"),
        ({"start_frame": 20, "frame_count": 49}, "use frame_count 37, or start earlier"),
        ({"frame_count": 41, "target_fps": 10}, "use frame_count 29"),
        ({"start_frame": 60}, "start_frame"),
        ({"target_fps": 60}, "target_fps"),
        ({"frame_count": 5, "width": 100, "height": 50}, "use 96x48"),
        ({"frame_count": 5, "resize": "stretch"}, "one of crop, pad"),
    ):
        with refuses(message):
            select_frames(info, **options)


def test_bad_files_are_refused(clip, tmp_path):
    with refuses("not there"):
        probe_video(tmp_path / "none.mp4")
    corrupt = tmp_path / "corrupt.mp4"
    corrupt.write_bytes(b"not a video at all" * 100)
    with refuses("can't be decoded") as refused:
        probe_video(corrupt)
    assert str(tmp_path) not in str(refused.value), "the name is enough"
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with refuses("no video stream"):
        probe_video(sound)


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
def test_a_playlist_opens_no_other_file(clip, tmp_path, name):
    """One of HLS by an absolute path, one of FFmpeg's own, under a video's name, by a sibling's."""
    write_video(tmp_path / "other.mp4", numbered_frames(9), RATE)
    (tmp_path / name).write_text(
        "ffconcat version 1.0\nfile other.mp4\n"
        if name == "list.mp4"
        else f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n",
        "utf-8",
    )
    with refuses("can't be decoded"):
        probe_video(tmp_path / name)


def test_damage_inside_a_file_is_named(clip, tmp_path):
    damaged = tmp_path / "damaged.mkv"
    write_video(damaged, numbered_frames(60), RATE)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2 :] = b"\0" * (len(content) - len(content) // 2)
    damaged.write_bytes(bytes(content))
    with refuses():
        info = probe_video(damaged)
        read_frames(damaged, info, select_frames(info, frame_count=57))


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.mp4"

    def cancel(done: int, total: int, stage: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, numbered_frames(9), RATE, progress=cancel)
    assert list(tmp_path.iterdir()) == []
    write_video(path, (frame.float() / 255 for frame in numbered_frames(5)), RATE)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"] and probe_video(
        path
    ).frame_count == 5
    with refuses("even"):
        write_video(path, numbered_frames(5)[:, :47], RATE)
    with refuses("no frames"):
        write_video(path, iter(()), RATE)
    assert probe_video(path).frame_count == 5  # the failed ones left the old file


def test_reading_can_be_cancelled(clip):
    info = probe_video(clip)

    def cancel(done: int, total: int, stage: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_frames(clip, info, select_frames(info, frame_count=5), cancel)
