"""Test reading depth from files: formats, frame numbers, sizes, channels and refused files."""

import re
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.depth.resample import fit_depth_size
from egox_core.frames import numbered_files
from egox_core.takes.depth_files import check_depth, load_depth_file
from egox_core.takes.depth_readers import open_depth
from egox_core.types import DepthVideo, FrameSelection, TakeMeta
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

COUNT, HEIGHT, WIDTH = 12, 48, 84


def depth_frames(count: int = COUNT, width: int = WIDTH) -> np.ndarray:  # [T, H, W] float16
    """Draw depth maps whose values encode frame, row and column."""
    t, v, u = np.indices((count, HEIGHT, width))
    return (1 + t + v / 64 + (u % 64) / 4096).astype(np.float16)


def make_meta(camera_intrinsics=((70.0, 0, 42), (0, 70, 24), (0, 0, 1)), **changes) -> TakeMeta:
    intrinsics = (
        None if camera_intrinsics is None else torch.tensor(camera_intrinsics, dtype=torch.float64)
    )
    return TakeMeta(name="take", camera_intrinsics=intrinsics, **changes)


def select_frames(
    indices: list[int],
    source_size: tuple[int, int] = (WIDTH, HEIGHT),
    used_size: tuple[int, int] = (80, 48),
) -> FrameSelection:
    return frames_in_use(indices, used_size, source_size=source_size)


def write_exr(path: Path, depth: np.ndarray) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (extra: geometry)")
    with openexr.File(
        {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}, {"Z": depth}
    ) as depth_file:
        depth_file.write(str(path))


def write_npz(folder: Path, depth: np.ndarray | None = None) -> Path:
    depth_file = folder / "depth.npz"
    np.savez(depth_file, depth_m=depth_frames() if depth is None else depth)
    return depth_file


def write_depth(path: Path, form: str) -> Path:
    """Write depth maps into a file of one of the supported formats."""
    depth = depth_frames()
    depth_file = path / f"depth.{form[:3]}"
    if form == "npz":
        np.savez_compressed(depth_file, depth_m=depth, dynamic=depth.astype(np.float32) % 1 > 0.5)
        return depth_file
    if form == "npy":
        np.save(depth_file, depth.astype(np.float64))
        return depth_file
    if form == "npz-lzma":
        with (
            zipfile.ZipFile(depth_file, "w", zipfile.ZIP_LZMA) as archive,
            archive.open("depth_m.npy", "w") as stream,
        ):
            np.lib.format.write_array(stream, depth)
        return depth_file
    folder = path / "frames"
    folder.mkdir()
    for t, frame in enumerate(depth):
        if form.startswith("png"):
            millimetres = np.round(frame.astype(np.float64) * 1000).astype(np.uint16)
            cv2.imwrite(str(folder / f"{t:05d}.png"), millimetres)
        elif form.startswith("exr"):
            write_exr(folder / f"{t:05d}.exr", frame)
        else:
            np.save(folder / f"take3_frame_{t + 1:03d}.npy", frame)
    if form.endswith("folder"):
        return folder
    return Path(shutil.make_archive(str(path / "depth"), "zip", folder))


DEPTH_FORMS = "npz npz-lzma npy npy-folder npy-zip png-folder png-zip exr-folder exr-zip"


