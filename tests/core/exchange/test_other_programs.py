"""Paths as other programs write them: each lens is read or refused, each pose is of its frame."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.blender import write_blender
from egox_core.exchange.camera_files import CameraFile
from egox_core.exchange.colmap import write_colmap
from egox_core.exchange.trajectory_files import read_trajectory
from egox_core.frames import Frames
from egox_core.frames.numbers import numbers_of, place_values
from egox_core.safe_files import read_json, write_json
from egox_core.takes.meta import depth_camera
from egox_core.takes.take_cameras import exo_lens_of_size, given_lens
from egox_core.trajectory import PoseTrack
from egox_core.types import DepthVideo, TakeMeta
from tests.core.exchange.test_camera_files import PLACES, TURNS, N, trajectory, w2c
from tests.refusals import refuses

W2C, EGO = w2c(), preset_camera("aria_released", 64)


def transforms(folder: Path, words: str) -> Path:
    """Write transforms.json with these words in place of our own."""
    write_blender(folder / "transforms.json", trajectory().ego)
    content = read_json(folder / "transforms.json") | json.loads(words)
    content = {k: v for k, v in content.items() if k != "egox_camera" and v is not None}
    content["frames"] = [{k: v for k, v in f.items() if k != "time"} for f in content["frames"]]
    write_json(folder / "transforms.json", content)
    return folder / "transforms.json"


def colmap(folder: Path, camera: str, points: str = "\n1.0 2.0 -1 3.5 4.5 17\n") -> Path:
    """Write COLMAP's text with this camera, and this text between the lines of pictures."""
    write_colmap(folder, trajectory().ego, trajectory().frames.indices)
    file = folder / "images.txt"
    file.write_text("\ufeff" + file.read_text("utf-8").replace("\n\n", points), "utf-8")
    (folder / "cameras.txt").write_text("\ufeff1 " + camera, "utf-8")
    return file


@pytest.mark.parametrize(
    "case",
    [
        '{"camera_model": null} -> pinhole',
        '{"k1": 0, "k3": 0.0, "distortion_params": [0, 0]} -> pinhole',
        '{"camera_model": null, "k1": -0.3, "p1": 0.001, "p2": 0.002} -> opencv -0.3 0 0.001 0.002',
        '{"k1": -0.3} -> opencv -0.3 0 0 0',
        '{"camera_model": "SIMPLE_RADIAL", "k1": 0.1} -> opencv 0.1 0 0 0',
        '{"camera_model": null, "is_fisheye": true, "k1": 0.1} -> opencv_fisheye 0.1 0 0 0',
        '{"camera_model": "RADIAL_FISHEYE", "k2": 0.1} -> opencv_fisheye 0 0.1 0 0',
        "{\"k1\": 1, \"k3\": 1} -> refused .'k1', 'k3'.; expected a lens of OPENCV .k1 k2 p1 p2., ",
        '{"camera_model": null, "is_fisheye": true, "p1": 0.1} -> refused OPENCV_FISHEYE, .*p1',
        '{"camera_model": "OPENCV", "is_fisheye": true} -> refused OPENCV and is_fisheye',
        '{"camera_model": "EQUIRECTANGULAR"} -> refused EQUIRECTANGULAR',
        '{"ftheta_p0": 1} -> refused ftheta_p0',
        "SIMPLE_PINHOLE 64 64 32 32 32 -> pinhole",
        "SIMPLE_RADIAL 64 64 32 32 32 0.01 -> opencv 0.01 0 0 0",
        "RADIAL 64 64 32 32 32 0.01 0.02 -> opencv 0.01 0.02 0 0",
        "OPENCV 64 64 32 32 32 32 1e-2 2e-2 3e-3 4e-3 -> opencv 0.01 0.02 0.003 0.004",
        "SIMPLE_RADIAL_FISHEYE 64 64 32 32 32 .1 -> opencv_fisheye 0.1 0 0 0",
        "OPENCV_FISHEYE 64 64 32 32 32 32 .1 0 0 0 -> opencv_fisheye 0.1 0 0 0",
        "FOV 64 64 32 32 32 32 .1 -> refused model FOV .*OPENCV, .*SIMPLE_RADIAL",
        "SIMPLE_RADIAL 64 64 32 32 32 32 .1 -> refused SIMPLE_RADIAL with 5 numbers",
    ],
)
def test_a_lens_is_read_or_refused(case, tmp_path):
    words, expected = case.split(" -> ")
    file = transforms(tmp_path, words) if words[0] == "{" else colmap(tmp_path, words)
    if expected.startswith("refused "):
        with refuses(expected.removeprefix("refused ")):
            read_trajectory(file, EGO)
    else:
        camera, (lens, *numbers) = read_trajectory(file, EGO)[0].ego.camera, expected.split()
        assert (camera.lens, camera.distortion) == (lens, tuple(map(float, numbers)))
        assert (camera.fx, camera.fy, camera.cx) == (32, 32, 31.5)
    # Where only poses are wanted any lens will do.
    assert read_trajectory(file, EGO, lens=False)[0].ego.camera == EGO.upright()
    assert torch.allclose(CameraFile.read(file).path.w2c, W2C)


