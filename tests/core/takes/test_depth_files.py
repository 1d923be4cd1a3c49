"""Depth from files: every container, taken by source index, fitted by rule, defects named."""

import io
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
from egox_core.depth.resample import depth_window, fit_depth_size
from egox_core.frame_store import FrameStore, drop_pages, store_frames
from egox_core.frames import numbered_files
from egox_core.remarks import Remark, RemarkKind
from egox_core.takes.depth_files import check_depth, load_depth_file
from egox_core.takes.depth_readers import open_depth
from egox_core.types import DepthVideo, FrameSelection, TakeMeta
from tests.frames_in_use import frames_in_use
from tests.poses import still
from tests.refusals import refuses

COUNT, HEIGHT, WIDTH = 12, 48, 84


def depth_frames(count: int = COUNT, width: int = WIDTH) -> np.ndarray:  # [T, H, W] float16
    """Draw depth whose pixels tell their frame, row and column, exact in float16."""
    t, v, u = np.indices((count, HEIGHT, width))
    return (1 + t + v / 64 + (u % 64) / 4096).astype(np.float16)


def meta_of(camera_intrinsics=((70.0, 0, 42), (0, 70, 24), (0, 0, 1)), **changes) -> TakeMeta:
    k = None if camera_intrinsics is None else torch.tensor(camera_intrinsics, dtype=torch.float64)
    return TakeMeta(name="take", camera_intrinsics=k, **changes)


def selection(
    indices: list[int],
    source_size: tuple[int, int] = (WIDTH, HEIGHT),
    size: tuple[int, int] = (80, 48),
) -> FrameSelection:
    return frames_in_use(indices, size, source_size=source_size)


def write_exr(path: Path, depth: np.ndarray) -> None:
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (extra: geometry)")
    with exr.File(
        {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}, {"Z": depth}
    ) as file:
        file.write(str(path))


def npz(folder: Path, depth: np.ndarray | None = None) -> Path:
    file = folder / "depth.npz"
    np.savez(file, depth_m=depth_frames() if depth is None else depth)
    return file


def store(path: Path, kind: str) -> Path:
    """Store depth frames in one of the forms."""
    depth, file = depth_frames(), path / f"depth.{kind[:3]}"
    if kind == "npz":
        np.savez_compressed(file, depth_m=depth, dynamic=depth.astype(np.float32) % 1 > 0.5)
        return file
    if kind == "npy":
        np.save(file, depth.astype(np.float64))
        return file
    if kind == "npz-lzma":
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive,
            archive.open("depth_m.npy", "w") as stream,
        ):
            np.lib.format.write_array(stream, depth)
        return file
    folder = path / "frames"
    folder.mkdir()
    for t, frame in enumerate(depth):
        if kind.startswith("png"):
            millimetres = np.round(frame.astype(np.float64) * 1000).astype(np.uint16)
            cv2.imwrite(str(folder / f"{t:05d}.png"), millimetres)
        elif kind.startswith("exr"):
            write_exr(folder / f"{t:05d}.exr", frame)
        else:
            np.save(folder / f"take3_frame_{t + 1:03d}.npy", frame)
    if kind.endswith("folder"):
        return folder
    return Path(shutil.make_archive(str(path / "depth"), "zip", folder))


FORMS = "npz npz-lzma npy npy-folder npy-zip png-folder png-zip exr-folder exr-zip"