@pytest.mark.parametrize("form", DEPTH_FORMS.split())
def test_every_depth_format_is_read_by_frame_index(tmp_path, form):
    depth_path = write_depth(tmp_path, form)
    max_error = 5.1e-4 if form.startswith("png") else 0
    depth_source = load_depth_file(depth_path, make_meta(), select_frames([2, 5, 5, 9, 11]))
    depth = depth_source.depth
    expected_maps = depth_frames()[[2, 5, 5, 9, 11], :, 2:82].astype(np.float32)
    assert depth.depth_m.dtype == torch.float32
    assert depth.depth_m.shape == (5, 48, 80)
    assert np.abs(depth.depth_m.numpy() - expected_maps).max() <= max_error
    assert "4 frames, 0.0 %" in depth_source.notes[0].text, "one is used twice"
    assert depth.frames.indices.tolist() == [2, 5, 5, 9, 11]
    if form == "npz":
        assert torch.equal(depth.dynamic, torch.from_numpy(expected_maps % 1 > 0.5))
    all_frames_depth = load_depth_file(depth_path, make_meta()).depth
    assert all_frames_depth.depth_m.shape == (COUNT, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "case",
    [
        # sizes of the video, the frames and the map: what the note says, "" for none, or the
        # refusal
        "448x256 448x256 252x140 -> note multiples of 28.* 3.6 px at the upper edge",
        "1920x1080 1920x1080 518x294 -> note multiples of 14",
        "1280x720 640x360 640x368 -> note multiples of 16.* left edge",
        "1920x1080 448x448 504x280 -> note multiples of 56.* 1920x1080",
        "1920x1080 832x464 832x448 -> refused multiples of 64 px, or a crop",
        "448x256 448x256 448x256 -> ",
        "804x462 784x448 402x230 -> ",
        "448x256 448x256 252x142 -> refused 1.7746; expected the video's",
        "1920x1080 1920x1080 512x512 -> refused 1.0000; expected",
        "1920x1080 1920x1080 1024x600 -> refused 1.7067; expected",
        "804x462 784x448 402x234 -> refused within 0.5 %",
    ],
)
def test_maps_rounded_to_a_networks_multiples_are_stretched_back(case, tmp_path):
    sizes_text, expected_text = case.split(" -> ")
    source_size, used_size, (width, height) = (
        tuple(map(int, size_text.split("x"))) for size_text in sizes_text.split()
    )
    frames = select_frames([0], source_size, used_size)
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    map_file = write_npz(tmp_path, (2 + x + 2 * y).astype(np.float32)[None])
    exact_camera = CameraModel(
        lens="pinhole", width=source_size[0], height=source_size[1], fx=500, fy=500, cx=300, cy=99
    )
    meta = make_meta(None, exo=CameraPath.of_exo(exact_camera))
    if expected_text.startswith("refused "):
        with refuses(expected_text.removeprefix("refused ")):
            load_depth_file(map_file, meta, frames)
        return
    loaded_depth = load_depth_file(map_file, meta, frames)
    assert re.search(
        expected_text.removeprefix("note "),
        " ".join(note_read.text for note_read in loaded_depth.notes[1:]),
    )
    assert (len(loaded_depth.notes) == 3) == bool(expected_text)
    left, top, rectangle_width, rectangle_height = frames.rectangle
    expected_depth = (
        2
        + (left + rectangle_width / 2) / source_size[0]
        + 2 * (top + rectangle_height / 4) / source_size[1]
    )
    middle_depth = loaded_depth.depth.depth_m[
        0, used_size[1] // 4 - 1 : used_size[1] // 4 + 1, used_size[0] // 2 - 1 :
    ][:, :2]
    assert float(middle_depth.mean()) == pytest.approx(expected_depth, abs=1e-3)
    intrinsics = loaded_depth.depth.exo.camera.intrinsics
    assert torch.allclose(intrinsics, frames.camera(exact_camera).intrinsics, rtol=4e-3)
    if expected_text:
        with open_depth(map_file) as depth_file:
            map_m = torch.from_numpy(next(iter(depth_file.read([0])))[0])[None]
        host_depth = DepthVideo(
            depth_m=map_m, exo=CameraPath.of_exo(exact_camera.rescale(width, height))
        )
        fitted_depth, note = fit_depth_size(host_depth, *used_size, frames=frames)
        assert (
            torch.equal(fitted_depth.depth_m, loaded_depth.depth.depth_m)
            and note == loaded_depth.notes[1].text
        )
        assert torch.allclose(fitted_depth.exo.camera.intrinsics, intrinsics)


