"""Videos go in and out, with only the needed frames, by index. Sizes, rates and defects are named."""

import io
import itertools
import math
import re
import shutil
import struct
import wave
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass

from egox_core.cameras.model import CameraModel
from egox_core.video.clip import open_clip
from egox_core.video.reader import decode_frames, probe_video
from egox_core.video.selection import select_frames
from egox_train.video_writer import write_video
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses
from tests.uneven_clip import uneven_clip

av = pytest.importorskip("av", reason="decodes video")
RATE = 20.0
HIDDEN_FRAMES = {"auto-alt-ref": "1", "lag-in-frames": "25", "b:v": "4M"}  # of VP8 and VP9


def numbered_frames(
    count: int, height: int = 48, width: int = 80
) -> torch.Tensor:  # [T, H, W, 3] uint8
    """Draw frame t as a grey of 4 t, with a red left edge and a blue right edge that survive the
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


def encode(
    path: Path,
    pictures,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options=None,
    matrix: int | None = None,
    rate: int = 20,
    tags: Mapping[str, str] = MappingProxyType({}),
    **context,
) -> None:
    """Encode pictures [T, H, W, 3] into a file. ``context`` has more options of its codec, ``tags``
    are its track's, and ``matrix`` is one of H.273 that it doesn't name."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.metadata.update(tags)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixels
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for picture in np.asarray(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if matrix is not None:
                frame = frame.reformat(format=pixels, dst_colorspace=matrix)
                frame.colorspace = 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# As shown, and how near: black, a mid grey, reference white, brighter light.
GREYS = [[1], [117], [243], [252]], [1, 28, 5, 3]
RED = [[200, 50, 50]], [4]


@pytest.mark.parametrize(
    ("said", "tags", "stored", "expected"),
    [  # reference white (75 % HLG, 58 % PQ) is 203 cd/m²
        ("HLG", (9, 18, 9), [[0], [97], [191], [255]], GREYS),
        ("PQ", (9, 16, 9), [[0], [97], [148], [191]], GREYS),
        ("BT.2020", (9, 14, 5), [[166, 77, 58]], RED),
        ("P3", (12, 1, 5), [[185, 65, 59]], RED),
    ],
)
def test_other_ranges_and_gamuts_become_srgb(tmp_path, said, tags, stored, expected):
    colours, near = expected
    row = np.repeat(np.uint8(stored), 32, axis=0)
    pictures = np.broadcast_to(row, (1, 32, len(row), 3))
    tagged = dict(zip(("color_primaries", "color_trc", "colorspace"), tags, strict=True))
    encode(tmp_path / "phone.mkv", pictures, "ffv1", "yuv444p10le", **tagged)
    phone = open_clip(tmp_path / "phone.mkv", frame_count=1)
    off = phone.read()[0, 16, 16::32].numpy() - np.array(colours)
    assert str(phone.notes[0]).startswith(f"{said} brought to")
    assert (np.abs(off).max(axis=1) <= near).all()
    assert np.ptp(off, axis=1).max() <= 2, "grey stays grey"


def test_a_matrix_that_ffmpeg_lacks_is_named(tmp_path):
    pictures = np.full((1, 32, 64, 3), 90, np.uint8)
    for matrix, words in ((8, "YCgCo"), (14, "ICtCp"), (13, "constant luminance")):
        encode(tmp_path / "odd.mkv", pictures, "ffv1", "yuv444p", colorspace=matrix)
        with refuses(f"colours in .*{words}.*zscale"):
            probe_video(tmp_path / "odd.mkv")


def grey(frames: torch.Tensor) -> list[int]:
    return (frames[:, 24, 40].float().mean(-1) / 4).round().int().tolist()


def test_probe(clip):
    info = probe_video(clip)
    assert (info.width, info.height, info.frame_count) == (80, 48, 60)
    assert info.fps == RATE and info.has_audio
    assert np.allclose(info.times_s, np.arange(60) / RATE, atol=1e-4)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p" and stream.sample_aspect_ratio in (None, 1)


@pytest.mark.parametrize("source", ["path", "memory"])
def test_frames_come_by_index(clip, source):
    file = clip if source == "path" else io.BytesIO(clip.read_bytes())
    frames = open_clip(file, start_frame=30, frame_count=9).read()
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
    advance = video._frame_at
    monkeypatch.setattr(
        video,
        "_frame_at",
        lambda frames, index: advance((decoded.append(f[0]) or f for f in frames), index),
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
    assert selection.indices.tolist() == list(range(8, 57, 2))
    assert torch.allclose(selection.times_s, selection.indices.double() / RATE, atol=1e-4)
    assert selection.fps == RATE / 2 and selection.rate == RATE
    third = select_frames(info, frame_count=5, target_fps=8)
    assert third.indices.tolist() == [0, 2, 5, 7, 10]


def test_sound_is_trimmed_to_the_frames(clip):
    early, late, straddling = (
        open_clip(clip, start_frame=start, frame_count=count).sound().waveform
        for start, count in ((0, 17), (30, 21), (10, 41))
    )
    assert early.shape == (1, round(17 / RATE * 44100)) and early.abs().max() < 0.05
    assert late.shape == (1, round(21 / RATE * 44100)) and late.abs().max() > 0.4
    begins = int((straddling[0].abs() > 0.1).nonzero()[0])
    assert abs(begins - 22050) < 1100  # half a second in; AAC frames are 1024 samples long


def test_sound_lies_where_its_stamps_say(clip, tmp_path):
    """A recorder drops .6 s of sound, and the picture continues."""
    beeps = []
    for tenth in (*range(6), *range(12, 30)):
        beep = np.full((1, 800), 9000 if tenth in (0, 5, 15) else 0, np.int16)
        beeps.append(av.AudioFrame.from_ndarray(beep, layout="mono"))
        beeps[-1].sample_rate, beeps[-1].pts = 8000, tenth * 800
    gap = remux(clip, tmp_path / "gap.mkv", sound=beeps)
    heard = open_clip(gap, frame_count=57).sound().waveform[0]
    tenths = heard[:22400].reshape(28, 800).mean(1)
    assert (tenths > 0.1).nonzero()[:, 0].tolist() == [0, 5, 15]


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
        fitted = fit_picture(picture, selection.rectangle, size).astype(np.float64).mean(-1)
        assert fitted.shape == size[::-1]
        centre = center_of_mass(fitted)[::-1]
        ray, _ = camera.unproject(torch.tensor([121.5, 41.5], dtype=torch.float64))
        expected, _ = selection.camera(camera).project(ray)
        assert np.allclose(centre, expected.numpy(), atol=0.05), (size, resize)
    assert camera.crop(0, 0, 200, 96).rescale(200, 96) == camera


def whole(source) -> tuple[np.ndarray, dict[str, str]]:
    """Read all frames, each the same when it is read alone, and the remarks."""
    info = probe_video(source)
    frames = [frame for _, frame in decode_frames(source, info, range(info.frame_count))]
    for index in range(0, len(frames), 4):
        ((_, alone),) = decode_frames(source, info, [index])
        assert np.array_equal(alone, frames[index])
    return np.array(frames), dict(info.remarks)


def test_pictures_are_turned_as_the_display_matrix_says(tmp_path):
    """A phone's portrait video, and a front camera's that is mirrored."""
    path = tmp_path / "phone.mp4"
    encode(path, numbered_frames(1))
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 44
    plain = whole(path)[0][0]
    for right, down, transposed in itertools.product((1, -1), (1, -1), (False, True)):
        turn = (0, down, 0, right, 0) if transposed else (right, 0, 0, 0, down)
        content[place : place + 20] = struct.pack(">5i", *(number << 16 for number in turn))
        turned = (plain.swapaxes(0, 1) if transposed else plain)[::down, ::right]
        assert np.array_equal(whole(io.BytesIO(content))[0][0], turned)


def remux(source: Path, target: Path, first: int = 0, sound=()) -> Path:
    """Copy the packets of a file's video from the ``first`` on into another file, with this sound."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        heard = new.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for packet in [p for p in old.demux(video=0) if p.size][first:]:
            packet.stream = stream
            new.mux(packet)
        for frame in sound:
            new.mux(heard.encode(frame))
    return target


def test_frames_are_those_that_can_be_decoded(tmp_path):
    """AVI stamps B-frames in the order they are stored in. Dashcam files begin inside an open
    group."""
    groups = "keyint=10:min-keyint=10:scenecut=0:open-gop=1:bframes=2:b-adapt=0"
    encode(tmp_path / "all.ts", numbered_frames(40), options={"x264-params": groups})
    for name, first in (("dvr.avi", 0), ("dashcam.mp4", 5), ("cut.mkv", 5)):
        frames, remarks = whole(remux(tmp_path / "all.ts", tmp_path / name, first))
        left_out = int(remarks.get("cut", 0))
        assert grey(torch.from_numpy(frames)) == list(range(left_out + first, 40))
        assert (left_out > 0) == (first > 0)


def test_interlaced_frames_are_deinterlaced(tmp_path):
    fields = numbered_frames(32)
    for number, field in enumerate(fields):
        field[:, 20 + number : 30 + number] = 255
    woven = fields[::2].clone()
    woven[:, 1::2] = fields[1::2, 1::2]
    path = tmp_path / "tv.mp4"
    encode(path, woven, options={"x264-params": "tff=1:keyint=8", "crf": "5"})
    frames, remarks = whole(path)
    combs = [
        np.abs(np.diff(each[:, :, 20:60].astype(int), axis=1)).mean()
        for each in (woven.numpy(), frames)
    ]
    assert len(frames) == 16 and "interlaced" in remarks and combs[1] < combs[0] / 4


def test_fields_of_hevc_become_pictures_of_full_height(tmp_path):
    """Every second field has the lower lines. A stripe must not jump up and down with them."""
    stripe = np.zeros((8, 96, 160, 3), np.uint8)
    stripe[:, 40:57] = 255
    fields = np.stack([picture[number % 2 :: 2] for number, picture in enumerate(stripe)])
    path = tmp_path / "tv.mkv"
    encode(path, fields, "libx265", options={"x265-params": "interlace=tff:log-level=none"})
    frames, remarks = whole(path)
    assert frames.shape == (8, 96, 160, 3) and "fields" in remarks and "interlaced" not in remarks
    middles = [center_of_mass(frame[..., 0].astype(float))[0] for frame in frames]
    assert middles == pytest.approx([48] * 8, abs=0.2)


def test_the_default_track_is_read_and_a_cover_is_none(tmp_path):
    path = tmp_path / "tracks.mp4"
    for widths in ((), (80, 160)):
        with av.open(str(path), "w") as container:
            for wide in (64, *widths):
                stream = container.add_stream("mjpeg" if wide == 64 else "libx264", rate=20)
                stream.width, stream.height, stream.pix_fmt = wide, 48, "yuvj420p"
                stream.disposition = av.stream.Disposition({64: 1024, 80: 0, 160: 1}[wide])
            for stream in container.streams.video:
                picture = numbered_frames(1, 48, stream.width)[0].numpy()
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux([*stream.encode(frame), *stream.encode(None)])
        if not widths:
            with refuses("only sound"):
                probe_video(path)
    frames, remarks = whole(path)
    assert frames.shape == (1, 48, 160, 3) and remarks["tracks"] == "2"


def test_a_360_video_is_refused_and_one_twice_as_wide_asked_about(tmp_path):
    path = tmp_path / "around.mp4"
    encode(path, numbered_frames(1, 48, 96))
    assert whole(path)[1] == {"panorama": "96x48"}
    content = path.read_bytes()
    place, box = content.find(b"moov") - 4, b"\0\0\0\x29uuid<GSpherical:Spherical>true</GSpherical"
    size = struct.pack(">I", len(content) - place + len(box))
    with refuses("v360"):
        probe_video(io.BytesIO(content[:place] + size + content[place + 4 :] + box))


IN_TRACK = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def in_sample_entry(path: Path, entry: bytes, box: bytes) -> None:
    """Append a box to the description of the only track's pictures."""
    data, at, places = bytearray(path.read_bytes()), 0, []
    for name in (*IN_TRACK, entry):
        at = data.index(name, at) + 4
        places.append(at - 8)

    def size(place: int) -> int:
        return int.from_bytes(data[place : place + 4], "big")

    end = places[-1] + size(places[-1])
    for place in places:
        data[place : place + 4] = struct.pack(">I", size(place) + len(box))
    path.write_bytes(data[:end] + box + data[end:])


@pytest.mark.parametrize(
    ("suffix", "codec", "told", "words"),
    [
        ("mp4", "libx264", {"x264-params": "frame-packing=3"}, "side by side"),
        ("ts", "libx264", {"x264-params": "frame-packing=4"}, "one above the other"),
        ("mkv", "libx264", {"x264-params": "frame-packing=5"}, "in alternate frames"),
        ("mp4", "libx264", {"x264-params": "frame-packing=6"}, None),
        ("mkv", "ffv1", {"stereo_mode": "left_right"}, "side by side"),
        ("webm", "libvpx-vp9", {"stereo_mode": "top_bottom"}, "one above the other"),
        ("mkv", "ffv1", {"stereo_mode": "mono"}, None),
        ("mp4", "libx264", b"\2", "side by side"),
        ("mov", "libx264", b"\1", "one above the other"),
        ("mp4", "libx264", b"\0", None),
    ],
)
def test_a_stereo_video_is_told(tmp_path, suffix, codec, told, words):
    """By the codec's frame packing, Matroska's StereoMode or the box st3d."""
    path = tmp_path / f"both.{suffix}"
    if isinstance(told, bytes):
        encode(path, numbered_frames(5), codec)
        in_sample_entry(path, b"avc1", struct.pack(">I4sIc", 13, b"st3d", 0, told))
    else:
        options = told if "x264-params" in told else {}
        encode(path, numbered_frames(5), codec, options=options, tags={} if options else told)
    assert whole(path)[1].get("stereo") == words
    notes = [str(note) for note in open_clip(path, frame_count=5).notes]
    if words is None:
        assert not notes
    else:
        assert len(notes) == 1 and f"both eyes {words}" in notes[0]


def clean_aperture(wide: int, high: int, right: int, down: int) -> bytes:
    """Build the box clap: size, and the middle's offset from that of the picture, px."""
    return struct.pack(">I4s8i", 40, b"clap", wide, 1, high, 1, right, 1, down, 1)


@pytest.mark.parametrize(
    ("box", "part"),
    [
        (clean_aperture(48, 40, 6, -2), (22, 2, 48, 40)),
        (clean_aperture(80, 48, 0, 0), None),  # all of it
        (clean_aperture(80, 48, 6, 0), None),  # damage
        (b"\x54\xcc", (16, 0, 64, 48)),  # left, of Matroska
        (b"\x54\xdd", (0, 0, 64, 48)),
        (b"\x54\xbb", (0, 16, 80, 32)),
        (b"\x54\xaa", (0, 0, 80, 32)),
    ],
)
def test_a_containers_crop_is_shown_and_named(tmp_path, box, part):
    if len(box) > 2:
        path = tmp_path / "phone.mp4"
        encode(path, numbered_frames(5))
        in_sample_entry(path, b"avc1", box)
    else:  # in place of the unit of what is displayed
        path = tmp_path / "phone.mkv"
        encode(path, numbered_frames(5), "ffv1", "yuv444p")
        content = path.read_bytes()
        assert content.count(b"\x54\xb2\x81\x04") == 1
        path.write_bytes(content.replace(b"\x54\xb2\x81\x04", box + b"\x81\x10"))
    info = probe_video(path)
    assert (info.width, info.height, info.part) == (80, 48, part)
    picture = np.array([frame for _, frame in decode_frames(path, info, [3])])[0]
    left, top, wide, high = part or (0, 0, 80, 48)
    size = {"width": wide // 16 * 16, "height": high // 16 * 16}
    cropped_clip = open_clip(path, start_frame=3, frame_count=1, **size)
    across, down, *_ = cropped_clip.selection.rectangle
    assert left <= across and top <= down
    expected = picture[down:, across:][: size["height"], : size["width"]]
    if cropped_clip.selection.rectangle[2:] == (size["width"], size["height"]):
        assert np.array_equal(cropped_clip.read()[0].numpy(), expected)
    is_named = any(f"{wide}x{high} px at" in str(note) for note in cropped_clip.notes)
    assert is_named == (part is not None)
    camera = CameraModel(lens="pinhole", width=80, height=48, fx=70, fy=70, cx=39.5, cy=23.5)
    of_part = cropped_clip.selection.camera(camera)  # that of the whole picture, cropped along
    scale = size["width"] / cropped_clip.selection.rectangle[2]
    assert of_part.cx == pytest.approx((40 - across) * scale - 0.5, abs=0.01)


def test_a_crop_is_turned_with_its_picture(tmp_path):
    path = tmp_path / "phone.mp4"
    encode(path, numbered_frames(1))
    in_sample_entry(path, b"avc1", clean_aperture(48, 40, 6, -2))
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 44
    mask = np.zeros((48, 80), bool)
    mask[2:42, 22:70] = True
    for right, down, transposed in itertools.product((1, -1), (1, -1), (False, True)):
        turn = (0, down, 0, right, 0) if transposed else (right, 0, 0, 0, down)
        content[place : place + 20] = struct.pack(">5i", *(number << 16 for number in turn))
        turned = (mask.T if transposed else mask)[::down, ::right]
        left, top, width, height = probe_video(io.BytesIO(content)).part
        inside = turned[top : top + height, left : left + width]
        assert inside.all() and inside.sum() == turned.sum()


@pytest.mark.parametrize(
    ("profile", "compatible", "told"),
    [(5, 0, True), (10, 0, True), (8, 1, False), (8, 4, False), (7, 6, False), (10, 1, False)],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_dolby_visions_own_colours_are_told(tmp_path, suffix, profile, compatible, told):
    path = tmp_path / f"phone.{suffix}"
    settings = bytes((1, 0, profile << 1, 0x1D, compatible << 4)).ljust(24, b"\0")
    encode(path, numbered_frames(5))
    if suffix == "mp4":
        in_sample_entry(path, b"avc1", struct.pack(">I4s", 32, b"dvcC") + settings)
    else:  # in place of the padding before the tracks
        mapping = b"\x41\xe7\x84dvcC\x41\xed\x98" + settings
        data = path.read_bytes()
        end = re.search(rb"\0{48,}", data[:4096]).end()
        path.write_bytes(data[: end - len(mapping)] + mapping + data[end:])
    assert whole(path)[1].get("dolby") == (str(profile) if told else None)


@pytest.mark.parametrize(("codec", "size", "count"), [("mpeg2video", 48, 5), ("libx264", 96, 9)])
def test_camcorders_mxf_is_read(tmp_path, codec, size, count):
    path = tmp_path / "clip.mxf"
    encode(path, numbered_frames(count, size), codec, rate=25)
    mxf_clip = open_clip(path, frame_count=count)
    assert mxf_clip.info.fps == 25 and mxf_clip.info.frame_count == count and not mxf_clip.notes
    levels = mxf_clip.read()[:, size // 2, 40].float().mean(-1)
    assert (levels - 4 * torch.arange(count)).abs().max() < 3


@pytest.mark.parametrize(
    ("writer", "tags", "matrix", "said"),
    [
        (b"Cam1", {}, 1, False),
        (b"Cam1", {"prompt": "{}"}, 5, False),  # of the host's Save Video
        (b"Lavf", {"prompt": "{}"}, 5, False),
        (b"Lavf", {}, 5, True),  # diffusers and OpenCV; or a camera's, converted
    ],
)
def test_untagged_hd_is_bt709_but_for_what_libraries_write(tmp_path, writer, tags, matrix, said):
    path = tmp_path / "hd.mkv"
    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        stream = container.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 80, 720, "yuv444p"
        frame = av.VideoFrame.from_ndarray(numbered_frames(1, 720)[0].numpy(), format="rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=matrix)
        frame.colorspace = 2
        container.mux([*stream.encode(frame), *stream.encode(None)])
    content = path.read_bytes()
    assert b"Lavf" in content
    frames, remarks = whole(io.BytesIO(content.replace(b"Lavf", writer)))
    assert np.abs(frames[0, 360, 4] - [250.0, 5, 5]).max() <= 4
    assert ("matrix" in remarks) == said


def test_our_hd_is_tagged(tmp_path):
    write_video(tmp_path / "ours.mp4", numbered_frames(1, 720), RATE)
    frames, remarks = whole(tmp_path / "ours.mp4")
    assert np.abs(frames[0, 360, 4] - [250.0, 5, 5]).max() <= 4 and not remarks


def test_the_colour_track_of_a_recorder_is_read(tmp_path):
    """Azure Kinect's: all tracks are the default, depth is raw and may be the largest."""
    path = tmp_path / "k4a.mkv"
    for titles in (("", ""), ("DEPTH", "COLOR"), ("IR camera", "")):
        with av.open(str(path), "w") as container:
            streams = [container.add_stream(name, rate=20) for name in ("rawvideo", "mjpeg")]
            for stream, title, size in zip(streams, titles, (96, 48), strict=True):
                stream.width, stream.height = 80 * size // 48, size
                stream.pix_fmt = "gray" if stream is streams[0] else "yuvj420p"
                stream.metadata["title"] = title
                stream.disposition = av.stream.Disposition.default
            for stream in streams:
                picture = numbered_frames(1, stream.height, stream.width)[0].numpy()
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux([*stream.encode(frame), *stream.encode(None)])
        frames, remarks = whole(path)
        assert frames.shape == (1, 48, 80, 3) and remarks["tracks"] == "2"


def test_a_still_beside_the_video_is_not_read(tmp_path):
    """Animated AVIF has its first picture as a still, which is the default, too, and comes first."""
    path = tmp_path / "poster.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=20) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height = 80, 48
            stream.disposition = av.stream.Disposition.default
        for stream, count in zip(streams, (1, 5), strict=True):
            for picture in numbered_frames(count, 48, 80):
                frame = av.VideoFrame.from_ndarray(picture.numpy(), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    assert probe_video(path).frame_count == 5


def test_uneven_time_stamps(tmp_path):
    """Frames are chosen by the moment they are shown, not by counting."""
    trimmed_clip = open_clip(
        uneven_clip(tmp_path / "uneven.mkv"), start_frame=30, frame_count=5, target_fps=14
    )
    assert (
        grey(trimmed_clip.read()) == trimmed_clip.selection.indices.tolist() == [30, 31, 31, 32, 33]
    )
    assert trimmed_clip.selection.times_s.tolist() == pytest.approx([1, 1.1, 1.1, 1.2, 1.3])


def test_turned_and_stretched_pixels(tmp_path):
    """A file whose pixels are twice as wide as high is shown twice as wide."""
    path = tmp_path / "anamorphic.mp4"
    encode(path, numbered_frames(5, 96, 80), sample_aspect_ratio=Fraction(2, 1))
    turned_clip = open_clip(path, frame_count=5)
    assert (turned_clip.info.width, turned_clip.info.height) == (160, 96)
    assert turned_clip.read().shape == (5, 96, 160, 3)


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "pixels"),
    [
        ("webm", "libvpx", HIDDEN_FRAMES, "yuv420p"),
        ("webm", "libvpx-vp9", HIDDEN_FRAMES, "yuv420p"),
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
    read = open_clip(path, start_frame=13, frame_count=17)
    info, levels = read.info, read.read()[:, 24, 40].float().mean(-1)
    assert info.frame_count == 30 and (info.width, info.height) == (80, 48)
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
    """Playlists are none: of HLS by an absolute path, of FFmpeg's own under a video's name."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n"
    shutil.copy(clip, tmp_path / "other.mp4")
    for name, content, words in (
        ("none.mp4", None, "not there"),
        ("corrupt.mp4", b"not a video at all" * 100, "can't be decoded"),
        ("sound.wav", sound.getvalue(), "no video stream"),
        ("moving.webp", b"RIFF....WEBPVP8X", "a WebP;.*convert it to mp4"),
        ("moving.png", b"\x89PNG\r\n", "a PNG"),
        ("a.y4m", b"YUV4MPEG2 W80 H48 F20:1 Ip A1:1\n", "a y4m .pictures.*convert it to mp4"),
        ("b.mp4", b"DKIF\0\0\x20\0VP80", "an IVF"),
        ("c.nut", b"nut/multimedia container\0N", "a NUT"),
        ("tape.dv", b"\x1f\x07\0\x3f\xff", "a DV stream of a camcorder"),
        ("tape_pal.dv", b"\x1f\x07\0\xbf\xff", "a DV stream of a camcorder"),
        ("list.m3u8", hls.encode(), "can't be decoded"),
        ("list.mp4", b"ffconcat version 1.0\nfile other.mp4\n", "can't be decoded"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with refuses(words) as refused:
            probe_video(tmp_path / name)
        assert str(tmp_path) not in str(refused.value), "the name is enough"


def test_damage_inside_a_file_is_named(tmp_path):
    damaged = tmp_path / "damaged.mkv"
    write_video(damaged, numbered_frames(60), RATE)
    content = damaged.read_bytes()
    half = len(content) // 2
    damaged.write_bytes(content[:half] + bytes(half))
    with refuses():
        open_clip(damaged, frame_count=57).read()


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


def test_reading_can_be_cancelled(clip, tmp_path):
    """The decoding by which some files' frames are counted, too."""

    def cancel(done: int, total: int, stage: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_clip(clip).read(cancel)
    encode(tmp_path / "dvr.avi", numbered_frames(9))  # B-frames
    with pytest.raises(KeyboardInterrupt):
        open_clip(tmp_path / "dvr.avi", progress=cancel)