@pytest.mark.parametrize("kind", FORMS.split())
def test_every_form_gives_the_frames_by_index(tmp_path, kind):
    path, rounding = store(tmp_path, kind), 5.1e-4 if kind.startswith("png") else 0
    source = load_depth_file(path, meta_of(), selection([2, 5, 5, 9, 11]))
    depth = source.depth
    expected = depth_frames()[[2, 5, 5, 9, 11], :, 2:82].astype(np.float32)
    assert depth.depth_m.dtype == torch.float32 and depth.depth_m.shape == (5, 48, 80)
    assert np.abs(depth.depth_m.numpy() - expected).max() <= rounding
    words = f"{path.name}: 4 frames, 0.0 % of the pixels invalid"
    plain = [note for note in source.notes if note.kind != RemarkKind.FRAMES]
    assert plain == [Remark(words)] and len(source.notes) == 2, "one is used twice"
    camera = depth.exo.camera
    assert (camera.cx, camera.cy, camera.fx, camera.stored_size) == (40, 24, 70, (80, 48))
    assert depth.frames.indices.tolist() == [2, 5, 5, 9, 11] and depth.exo.frames.times_s[1] == 0.25
    if kind == "npz":
        assert torch.equal(depth.dynamic, torch.from_numpy(expected % 1 > 0.5))
    everything = load_depth_file(path, meta_of()).depth
    assert everything.depth_m.shape == (COUNT, HEIGHT, WIDTH)


def test_released_shape_is_cropped_and_its_intrinsics_rescaled(tmp_path):
    """796 wide against 784, K of 3840x2160: the released code scales K to the map, then crops 6
    columns a side."""
    file = npz(tmp_path, np.ones((5, 448, 796), np.float16))
    meta = meta_of(((1256.0, 0, 1920), (0, 1250, 1080), (0, 0, 1)))
    source = load_depth_file(file, meta, selection([0, 4], (784, 448), (784, 448)))
    camera = source.depth.exo.camera
    assert camera.stored_size == (784, 448) and (camera.cx, camera.cy) == (392, 224)
    assert camera.fx == pytest.approx(1256 * 398 / 1920) and camera.fy == pytest.approx(
        1250 * 224 / 1080
    )
    assert "rescaled" in source.notes[1].text


def test_an_exact_camera_is_believed(tmp_path):
    exact = CameraModel(lens="pinhole", width=WIDTH, height=HEIGHT, fx=70, fy=71, cx=36.5, cy=27)
    file = npz(tmp_path)
    meta = meta_of(None, exo=CameraPath.of_exo(exact))
    source = load_depth_file(file, meta, selection([0]))
    camera = source.depth.exo.camera
    assert (camera.cx, camera.cy, camera.fy) == (34.5, 27, 71) and len(source.notes) == 2


def test_other_shapes_are_refused(tmp_path):
    file = npz(tmp_path, depth_frames(width=60))
    with refuses("60x48 px, aspect ratio 1.25"):
        load_depth_file(file, meta_of(), selection([0]))
    frames = selection([0], (804, 462), (784, 448))
    assert depth_window((402, 230), frames, "x").size == (784, 448)  # 0.43 % off
    with refuses("within 0.5 %"):
        depth_window((402, 234), frames, "x")


@pytest.mark.parametrize(
    "case",
    [
        # sizes of the video, the frames and the map: what the note says, "" for none, or the refusal
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
    ],
)
def test_sides_rounded_for_a_network_are_stretched_back(case, tmp_path):
    sizes, expected = case.split(" -> ")
    source, used_size, (width, height) = (tuple(map(int, s.split("x"))) for s in sizes.split())
    frames = selection([0], source, used_size)
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    file = npz(tmp_path, (2 + x + 2 * y).astype(np.float32)[None])
    exact = CameraModel(
        lens="pinhole", width=source[0], height=source[1], fx=500, fy=500, cx=300, cy=99
    )
    meta = meta_of(None, exo=CameraPath.of_exo(exact))
    if expected.startswith("refused "):
        with refuses(expected.removeprefix("refused ")):
            load_depth_file(file, meta, frames)
        return
    read = load_depth_file(file, meta, frames)
    assert re.search(expected.removeprefix("note "), " ".join(n.text for n in read.notes[1:]))
    assert (len(read.notes) == 3) == bool(expected)
    left, top, w, h = frames.rectangle
    at = 2 + (left + w / 2) / source[0] + 2 * (top + h / 4) / source[1]
    middle = read.depth.depth_m[
        0, used_size[1] // 4 - 1 : used_size[1] // 4 + 1, used_size[0] // 2 - 1 :
    ][:, :2]
    assert float(middle.mean()) == pytest.approx(at, abs=1e-3)
    camera = read.depth.exo.camera.intrinsics
    assert torch.allclose(camera, frames.camera(exact).intrinsics, rtol=4e-3)
    if expected:
        with open_depth(file) as opened:
            map_m = torch.from_numpy(next(iter(opened.read([0])))[0])[None]
        host = DepthVideo(depth_m=map_m, exo=CameraPath.of_exo(exact.rescale(width, height)))
        fitted, note = fit_depth_size(host, *used_size, frames=frames)
        assert torch.equal(fitted.depth_m, read.depth.depth_m) and note == read.notes[1].text
        assert torch.allclose(fitted.exo.camera.intrinsics, camera)