def test_maps_wider_than_the_video_are_refused_for_a_redrawn_image(tmp_path):
    narrow_size = (WIDTH - 16, HEIGHT)
    frames = select_frames([0], narrow_size, narrow_size)
    with open_depth(write_npz(tmp_path)) as depth:
        assert "one for each frame of the video" in str(check_depth(depth, frames))
        with refuses(f"got {WIDTH}x{HEIGHT} px; .*undistorted image, {WIDTH - 16}x{HEIGHT}"):
            check_depth(depth, frames, redrawn=True)


def test_invalid_pixels_become_nan_and_are_reported(tmp_path):
    depth = depth_frames().astype(np.float32)
    depth[:, :6] = np.array([np.nan, np.inf, -np.inf, 0, -2, np.nan], np.float32)[None, :, None]
    depth_file = write_npz(tmp_path, depth)
    depth_source = load_depth_file(depth_file, make_meta(), select_frames([0, 3]))
    depth_video = depth_source.depth
    assert torch.isnan(depth_video.depth_m[:, :6]).all()
    assert depth_video.valid[:, 6:].all()
    assert "12.5 %" in depth_source.notes[0].text
    depth[7, 2:] = 0
    depth_file = write_npz(tmp_path, depth)
    with refuses("frame 1 with 0.0 % valid"):
        load_depth_file(depth_file, make_meta(), select_frames([0, 7]))
    depth_file = write_npz(tmp_path, np.full((2, 48, 84), np.nan, np.float32))
    with refuses("no valid pixel in the clip"):
        load_depth_file(depth_file, make_meta(), select_frames([0, 1]))


def test_bad_files_are_refused(tmp_path):
    def check_refusal(path: Path, message: str, **options) -> None:
        with refuses(message):
            load_depth_file(path, make_meta(), **options)

    check_refusal(tmp_path / "none.npz", "not there")
    (tmp_path / "depth.txt").write_text("1", "utf-8")
    check_refusal(tmp_path / "depth.txt", "npz")
    one_row = np.ones(3)
    depth_maps = np.ones((2, 4, 4))
    for arrays, message in (
        ({"a": one_row, "b": one_row}, "depth_m"),
        ({"depth_m": one_row}, r"\(T, H, W\)"),
        ({"depth_m": np.array([None])}, "pickled"),
        ({"depth_m": depth_maps, "dynamic": depth_maps[:1] > 0}, "dynamic mask"),
    ):
        np.savez(tmp_path / "depth.npz", **arrays)
        check_refusal(tmp_path / "depth.npz", message)
    frames = depth_frames()
    folder = tmp_path / "frames"
    folder.mkdir()
    check_refusal(folder, "none")
    np.save(folder / "0.npy", frames[0])
    np.save(folder / "2.npy", frames[2])
    check_refusal(folder, "no file for frame 1")
    np.save(folder / "1.npy", frames[1][:-1])
    check_refusal(folder, "as the first")
    cv2.imwrite(str(folder / "3.png"), np.zeros((4, 4), np.uint8))
    check_refusal(folder, "one kind")
    for depth_file in folder.glob("*.npy"):
        depth_file.unlink()
    check_refusal(folder, "16 bits")
    for intrinsics, message in (
        (None, "no camera_intrinsics"),
        (((9, 0, -1), (0, 9, 3), (0, 0, 1)), "near the middle of the image"),
    ):
        with refuses(message):
            load_depth_file(write_npz(tmp_path), make_meta(intrinsics))


