"""Test reading and writing videos: frames by index, colours, sound, sizes, rates and refused
files."""

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
from egox_core.video import decode_frames, probe_video
from egox_core.video.clip import open_clip
from egox_core.video.selection import select_frames
from egox_train.video_writer import write_video
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses
from tests.uneven_clip import write_uneven_clip

av = pytest.importorskip("av", reason="decodes video")
FPS = 20.0
HIDDEN_FRAMES = {"auto-alt-ref": "1", "lag-in-frames": "25", "b:v": "4M"}  # of VP8 and VP9


def numbered_frames(
    count: int, height: int = 48, width: int = 80
) -> torch.Tensor:  # [T, H, W, 3] uint8
    """Draw frames whose grey level is four times their number, with one red and one blue edge."""
    frames = torch.zeros(count, height, width, 3, dtype=torch.uint8)
    frames += (4 * torch.arange(count, dtype=torch.uint8))[:, None, None, None]
    frames[:, :, :16] = torch.tensor([250, 5, 5], dtype=torch.uint8)
    frames[:, :, -16:] = torch.tensor([5, 5, 250], dtype=torch.uint8)
    return frames


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory, add_sound) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    tone_waveform = torch.sin(torch.arange(44100 * 3) * (2 * math.pi * 440 / 44100))[None] * 0.5
    tone_waveform[:, :44100] = 0  # silent for a second: the trim can be told from the tone
    write_video(path, numbered_frames(60), FPS)
    add_sound(path, tone_waveform.numpy(), 44100)
    return path