def test_wider_maps_are_of_videos_as_filmed(tmp_path):
    narrow = (WIDTH - 16, HEIGHT)
    frames = selection([0], narrow, narrow)
    with open_depth(npz(tmp_path)) as depth:
        assert "frame i of the video" in str(check_depth(depth, frames))
        with refuses(f"got {WIDTH}x{HEIGHT} px; .*undistorted image, {WIDTH - 16}x{HEIGHT}"):
            check_depth(depth, frames, redrawn=True)


def test_shorter_depth_is_refused_and_longer_cut(tmp_path):
    file = npz(tmp_path)
    with refuses("12 frames; expected at least 13"):
        load_depth_file(file, meta_of(), selection([11, 12]))
    moving = still(10)
    meta = meta_of(exo=CameraPath.of_exo(None, moving))
    assert load_depth_file(file, meta, selection([1, 9])).depth.exo.w2c.shape == (2, 3, 4)
    for call in ({"frames": selection([9, 10])}, {}):
        with refuses("camera_extrinsics"):
            load_depth_file(file, meta_of(exo=CameraPath.of_exo(None, moving)), **call)


def test_invalid_pixels_become_nan_and_are_reported(tmp_path):
    depth = depth_frames().astype(np.float32)
    depth[:, :6] = np.array([np.nan, np.inf, -np.inf, 0, -2, np.nan], np.float32)[None, :, None]
    file = npz(tmp_path, depth)
    source = load_depth_file(file, meta_of(), selection([0, 3]))
    video = source.depth
    assert torch.isnan(video.depth_m[:, :6]).all() and video.valid[:, 6:].all()
    assert "12.5 %" in source.notes[0].text
    depth[7, 2:] = 0
    file = npz(tmp_path, depth)
    with refuses("frame 1 with 0.0 % valid"):
        load_depth_file(file, meta_of(), selection([0, 7]))
    file = npz(tmp_path, np.full((2, 48, 84), np.nan, np.float32))
    with refuses("no valid pixel in the clip"):
        load_depth_file(file, meta_of(), selection([0, 1]))


def test_bad_files_are_refused(tmp_path):
    def refuse(path: Path, message: str, **options) -> None:
        with refuses(message):
            load_depth_file(path, meta_of(), **options)

    refuse(tmp_path / "none.npz", "not there")
    (tmp_path / "depth.txt").write_text("1", "utf-8")
    refuse(tmp_path / "depth.txt", "npz")
    row, maps = np.ones(3), np.ones((2, 4, 4))
    for arrays, message in (
        ({"a": row, "b": row}, "depth_m"),
        ({"depth_m": row}, r"\(T, H, W\)"),
        ({"depth_m": np.array([None])}, "pickled"),
        ({"depth_m": maps, "dynamic": maps[:1] > 0}, "dynamic mask"),
    ):
        np.savez(tmp_path / "depth.npz", **arrays)
        refuse(tmp_path / "depth.npz", message)
    frames = depth_frames()
    folder = tmp_path / "frames"
    folder.mkdir()
    refuse(folder, "none")
    np.save(folder / "0.npy", frames[0])
    np.save(folder / "2.npy", frames[2])
    refuse(folder, "no file for frame 1")
    np.save(folder / "1.npy", frames[1][:-1])
    refuse(folder, "as the first")
    cv2.imwrite(str(folder / "3.png"), np.zeros((4, 4), np.uint8))
    refuse(folder, "one kind")
    for file in folder.glob("*.npy"):
        file.unlink()
    refuse(folder, "16 bits")
    for k, message in (
        (None, "no camera_intrinsics"),
        (((9, 0, -1), (0, 9, 3), (0, 0, 1)), "near the middle of the image"),
    ):
        with refuses(message):
            load_depth_file(npz(tmp_path), meta_of(k))


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
def test_files_go_by_the_number_that_changes(case):
    names, expected = case.split(" -> ")
    files = [f"{name}.png" for name in names.split()]
    if expected.startswith("refused "):
        with refuses(expected.removeprefix("refused ")):
            numbered_files("depth", files, (".png",))
        return
    ordered, _ = numbered_files("depth", files, (".png",))
    assert [ordered.index(name) for name in files] == [*map(int, expected.split())]