@pytest.mark.parametrize(
    "case",
    [
        "frame_0002_depth16 frame_0000_depth16 frame_0001_depth16 -> 2 0 1",
        "d1_640x480 d2_640x480 d10_640x480 -> refused no file for frame 3 between 1 and 10",
        "1305031102.160407 1305031102.227074 1305031102.193740 -> 0 2 1",
        "1403636579813555456 1403636579763555584 1403636579863555584 -> 1 0 2",
        "9.9 10.1 10 -> 0 2 1",
        "10.1 10.1333 10.2 10.2333 -> refused no file for frame 10.16665 between",
        "10.10 10.20 10.40 -> refused no file for frame 10.3 between",
        "shot.v002.0011 shot.v002.0010 -> 1 0",
        "IMG_20240101_120001_001 IMG_20240101_120000_000 IMG_20240101_120001_002 -> 1 0 2",
        "f_1_7 f_2_3 -> refused no file for frame 4 between 3 and 7",
        "0 5 10 -> refused no file for frame 1 between 0 and 10",
        "a/1 b/1 -> refused of one number",
    ],
)
def test_files_are_ordered_by_the_number_that_changes(case):
    names_text, expected_text = case.split(" -> ")
    files = [f"{name}.png" for name in names_text.split()]
    if expected_text.startswith("refused "):
        with refuses(expected_text.removeprefix("refused ")):
            numbered_files("depth", files, (".png",))
        return
    ordered_files, _ = numbered_files("depth", files, (".png",))
    assert [ordered_files.index(name) for name in files] == [*map(int, expected_text.split())]


@pytest.mark.parametrize(
    "case",
    [
        # parts, each with its channels; those that end in = are equal -> the depth's channel
        "R= G= B= A depth.Z -> depth.Z",
        (
            "VL.Combined.R VL.Combined.G VL.Combined.B VL.Normal.X VL.Normal.Y VL.Normal.Z "
            "VL.Depth.Z -> VL.Depth.Z"
        ),
        (
            "R G B A Final_WorldDepth.R Final_WorldDepth.G Final_WorldDepth.B Final_WorldDepth.A "
            "-> Final_WorldDepth.R"
        ),
        "R G B Depth.V -> Depth.V",
        "R G B zDepth.distance -> zDepth.distance",
        "R G B A | depth: Z -> Z",
        "R G B A | depth: Y -> Y",
        "R G B A Z -> Z",
        "N.X N.Y N.Z Z -> Z",
        "R G B depth -> depth",
        "Y -> Y",
        "V A -> V",
        "R -> R",
        "beauty.mask -> beauty.mask",
        "R= G= B= -> R=",
        "R= G= B= A -> R=",
        "C.R= C.G= C.B= -> C.R=",
        "left.depth.Z= right.depth.Z= -> left.depth.Z=",
        (
            "left.depth.Z right.depth.Z -> refused several depths among .*left.depth.Z., "
            ".right.depth.Z"
        ),
        (
            "X Y Z -> refused no depth among the channels .'rgba.X', 'rgba.Y', 'rgba.Z'.; expected "
            "one layer named"
        ),
        "R G B A -> refused no depth among the channels .'rgba.A', .*'rgba.R'.",
        "U V A -> refused no depth",
        "RY BY Y -> refused no depth",
        "r g b a ZDepth.r ZDepth.g -> ZDepth.r",
        "R G B depth.v depth.a -> depth.v",
        "r g b z -> z",
        "r= g= b= -> r=",
        "x y z -> refused 'rgba.x', 'rgba.y', 'rgba.z'",
        "n.x n.y n.z depth.z -> depth.z",
        "R G B depth.R depth.r -> depth.R",
        "VL.Mist.Z -> refused 'VL.Mist.Z'",
        "mist -> refused 'rgba.mist'",
        "VL.Combined.R= VL.Combined.G= VL.Combined.B= VL.Mist.Z -> refused 'VL.Mist.Z'",
    ],
)
def test_depth_channel_of_exr_files_is_chosen(case, tmp_path):
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (extra: geometry)")
    channel_text, expected_text = case.split(" -> ")
    channel_values = {}
    exr_parts = []
    for part_text in channel_text.split(" | "):
        part_name, _, channel_names = part_text.rpartition(": ")
        channels = {}
        for name in channel_names.split():
            value = (
                9
                if name.endswith("=")
                else channel_values.setdefault(name, 1 + len(channel_values))
            )
            channels[name.rstrip("=")] = np.full((4, 6), value, np.float32)
        exr_header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
        exr_parts.append(openexr.Part(exr_header | {"name": part_name or "rgba"}, channels))
    with openexr.File(exr_parts) as depth_file:
        depth_file.write(str(tmp_path / "0.exr"))
    if expected_text.startswith("refused "):
        with refuses(expected_text.removeprefix("refused ")):
            load_depth_file(tmp_path, None)
        return
    depth = load_depth_file(tmp_path, None).depth.depth_m
    assert (depth == channel_values.get(expected_text, 9)).all()