def encode(
    path: Path,
    pictures,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options=None,
    matrix: int | None = None,
    fps: int = 20,
    tags: Mapping[str, str] = MappingProxyType({}),
    container_options=None,
    **codec_fields,
) -> None:
    """Encode pictures [T, H, W, 3] into a video file with options for codec and colours."""
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.metadata.update(tags)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixel_format
        for name, value in codec_fields.items():
            setattr(stream.codec_context, name, value)
        for picture in np.asarray(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if matrix is not None:
                frame = frame.reformat(format=pixel_format, dst_colorspace=matrix)
                frame.colorspace = 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# As shown, and how near: black, a mid grey, reference white, brighter light.
EXPECTED_GREYS = [[1], [117], [243], [252]], [1, 28, 5, 3]
EXPECTED_RED = [[200, 50, 50]], [4]


@pytest.mark.parametrize(
    ("colour_space", "tags", "stored_colours", "expected"),
    [  # reference white (75 % HLG, 58 % PQ) is 203 cd/m²
        ("HLG", (9, 18, 9), [[0], [97], [191], [255]], EXPECTED_GREYS),
        ("PQ", (9, 16, 9), [[0], [97], [148], [191]], EXPECTED_GREYS),
        ("BT.2020", (9, 14, 5), [[166, 77, 58]], EXPECTED_RED),
        ("P3", (12, 1, 5), [[185, 65, 59]], EXPECTED_RED),
    ],
)
def test_other_ranges_and_gamuts_become_srgb(
    tmp_path, colour_space, tags, stored_colours, expected
):
    expected_colours, max_error = expected
    picture_row = np.repeat(np.uint8(stored_colours), 32, axis=0)
    pictures = np.broadcast_to(picture_row, (1, 32, len(picture_row), 3))
    colour_tags = dict(zip(("color_primaries", "color_trc", "colorspace"), tags, strict=True))
    encode(tmp_path / "phone.mkv", pictures, "ffv1", "yuv444p10le", **colour_tags)
    phone_clip = open_clip(tmp_path / "phone.mkv", frame_count=1)
    colour_error = phone_clip.read()[0, 16, 16::32].numpy() - np.array(expected_colours)
    assert str(phone_clip.notes[0]).startswith(f"{colour_space} brought to")
    assert (np.abs(colour_error).max(axis=1) <= max_error).all()
    assert np.ptp(colour_error, axis=1).max() <= 2, "grey stays grey"


def test_unsupported_colour_matrix_is_refused_by_name(tmp_path):
    pictures = np.full((1, 32, 64, 3), 90, np.uint8)
    for matrix, matrix_name in ((8, "YCgCo"), (14, "ICtCp"), (13, "constant luminance")):
        encode(tmp_path / "odd.mkv", pictures, "ffv1", "yuv444p", colorspace=matrix)
        with refuses(f"colours in .*{matrix_name}.*zscale"):
            probe_video(tmp_path / "odd.mkv")


def frame_numbers(frames: torch.Tensor) -> list[int]:
    return (frames[:, 24, 40].float().mean(-1) / 4).round().int().tolist()


def test_only_needed_frames_are_decoded(clip_file, monkeypatch, tmp_path):
    video_file = tmp_path / "keyed.mp4"
    encode(
        video_file,
        numbered_frames(60),
        options={"x264-params": "keyint=10:min-keyint=10:scenecut=0"},
    )
    info = probe_video(video_file)
    assert len(info.keyframes) == 6
    import egox_core.video.reader as video

    decoded_indices = []
    original_frame_at = video._frame_at
    monkeypatch.setattr(
        video,
        "_frame_at",
        lambda frames, index: original_frame_at(
            (decoded_indices.append(frame[0]) or frame for frame in frames), index
        ),
    )
    decoded_numbers = {
        index: picture[24, 40].mean() / 4
        for index, picture in decode_frames(video_file, info, [3, 44, 45, 59])
    }
    assert [round(v) for v in decoded_numbers.values()] == [3, 44, 45, 59]
    assert set(decoded_indices) == {0, 1, 2, 3, *range(40, 60)}  # from 45 on a seek would not pay


def test_sound_is_trimmed_to_the_frames(clip_file):
    silent_sound, tone_sound, mixed_sound = (
        open_clip(clip_file, start_frame=start, frame_count=count).sound().waveform
        for start, count in ((0, 17), (30, 21), (10, 41))
    )
    assert silent_sound.shape == (1, round(17 / FPS * 44100))
    assert silent_sound.abs().max() < 0.05
    assert tone_sound.shape == (1, round(21 / FPS * 44100))
    assert tone_sound.abs().max() > 0.4
    tone_start = int((mixed_sound[0].abs() > 0.1).nonzero()[0])
    assert abs(tone_start - 22050) < 1100  # half a second in; AAC frames are 1024 samples long


def test_sound_is_placed_by_its_time_stamps(clip_file, tmp_path):
    """Check that sound after a gap of 0.6 s stays in time with the picture."""
    sound_frames = []
    for tenth_of_second in (*range(6), *range(12, 30)):
        sound_samples = np.full((1, 800), 9000 if tenth_of_second in (0, 5, 15) else 0, np.int16)
        sound_frames.append(av.AudioFrame.from_ndarray(sound_samples, layout="mono"))
        sound_frames[-1].sample_rate = 8000
        sound_frames[-1].pts = tenth_of_second * 800
    gap_file = remux(clip_file, tmp_path / "gap.mkv", sound_frames=sound_frames)
    waveform = open_clip(gap_file, frame_count=57).sound().waveform[0]
    tenth_means = waveform[:22400].reshape(28, 800).mean(1)
    assert (tenth_means > 0.1).nonzero()[:, 0].tolist() == [0, 5, 15]


def test_resized_pictures_agree_with_resized_cameras():
    """Check that a bright square is in resized pictures where the resized camera projects it."""
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
        resized_picture = (
            fit_picture(picture, selection.rectangle, size).astype(np.float64).mean(-1)
        )
        assert resized_picture.shape == size[::-1]
        square_centre = center_of_mass(resized_picture)[::-1]
        ray, _ = camera.unproject(torch.tensor([121.5, 41.5], dtype=torch.float64))
        expected_uv, _ = selection.camera(camera).project(ray)
        assert np.allclose(square_centre, expected_uv.numpy(), atol=0.05), (size, resize)
    assert camera.crop(0, 0, 200, 96).rescale(200, 96) == camera


def read_all_frames(source) -> tuple[np.ndarray, dict[str, str]]:
    """Read all frames and remarks of a video, and check that single reads give equal frames."""
    info = probe_video(source)
    frames = [frame for _, frame in decode_frames(source, info, range(info.frame_count))]
    for index in range(0, len(frames), 4):
        ((_, single_frame),) = decode_frames(source, info, [index])
        assert np.array_equal(single_frame, frames[index])
    return np.array(frames), dict(info.remarks)


def test_pictures_are_rotated_by_the_display_matrix(tmp_path):
    """Check that pictures are shown upright for all eight rotations and mirrorings of phone
    cameras."""
    video_file = tmp_path / "phone.mp4"
    encode(video_file, numbered_frames(1))
    video_bytes = bytearray(video_file.read_bytes())
    matrix_offset = video_bytes.find(b"tkhd") + 44
    stored_picture = read_all_frames(video_file)[0][0]
    for x_sign, y_sign, transposed in itertools.product((1, -1), (1, -1), (False, True)):
        matrix_entries = (0, y_sign, 0, x_sign, 0) if transposed else (x_sign, 0, 0, 0, y_sign)
        video_bytes[matrix_offset : matrix_offset + 20] = struct.pack(
            ">5i", *(number << 16 for number in matrix_entries)
        )
        expected_picture = (stored_picture.swapaxes(0, 1) if transposed else stored_picture)[
            ::y_sign, ::x_sign
        ]
        assert np.array_equal(read_all_frames(io.BytesIO(video_bytes))[0][0], expected_picture)


def remux(source: Path, target: Path, first_packet: int = 0, sound_frames=()) -> Path:
    """Copy the video packets of a file, from packet ``first`` on, into another file with sound."""
    with av.open(str(source)) as source_container, av.open(str(target), "w") as target_container:
        stream = target_container.add_stream_from_template(source_container.streams.video[0])
        sound_stream = (
            target_container.add_stream("pcm_s16le", rate=8000, layout="mono")
            if sound_frames
            else None
        )
        for packet in [
            packet_read for packet_read in source_container.demux(video=0) if packet_read.size
        ][first_packet:]:
            packet.stream = stream
            target_container.mux(packet)
        for frame in sound_frames:
            target_container.mux(sound_stream.encode(frame))
    return target


def test_undecodable_leading_frames_are_left_out(tmp_path):
    """Check that frames that can't be decoded at the start of AVI, MP4 and MKV files are
    skipped."""
    x264_options = "keyint=10:min-keyint=10:scenecut=0:open-gop=1:bframes=2:b-adapt=0"
    encode(tmp_path / "all.ts", numbered_frames(40), options={"x264-params": x264_options})
    for name, first_packet in (("dvr.avi", 0), ("dashcam.mp4", 5), ("cut.mkv", 5)):
        frames, remarks = read_all_frames(remux(tmp_path / "all.ts", tmp_path / name, first_packet))
        cut_frames = int(remarks.get("cut", 0))
        assert frame_numbers(torch.from_numpy(frames)) == list(range(cut_frames + first_packet, 40))
        assert (cut_frames > 0) == (first_packet > 0)


def test_interlaced_frames_are_deinterlaced(tmp_path):
    fields = numbered_frames(32)
    for number, field in enumerate(fields):
        field[:, 20 + number : 30 + number] = 255
    interlaced_frames = fields[::2].clone()
    interlaced_frames[:, 1::2] = fields[1::2, 1::2]
    video_file = tmp_path / "tv.mp4"
    encode(video_file, interlaced_frames, options={"x264-params": "tff=1:keyint=8", "crf": "5"})
    frames, remarks = read_all_frames(video_file)
    line_differences = [
        np.abs(np.diff(video[:, :, 20:60].astype(int), axis=1)).mean()
        for video in (interlaced_frames.numpy(), frames)
    ]
    assert (
        len(frames) == 16
        and "interlaced" in remarks
        and line_differences[1] < line_differences[0] / 4
    )


def test_hevc_fields_become_frames_of_full_height(tmp_path):
    """Check that interlaced HEVC fields are joined into frames in which a stripe stays in place."""
    stripe_pictures = np.zeros((8, 96, 160, 3), np.uint8)
    stripe_pictures[:, 40:57] = 255
    fields = np.stack(
        [picture[picture_number % 2 :: 2] for picture_number, picture in enumerate(stripe_pictures)]
    )
    video_file = tmp_path / "tv.mkv"
    encode(video_file, fields, "libx265", options={"x265-params": "interlace=tff:log-level=none"})
    frames, remarks = read_all_frames(video_file)
    assert frames.shape == (8, 96, 160, 3)
    assert "fields" in remarks
    assert "interlaced" not in remarks
    stripe_centres = [center_of_mass(frame[..., 0].astype(float))[0] for frame in frames]
    assert stripe_centres == pytest.approx([48] * 8, abs=0.2)


COVER, OTHER, DEFAULT = 1024, 0, 1  # dispositions of FFmpeg


@pytest.mark.parametrize(
    "tracks",
    [  # width, codec, disposition and title of each; the picture 80 px wide is the one to read
        [(64, "mjpeg", COVER, ""), (160, "libx264", OTHER, ""), (80, "libx264", DEFAULT, "")],
        # of a depth recorder
        [(160, "rawvideo", DEFAULT, ""), (80, "mjpeg", DEFAULT, "")],
        [(160, "rawvideo", DEFAULT, "DEPTH"), (80, "mjpeg", DEFAULT, "COLOR")],
        [(160, "rawvideo", DEFAULT, "IR camera"), (80, "mjpeg", DEFAULT, "")],
        [(64, "mjpeg", COVER, "")],
    ],
)
def test_default_colour_track_is_read_and_cover_images_are_ignored(tmp_path, tracks):
    video_file = tmp_path / ("a.mkv" if tracks[0][1] == "rawvideo" else "a.mp4")
    formats = {"mjpeg": "yuvj420p", "rawvideo": "gray", "libx264": "yuv420p"}
    with av.open(str(video_file), "w") as container:
        for width, codec, disposition, title in tracks:
            stream = container.add_stream(codec, rate=20)
            stream.width, stream.height, stream.pix_fmt = width, 48, formats[codec]
            stream.disposition = av.stream.Disposition(disposition)
            stream.metadata["title"] = title
        for stream in container.streams.video:
            picture = numbered_frames(1, 48, stream.width)[0].numpy()
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode(None)])
    if len(tracks) == 1:
        with refuses("only sound"):
            probe_video(video_file)
        return
    frames, remarks = read_all_frames(video_file)
    assert frames.shape == (1, 48, 80, 3)
    assert remarks["tracks"] == "2"