@pytest.mark.parametrize(
    "case",
    [
        # parts, each with its channels; those that end in = are equal -> the depth's channel
        "R= G= B= A depth.Z -> depth.Z",
        "VL.Combined.R VL.Combined.G VL.Combined.B VL.Normal.X VL.Normal.Y VL.Normal.Z VL.Depth.Z -> VL.Depth.Z",
        "R G B A Final_WorldDepth.R Final_WorldDepth.G Final_WorldDepth.B Final_WorldDepth.A -> Final_WorldDepth.R",
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
        "left.depth.Z right.depth.Z -> refused several depths among .*left.depth.Z., .right.depth.Z",
        "X Y Z -> refused no depth among the channels .'rgba.X', 'rgba.Y', 'rgba.Z'.; expected one layer named",
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
def test_the_depth_is_found_among_exr_channels(case, tmp_path):
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (extra: geometry)")
    words, expected = case.split(" -> ")
    values, parts = {}, []
    for part in words.split(" | "):
        title, _, names = part.rpartition(": ")
        channels = {}
        for name in names.split():
            value = 9 if name.endswith("=") else values.setdefault(name, 1 + len(values))
            channels[name.rstrip("=")] = np.full((4, 6), value, np.float32)
        header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
        parts.append(exr.Part(header | {"name": title or "rgba"}, channels))
    with exr.File(parts) as file:
        file.write(str(tmp_path / "0.exr"))
    if expected.startswith("refused "):
        with refuses(expected.removeprefix("refused ")):
            load_depth_file(tmp_path, None)
        return
    depth = load_depth_file(tmp_path, None).depth.depth_m
    assert (depth == values.get(expected, 9)).all()


@pytest.mark.parametrize(
    "left, top, width, height", [(16, 9, 32, 18), (-4, 3, 80, 36), (70, 0, 4, 4)]
)
def test_a_data_window_is_placed_in_the_display_window(tmp_path, left, top, width, height):
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (extra: geometry)")
    y, x = np.mgrid[top : top + height, left : left + width]
    ends = (np.array([left, top], np.int32), np.array([left + width, top + height], np.int32) - 1)
    header = {"type": exr.scanlineimage, "compression": exr.ZIP_COMPRESSION, "dataWindow": ends}
    header["displayWindow"] = (np.zeros(2, np.int32), np.array([63, 35], np.int32))
    with exr.File(header, {"Z": (1 + x + y / 64).astype(np.float32)}) as file:
        file.write(str(tmp_path / "0.exr"))
    with open_depth(tmp_path) as source:
        ((depth, _),) = source.read([0])
    y, x = np.mgrid[:36, :64]
    inside = (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
    assert np.array_equal(depth, np.where(inside, 1 + x + y / 64, np.nan), equal_nan=True)


def test_long_clips_are_mapped_from_disk(monkeypatch):
    frame_store = FrameStore(6, (5, 7), np.float32)
    monkeypatch.setattr("egox_core.frame_store.MEMORY_LIMIT", 100)
    mapped = FrameStore(6, (5, 7), np.float32)
    frames = np.arange(6 * 35, dtype=np.float32).reshape(6, 5, 7)
    for frame in frames:
        frame_store.append(frame)
        mapped.append(frame)
    mapped = mapped.tensor()
    assert torch.equal(frame_store.tensor(), mapped) and torch.equal(
        mapped, torch.from_numpy(frames)
    )
    drop_pages(mapped)
    drop_pages(frame_store.tensor())
    assert torch.equal(mapped, torch.from_numpy(frames))
    assert torch.equal(store_frames(iter(mapped), 6), mapped)
    with pytest.raises(RuntimeError):
        FrameStore(2, (1,), np.float32).tensor()


@pytest.mark.parametrize(
    ("keep_bytes", "stride", "most"), [(0, 4, 1.1), (2**20, 2, 1.1), (0, 2, 5)]
)
def test_clips_of_a_packed_take_cost_one_pass(tmp_path, monkeypatch, keep_bytes, stride, most):
    """Windows of four frames: one after the other, or overlapping with what was read kept, unpack
    each frame once."""
    depth = np.random.default_rng(0).random((60, 40, 60)).astype(np.float32) + 1
    np.savez_compressed(tmp_path / "depth.npz", depth_m=depth, dynamic=depth > 1.5)
    unpacked, plain_read = [], zipfile.ZipExtFile.read

    def read(self, size=-1):
        content = plain_read(self, size)
        unpacked.append(len(content))
        return content

    monkeypatch.setattr(zipfile.ZipExtFile, "read", read)
    with open_depth(tmp_path / "depth.npz", keep_bytes=keep_bytes) as source:
        assert source.size == (60, 40)
        for start in range(0, 57, stride):
            indices = [start, start + 1, start + 3]
            for index, (frame, dynamic) in zip(indices, source.read(indices), strict=True):
                assert np.array_equal(frame, depth[index]) and np.array_equal(
                    dynamic, depth[index] > 1.5
                )
        total = sum(unpacked)
        ((back, _),) = source.read([2])
    take_bytes = depth.nbytes + depth.size
    assert 0.9 * take_bytes < total < most * take_bytes or most > 2 and total > most * take_bytes
    assert np.array_equal(back, depth[2])  # going back is allowed, and costs a new pass


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_a_file_that_is_cut_off_while_it_is_read_is_named(tmp_path, save):
    """A depth file is copied over the one in use. Reading mapped memory would kill the process."""
    path = tmp_path / ("depth.npy" if save is np.save else "depth.npz")
    save(path, depth_frames(40))
    with open_depth(path) as source:
        ((frame, _),) = source.read([3])
        assert np.array_equal(frame, depth_frames()[3].astype(np.float32))
        with path.open("r+b") as file:
            file.truncate(50_000)
        with refuses("cut off|damaged"):
            list(source.read([39]))


@pytest.mark.parametrize("kind", ["npy", "npz", "npz-stored"])
def test_a_header_that_claims_frames_that_are_not_there_is_named(tmp_path, kind):
    """Read on, they would be the next array of the archive, and the archive's own directory."""
    np.lib.format.write_array_header_1_0(
        lying := io.BytesIO(), {"descr": "<f4", "fortran_order": False, "shape": (8, 2, 2)}
    )
    content = lying.getvalue() + np.full((2, 2, 2), 2, np.float32).tobytes()
    np.save(other := io.BytesIO(), np.full((50, 2, 2), 7.5, np.float32))
    path = tmp_path / f"depth.{kind[:3]}"
    if kind == "npy":
        path.write_bytes(content)
    else:
        method = zipfile.ZIP_STORED if kind == "npz-stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("depth_m.npy", content)
            archive.writestr("other.npy", other.getvalue())
    words = r"depth depth\.np.*32 bytes.*128 bytes"
    with refuses(words), open_depth(path) as source:
        list(source.read(list(range(8))))