@pytest.mark.parametrize(
    "left, top, width, height", [(16, 9, 32, 18), (-4, 3, 80, 36), (70, 0, 4, 4)]
)
def test_exr_data_window_is_placed_in_the_display_window(tmp_path, left, top, width, height):
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (extra: geometry)")
    y, x = np.mgrid[top : top + height, left : left + width]
    data_window = (
        np.array([left, top], np.int32),
        np.array([left + width, top + height], np.int32) - 1,
    )
    exr_header = {
        "type": openexr.scanlineimage,
        "compression": openexr.ZIP_COMPRESSION,
        "dataWindow": data_window,
    }
    exr_header["displayWindow"] = (np.zeros(2, np.int32), np.array([63, 35], np.int32))
    with openexr.File(exr_header, {"Z": (1 + x + y / 64).astype(np.float32)}) as depth_file:
        depth_file.write(str(tmp_path / "0.exr"))
    with open_depth(tmp_path) as depth_source:
        ((depth, _),) = depth_source.read([0])
    y, x = np.mgrid[:36, :64]
    window_mask = (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
    assert np.array_equal(depth, np.where(window_mask, 1 + x + y / 64, np.nan), equal_nan=True)


@pytest.mark.parametrize(
    ("keep_bytes", "stride", "max_passes"), [(0, 4, 1.1), (2**20, 2, 1.1), (0, 2, 5)]
)
def test_compressed_depth_is_unpacked_once_for_successive_clips(
    tmp_path, monkeypatch, keep_bytes, stride, max_passes
):
    """Check that a compressed depth file is decompressed only once for successive windows of four
    frames."""
    depth = np.random.default_rng(0).random((60, 40, 60)).astype(np.float32) + 1
    np.savez_compressed(tmp_path / "depth.npz", depth_m=depth, dynamic=depth > 1.5)
    read_sizes = []
    original_read = zipfile.ZipExtFile.read

    def counted_read(self, size=-1):
        bytes_read = original_read(self, size)
        read_sizes.append(len(bytes_read))
        return bytes_read

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted_read)
    with open_depth(tmp_path / "depth.npz", keep_bytes=keep_bytes) as depth_source:
        assert depth_source.size == (60, 40)
        for start in range(0, 57, stride):
            indices = [start, start + 1, start + 3]
            for index, (frame, dynamic) in zip(indices, depth_source.read(indices), strict=True):
                assert np.array_equal(frame, depth[index]) and np.array_equal(
                    dynamic, depth[index] > 1.5
                )
        total_bytes = sum(read_sizes)
        ((earlier_frame, _),) = depth_source.read([2])
    depth_and_mask_bytes = depth.nbytes + depth.size
    assert (
        0.9 * depth_and_mask_bytes < total_bytes < max_passes * depth_and_mask_bytes
        or max_passes > 2
        and total_bytes > max_passes * depth_and_mask_bytes
    )
    assert np.array_equal(earlier_frame, depth[2])  # going back is allowed, and costs a new pass


@pytest.mark.parametrize("save_function", [np.save, np.savez])
def test_file_truncated_during_reading_is_refused(tmp_path, save_function):
    """Check that a depth file truncated while open is refused and doesn't crash the process."""
    depth_path = tmp_path / ("depth.npy" if save_function is np.save else "depth.npz")
    save_function(depth_path, depth_frames(40))
    with open_depth(depth_path) as depth_source:
        ((frame, _),) = depth_source.read([3])
        assert np.array_equal(frame, depth_frames()[3].astype(np.float32))
        with depth_path.open("r+b") as depth_file:
            depth_file.truncate(50_000)
        with refuses("cut off|damaged"):
            list(depth_source.read([39]))