def test_intrinsics_may_be_of_each_frame(tmp_path):
    file = transforms(tmp_path, '{"fl_x": null, "fl_y": null, "w": null, "camera_angle_x": null}')
    text = file.read_text("utf-8").replace('"file_path"', '"fl_x": 30, "w": 64, "file_path"')
    file.write_text(text, "utf-8")
    assert read_trajectory(file, EGO)[0].ego.camera.fy == 30
    file.write_text(text.replace('"fl_x": 30', '"fl_x": 33', 1), "utf-8")
    with refuses("2 cameras; expected images of one camera"):
        read_trajectory(file, EGO)


@pytest.mark.parametrize(
    "case", ["246 114 kept", "233 126 kept", "448 256 fits", "960 540 fits", "448 114 refused"]
)
def test_only_a_factor_common_to_both_axes_is_another_resolution(case):
    *centre, result = case.split()
    k = torch.tensor([[344.5, 0, float(centre[0])], [0, 344.5, float(centre[1])], [0, 0, 1]])
    meta = TakeMeta(name="take", camera_intrinsics=k.double())
    if result == "refused":
        with refuses("camera_intrinsics of take: got a centre 448, 114 for 448x256"):
            depth_camera(meta, (448, 256))
        return
    camera, note = depth_camera(meta, (448, 256))
    kept_and_noted = torch.equal(camera.intrinsics, k.double()), "as they are" in note
    assert kept_and_noted == ((result == "kept"),) * 2
    assert exo_lens_of_size(meta, (448, 256))[0].cx == pytest.approx(camera.cx, abs=1)


@pytest.mark.parametrize(
    "off", [(0, 0), (0.01, 0.01), (0.01, -0.01), (0.024, 0.024), (-0.024, 0.01)]
)
@pytest.mark.parametrize("case", ["1920x1080 640x360", "3840x2160 1280x720", "1920x1120 192x112"])
def test_a_calibrated_k_of_another_resolution_keeps_its_centre_and_focal_length(case, off):
    (width, height), size = (tuple(map(int, pair.split("x"))) for pair in case.split())
    source = CameraModel.pinhole(width, height, 0.6 * width)
    source = replace(source, cx=source.cx + off[0] * width, cy=source.cy + off[1] * height)
    pictures = {size: lambda camera: camera}
    truth, k = source.rescale(*size).intrinsics, source.intrinsics
    assert torch.allclose(given_lens(source, pictures)[0].intrinsics, truth, atol=1e-6, rtol=0)
    meta = TakeMeta(name="take", camera_intrinsics=k)
    if any(off) and height == 1120:  # no standard size
        with refuses("say which size K is of"):
            given_lens(k, pictures)
        with refuses("exo_camera"):
            exo_lens_of_size(meta, size)
        return
    for lens, note in (given_lens(k, pictures), exo_lens_of_size(meta, size)):
        assert torch.allclose(lens.intrinsics, truth, rtol=0.01) and f"{width}x{height}" in note