def test_360_video_is_refused_and_one_of_double_width_remarked(tmp_path):
    video_file = tmp_path / "around.mp4"
    encode(video_file, numbered_frames(1, 48, 96))
    assert read_all_frames(video_file)[1] == {"panorama": "96x48"}
    video_bytes = video_file.read_bytes()
    box_offset = video_bytes.find(b"moov") - 4
    spherical_box = b"\0\0\0\x29uuid<GSpherical:Spherical>true</GSpherical"
    box_size_bytes = struct.pack(">I", len(video_bytes) - box_offset + len(spherical_box))
    with refuses("v360"):
        probe_video(
            io.BytesIO(
                video_bytes[:box_offset]
                + box_size_bytes
                + video_bytes[box_offset + 4 :]
                + spherical_box
            )
        )


TRACK_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def append_to_sample_entry(path: Path, entry_name: bytes, box: bytes) -> None:
    """Append a metadata box to the sample description of an MP4 file's only track."""
    file_bytes = bytearray(path.read_bytes())
    position = 0
    box_offsets = []
    for name in (*TRACK_BOXES, entry_name):
        position = file_bytes.index(name, position) + 4
        box_offsets.append(position - 8)

    def box_size(offset: int) -> int:
        return int.from_bytes(file_bytes[offset : offset + 4], "big")

    entry_end = box_offsets[-1] + box_size(box_offsets[-1])
    for offset in box_offsets:
        file_bytes[offset : offset + 4] = struct.pack(">I", box_size(offset) + len(box))
    path.write_bytes(file_bytes[:entry_end] + box + file_bytes[entry_end:])


@pytest.mark.parametrize(
    ("suffix", "codec", "stereo_metadata", "expected_layout"),
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
def test_stereo_video_is_remarked(tmp_path, suffix, codec, stereo_metadata, expected_layout):
    """Check that a video marked as stereo by its stream or container gives a remark."""
    video_file = tmp_path / f"both.{suffix}"
    if isinstance(stereo_metadata, bytes):
        encode(video_file, numbered_frames(5), codec)
        append_to_sample_entry(
            video_file, b"avc1", struct.pack(">I4sIc", 13, b"st3d", 0, stereo_metadata)
        )
    else:
        options = stereo_metadata if "x264-params" in stereo_metadata else {}
        encode(
            video_file,
            numbered_frames(5),
            codec,
            options=options,
            tags={} if options else stereo_metadata,
        )
    assert read_all_frames(video_file)[1].get("stereo") == expected_layout
    notes = [str(note) for note in open_clip(video_file, frame_count=5).notes]
    if expected_layout is None:
        assert not notes
    else:
        assert len(notes) == 1
        assert f"both eyes {expected_layout}" in notes[0]


def clean_aperture(width: int, height: int, offset_x: int, offset_y: int) -> bytes:
    """Build an MP4 ``clap`` box, the visible picture area, from its size and offset in pixels."""
    return struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, offset_x, 1, offset_y, 1)