@pytest.mark.parametrize(
    "case",
    [
        # numbers of the pictures, or times from a start on in a unit; frames of the video (0: unknown), in use
        # from first to last (and every_nth): the poses' frames, or words of the refusal
        "0-11; 12 -> 0-11",
        "1-12; 12 -> 0-11",
        "8 11 4 7 5 0 9 10 1 3 6 2; 12 -> 8 11 4 7 5 0 9 10 1 3 6 2",
        "0-2 6-11; 12 -> 0-2 6-11",
        "1-11; 12 -> refused set every_nth -1 where number 0 is .*, or every_nth 1 where number 1 is",
        "1-11; 12 0 10 1 -> 0-10",
        "1-11; 12 1 11 -1 -> 1-11",
        "0 5 10 15 20 25; 29 0 25 -> 0 5 10 15 20 25",
        "1-6; 30 0 25 -> 0 5 10 15 20 25",
        "1-6; 30 0 5 -> refused every_nth 1 where number 1 .*, or every_nth 5 where number 1 is the",
        "1-6; 33 0 25 -> refused every_nth -5 where number 0 .*, or every_nth 5 where number 1",
        "1-6; 33 5 30 -5 -> 5 10 15 20 25 30",
        "0-8; 46 10 18 -> 10-18",
        "0-8; 45 10 18 -> refused image names 10 to 18 where number 0 is .*, or every_nth 5 where",
        "0-11; 68 0 55 -> refused every_nth 6 where .*, or every_nth 5 where",
        "1-12; 30 -> refused number 1 is the first frame, and one in 2",
        "5 10 15; 30 5 15 5 -> 5 10 15",
        "1-9; 31 3 11 -> 3-11",
        "1-9; 200 3 10 -> refused numbered 1 to 9",
        "1-6; 30 0 20 4 -> 0 4 8 12 16 20",
        "0 5 10; 30 0 10 5 -> 0 5 10",
        "0-8; 30 -> refused numbered 0 to 8, .* 30 in use; .* every_nth 3 where number 0 is",
        "0-8; 30 0 8 -> 0-8",
        "0-11; 99 40 51 -> 40-51",
        "1001-1012; 12 -> 0-11",
        "1001-1012; 0 0 11 -> 0-11",
        "0 5 10 15; 0 0 15 -> 0 5 10 15",
        "0-4; 0 30 90 -> refused frames of x: got 5 poses",
        "0 40; 41 -> refused 1.3 s without a pose",
        "1-520; 17 -> refused 520 poses, numbered 1 to 520, for a video of 17",
        "0-2 6-11 @ 1000 1; 12 -> 0-2 6-11",
        "0-2 6-11 @ 0 1; 12 -> 0-2 6-11",
        "0-2 6-11 @ 14e17 1e9; 12 -> 0-2 6-11",
        "0-2 5-7 @ 0 1e3; 12 0 7 -> 0-2 5-7",
        "0-2 6-11 @ 3e9 1e6; 12 -> 0-2 6-11",
        "0-2 6-11 @ 1000 2; 12 -> refused frames of x: got 9 poses, numbered",
        "0-2 6-11 @ 0 2.8; 12 -> refused frames of x: got 9 poses, numbered",
    ],
)
def test_a_pose_belongs_to_its_frame(case, tmp_path):
    setting, expected = case.split(" -> ")
    words, clip = setting.split("; ")
    count, first, last, every_nth = [*map(int, clip.split()), 0, 0, 0][:4]
    frames = clip_of(count, range(first, (last or count - 1) + 1))
    names, _, clock = words.partition(" @ ")
    numbers = torch.tensor(spans(names), dtype=torch.float64)
    if clock:
        start, unit = map(float, clock.split())
        numbers = start + unit * numbers / 30
    call, w2c = (numbers, frames, "x", every_nth), W2C[: len(numbers)]
    if expected.startswith("refused "):
        with refuses(expected.removeprefix("refused ")):
            place_values(*call)
        return
    placed = place_values(*call)
    poses = w2c[placed.order]
    track = PoseTrack(w2c=poses, moments=placed.moments, clock=placed.clock, name="x")
    at = torch.tensor(spans(expected)) - first
    path = track.of_frames(frames)
    assert torch.allclose(path[at], w2c, atol=1e-4)  # nanoseconds fill a double
    filled = len(path) - len(at)
    assert (f"; {filled} of {len(path)} frames have no pose" in placed.words) == (filled > 0)