@pytest.mark.parametrize(
    ("crop_box", "expected_crop"),
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
def test_container_crop_is_applied_and_remarked(tmp_path, crop_box, expected_crop):
    if len(crop_box) > 2:
        video_file = tmp_path / "phone.mp4"
        encode(video_file, numbered_frames(5))
        append_to_sample_entry(video_file, b"avc1", crop_box)
    else:  # in place of the unit of what is displayed
        video_file = tmp_path / "phone.mkv"
        encode(video_file, numbered_frames(5), "ffv1", "yuv444p")
        video_bytes = video_file.read_bytes()
        assert video_bytes.count(b"\x54\xb2\x81\x04") == 1
        video_file.write_bytes(video_bytes.replace(b"\x54\xb2\x81\x04", crop_box + b"\x81\x10"))
    info = probe_video(video_file)
    assert (info.width, info.height, info.part) == (80, 48, expected_crop)
    picture = np.array([frame for _, frame in decode_frames(video_file, info, [3])])[0]
    left, top, crop_width, crop_height = expected_crop or (0, 0, 80, 48)
    width, height = crop_width // 16 * 16, crop_height // 16 * 16
    cropped_clip = open_clip(video_file, start_frame=3, frame_count=1, width=width, height=height)
    crop_x, crop_y, *used_size = cropped_clip.selection.rectangle
    assert left <= crop_x
    assert top <= crop_y
    if used_size == [width, height]:
        expected_picture = picture[crop_y : crop_y + height, crop_x : crop_x + width]
        assert np.array_equal(cropped_clip.read()[0].numpy(), expected_picture)
    is_remarked = any(
        f"{crop_width}x{crop_height} px at" in str(note) for note in cropped_clip.notes
    )
    assert is_remarked == (expected_crop is not None)


@pytest.mark.parametrize(
    ("profile", "compatibility_id", "is_remarked"),
    [(5, 0, True), (10, 0, True), (8, 1, False), (8, 4, False), (7, 6, False), (10, 1, False)],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_dolby_vision_colours_are_remarked(
    tmp_path, suffix, profile, compatibility_id, is_remarked
):
    video_file = tmp_path / f"phone.{suffix}"
    dolby_settings = bytes((1, 0, profile << 1, 0x1D, compatibility_id << 4)).ljust(24, b"\0")
    encode(video_file, numbered_frames(5))
    if suffix == "mp4":
        append_to_sample_entry(
            video_file, b"avc1", struct.pack(">I4s", 32, b"dvcC") + dolby_settings
        )
    else:  # in place of the padding before the tracks
        mapping_bytes = b"\x41\xe7\x84dvcC\x41\xed\x98" + dolby_settings
        video_bytes = video_file.read_bytes()
        padding_end = re.search(rb"\0{48,}", video_bytes[:4096]).end()
        video_file.write_bytes(
            video_bytes[: padding_end - len(mapping_bytes)]
            + mapping_bytes
            + video_bytes[padding_end:]
        )
    assert read_all_frames(video_file)[1].get("dolby") == (str(profile) if is_remarked else None)


@pytest.mark.parametrize(
    ("writing_app", "tags", "matrix", "is_remarked"),
    [
        (b"Cam1", {}, 1, False),
        (b"Cam1", {"prompt": "{}"}, 5, False),  # of the host's Save Video
        (b"Lavf", {"prompt": "{}"}, 5, False),
        (b"Lavf", {}, 5, True),  # diffusers and OpenCV; or a camera's, converted
    ],
)
def test_untagged_hd_is_bt709_unless_a_library_wrote_it(
    tmp_path, writing_app, tags, matrix, is_remarked
):
    video_file = tmp_path / "hd.mkv"
    with av.open(str(video_file), "w") as container:
        container.metadata.update(tags)
        stream = container.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 80, 720, "yuv444p"
        frame = av.VideoFrame.from_ndarray(numbered_frames(1, 720)[0].numpy(), format="rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=matrix)
        frame.colorspace = 2
        container.mux([*stream.encode(frame), *stream.encode(None)])
    video_bytes = video_file.read_bytes()
    assert b"Lavf" in video_bytes
    frames, remarks = read_all_frames(io.BytesIO(video_bytes.replace(b"Lavf", writing_app)))
    assert np.abs(frames[0, 360, 4] - [250.0, 5, 5]).max() <= 4
    assert ("matrix" in remarks) == is_remarked


def test_frames_of_uneven_times_are_selected_by_time(tmp_path):
    trimmed_clip = open_clip(
        write_uneven_clip(tmp_path / "uneven.mkv"), start_frame=30, frame_count=5, target_fps=14
    )
    assert (
        frame_numbers(trimmed_clip.read())
        == trimmed_clip.selection.indices.tolist()
        == [30, 31, 31, 32, 33]
    )
    assert trimmed_clip.selection.times_s.tolist() == pytest.approx([1, 1.1, 1.1, 1.2, 1.3])


def test_pixels_of_double_width_are_stretched(tmp_path):
    video_file = tmp_path / "anamorphic.mp4"
    encode(video_file, numbered_frames(5, 96, 80), sample_aspect_ratio=Fraction(2, 1))
    stretched_clip = open_clip(video_file, frame_count=5)
    assert (stretched_clip.info.width, stretched_clip.info.height) == (160, 96)
    assert stretched_clip.read().shape == (5, 96, 160, 3)


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "pixel_format"),
    [
        ("webm", "libvpx", HIDDEN_FRAMES, "yuv420p"),
        ("webm", "libvpx-vp9", HIDDEN_FRAMES, "yuv420p"),
        ("avi", "mjpeg", {"q:v": "2"}, "yuvj420p"),
        ("mov", "prores_ks", {}, "yuv422p10le"),
        ("h264", "libx264", {}, "yuv420p"),  # a bare stream without time stamps
    ],
)
def test_uncommon_formats_are_read_by_index(tmp_path, suffix, codec, options, pixel_format):
    """Check that frames are read by index from videos with hidden frames, deep colour or no time
    stamps."""
    video_file = tmp_path / f"clip.{suffix}"
    try:
        grey_levels = np.arange(0, 240, 8, dtype=np.uint8)[:, None, None, None]
        encode(
            video_file,
            grey_levels.repeat(48, 1).repeat(80, 2).repeat(3, 3),
            codec,
            pixel_format,
            options,
        )
    except (av.error.FFmpegError, ValueError):
        pytest.skip(f"this ffmpeg has no encoder {codec}")
    opened_clip = open_clip(video_file, start_frame=13, frame_count=17)
    clip_info = opened_clip.info
    grey_levels = opened_clip.read()[:, 24, 40].float().mean(-1)
    assert clip_info.frame_count == 30
    assert (clip_info.width, clip_info.height) == (80, 48)
    assert (grey_levels / 8 - torch.arange(13, 30)).abs().max() < 0.5


def test_bad_requests_are_refused(clip_file):
    info = probe_video(clip_file)
    for bad_options, message in (
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
            select_frames(info, **bad_options)


def test_bad_files_are_refused(clip_file, tmp_path):
    """Check that broken videos and playlists, which may name other local files, are refused."""
    wave_buffer = io.BytesIO()
    with wave.open(wave_buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    playlist_text = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip_file}\n#EXT-X-ENDLIST\n"
    shutil.copy(clip_file, tmp_path / "other.mp4")
    for name, content, message_pattern in (
        ("none.mp4", None, "not there"),
        ("empty.mp4", b"", "an empty file"),
        ("notes.mp4", b"not a video at all\n" * 100, "a text, no video;.*Fix: choose the video"),
        ("corrupt.mp4", b"\0\1 not a video at all" * 100, "can't be decoded"),
        ("sound.wav", wave_buffer.getvalue(), "no video stream"),
        ("moving.webp", b"RIFF....WEBPVP8X", "a WebP;.*convert it to mp4"),
        ("moving.png", b"\x89PNG\r\n", "a PNG"),
        ("a.y4m", b"YUV4MPEG2 W80 H48 F20:1 Ip A1:1\n", "a y4m .pictures.*convert it to mp4"),
        ("b.mp4", b"DKIF\0\0\x20\0VP80", "an IVF"),
        ("c.nut", b"nut/multimedia container\0N", "a NUT"),
        ("tape.dv", b"\x1f\x07\0\x3f\xff", "a DV stream of a camcorder"),
        ("tape_pal.dv", b"\x1f\x07\0\xbf\xff", "a DV stream of a camcorder"),
        ("list.m3u8", playlist_text.encode(), "a text"),
        ("list.mp4", b"ffconcat version 1.0\nfile other.mp4\n#\1\n", "can't be decoded"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with refuses(message_pattern) as error_info:
            probe_video(tmp_path / name)
        assert str(tmp_path) not in str(error_info.value), "the name is enough"


def test_cancelled_or_failed_writing_leaves_no_partial_file(tmp_path):
    video_file = tmp_path / "out.mp4"

    def cancel(done: int, total: int, stage: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(video_file, numbered_frames(9), FPS, progress=cancel)
    assert list(tmp_path.iterdir()) == []
    write_video(video_file, (frame.float() / 255 for frame in numbered_frames(5)), FPS)
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"] and probe_video(
        video_file
    ).frame_count == 5
    with refuses("even"):
        write_video(video_file, numbered_frames(5)[:, :47], FPS)
    with refuses("no frames"):
        write_video(video_file, iter(()), FPS)
    assert probe_video(video_file).frame_count == 5  # the failed ones left the old file


def test_reading_can_be_cancelled(clip_file, tmp_path):
    """Check that reading or counting the frames of a video can be cancelled."""

    def cancel(done: int, total: int, stage: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_clip(clip_file).read(cancel)
    encode(tmp_path / "dvr.avi", numbered_frames(9))  # B-frames
    with pytest.raises(KeyboardInterrupt):
        open_clip(tmp_path / "dvr.avi", progress=cancel)