def clip_of(whole: int, used: range):
    moments = torch.tensor(used).double()
    return Frames.stated(moments, moments / 30, whole or None)


def spans(words: str) -> list[int]:
    """Expand ``0-2 6`` into its numbers."""
    ends = [word.split("-") for word in words.split()]
    return [n for pair in ends for n in range(int(pair[0]), int(pair[-1]) + 1)]


def test_files_go_by_names_and_times(tmp_path):
    """Frames written in no order, pictures that COLMAP didn't register, key frames of a SLAM."""
    moments, frames = torch.arange(N).double() / 30, clip_of(N, range(N))
    depth = DepthVideo(
        depth_m=torch.ones(N, 1, 1),
        exo=CameraPath.of_exo(EGO, frames=replace(Frames.timed(moments), total=N)),
    )
    file = transforms(tmp_path, "{}")
    write_json(file, {"frames": read_json(file)["frames"][::-1]})
    known = torch.tensor([0, 1, 2, *range(6, N)])
    text = colmap(tmp_path, "FOV", "\n").read_text("utf-8")
    (tmp_path / "images.txt").write_text(re.sub(r"\n[456] .*", "", text), "utf-8")
    rows = np.c_[1000 + moments, PLACES, TURNS.as_quat()]
    np.savetxt(tmp_path / "tum.txt", rows[known])
    for path, at in (
        (file, torch.arange(N)),
        (tmp_path / "images.txt", known),
        (tmp_path / "tum.txt", known),
    ):
        exo, note = CameraFile.read(path).of(depth)
        assert exo.frames == depth.frames
        assert torch.allclose(exo.w2c[at], W2C[at]) and ("3 of 12 frames" in note) == (len(at) < N)
        if path.name != "tum.txt":
            ego, notes = read_trajectory(path, EGO, frames, lens=False)
            assert torch.equal(ego.ego.w2c, exo.w2c) and note == notes.placed
        assert exo.gravity == (path.name != "images.txt")  # nobody turns COLMAP's world


def test_pictures_of_every_second_frame_may_be_the_first_half():
    note = place_values(torch.arange(N), clip_of(2 * N, range(9)), "x").words
    assert "one in 2 has a pose" in note and "first 12 frames alone, set every_nth 1" in note
    for count, words in ((70, "; every_nth -5 where number 0 is"), (60, "")):
        note = place_values(1 + torch.arange(N), clip_of(count, range(50)), "x", 5).words
        assert note.endswith(words or "interpolated")
    # Of the whole video, though a part is in use.
    stamps = 14e8 + torch.arange(N).double() / 30
    assert "from 1400000000" in place_values(stamps, clip_of(N, range(4, 9)), "x").words
    # Not milliseconds, though these would span the frames in use.
    assert "number 0" in place_values(10 * torch.arange(N), clip_of(120, range(4)), "x").words


def test_names_tell_their_numbers():
    assert numbers_of(["cam2/f_010.png", "cam2/f_9.png"], "a").tolist() == [10, 9]
    assert torch.equal(numbers_of([None, None], "a"), torch.arange(2).double())
    assert numbers_of(["1305031102.175304.png", "1305031102.2.png"], "a")[0] == 1305031102.175304
    names = [f"IMG_20240101_12000{n // 2}_{n:03d}.jpg" for n in (8, 9, 10)]
    assert numbers_of(names, "a").tolist() == [8, 9, 10]
    assert numbers_of(["a/3/rgb.png", "a/1/rgb.png"], "a").tolist() == [3, 1]
    for names in (["a_1/0001.png", "a_2/0002.png"], ["1_5.png", "2_4.png"], ["1.png", "1.jpg"]):
        with refuses("image names of a"):
            numbers_of(names, "a")


def test_a_spacing_and_a_declaration_are_one_too_many(tmp_path):
    file = transforms(tmp_path, "{}")
    with refuses("every_nth -2 and file_frames 'source'"):
        read_trajectory(file, EGO, clip_of(N, range(4)), every_nth=-2, file_frames="source")
