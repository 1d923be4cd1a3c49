"""Test camera paths of other programs: lenses, intrinsics, frame numbers and times."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.blender import write_blender
from egox_core.exchange.camera_files import CameraFile
from egox_core.exchange.colmap import write_colmap
from egox_core.exchange.trajectory_files import read_trajectory
from egox_core.facts import Declared
from egox_core.frames import Frames
from egox_core.frames.numbers import place_values
from egox_core.safe_files import read_json, write_json
from egox_core.takes.take_cameras import given_lens, meta_lens
from egox_core.trajectory import PoseTrack
from egox_core.types import TakeMeta
from tests.core.exchange.test_camera_files import (
    path_w2c,
)
from tests.poses import make_path
from tests.refusals import refuses

W2C = path_w2c()
EGO = preset_camera("aria_released", 64)
TRAJECTORY = make_path(W2C, preset_camera("pinhole", 64))


def write_transforms(folder: Path, changed_json: str) -> Path:
    """Write a NeRF transforms.json with some of its entries replaced."""
    write_blender(folder / "transforms.json", TRAJECTORY.ego)
    content = read_json(folder / "transforms.json") | json.loads(changed_json)
    content = {k: v for k, v in content.items() if k != "egox_camera" and v is not None}
    content["frames"] = [
        {k: v for k, v in frame.items() if k != "time"} for frame in content["frames"]
    ]
    write_json(folder / "transforms.json", content)
    return folder / "transforms.json"


def write_colmap_text(folder: Path, camera: str, points: str = "\n1.0 2.0 -1 3.5 4.5 17\n") -> Path:
    """Write a COLMAP model as text files, with a given camera line and text after each image
    line."""
    write_colmap(folder, TRAJECTORY.ego, TRAJECTORY.frames.indices)
    images_file = folder / "images.txt"
    images_file.write_text(
        "\ufeff" + images_file.read_text("utf-8").replace("\n\n", points), "utf-8"
    )
    (folder / "cameras.txt").write_text("\ufeff1 " + camera, "utf-8")
    return images_file


@pytest.mark.parametrize(
    "case",
    [
        '{"camera_model": null} -> pinhole',
        '{"fl_x": null, "fl_y": null} -> pinhole',  # by camera_angle_x
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
def test_lenses_of_other_programs_are_read_or_refused(case, tmp_path):
    lens_text, expected_text = case.split(" -> ")
    pose_file = (
        write_transforms(tmp_path, lens_text)
        if lens_text[0] == "{"
        else write_colmap_text(tmp_path, lens_text)
    )
    if expected_text.startswith("refused "):
        with refuses(expected_text.removeprefix("refused ")):
            read_trajectory(pose_file, EGO)
    else:
        camera = read_trajectory(pose_file, EGO)[0].ego.camera
        lens, *distortion = expected_text.split()
        assert (camera.lens, camera.distortion) == (lens, tuple(map(float, distortion)))
        assert (camera.fx, camera.fy, camera.cx) == pytest.approx((32, 32, 31.5))
    # Where only poses are wanted any lens will do.
    assert read_trajectory(pose_file, EGO, lens=False)[0].ego.camera == EGO.upright()
    assert torch.allclose(CameraFile.read(pose_file).settled(Declared()).path.w2c, W2C)


def test_intrinsics_of_each_frame_are_read(tmp_path):
    transforms_file = write_transforms(
        tmp_path, '{"fl_x": null, "fl_y": null, "w": null, "camera_angle_x": null}'
    )
    transforms_text = transforms_file.read_text("utf-8").replace(
        '"file_path"', '"fl_x": 30, "w": 64, "file_path"'
    )
    transforms_file.write_text(transforms_text, "utf-8")
    assert read_trajectory(transforms_file, EGO)[0].ego.camera.fy == 30
    transforms_file.write_text(transforms_text.replace('"fl_x": 30', '"fl_x": 33', 1), "utf-8")
    with refuses("2 cameras; expected images of one camera"):
        read_trajectory(transforms_file, EGO)


@pytest.mark.parametrize(
    "case",
    [
        "246 114 kept",
        "225.1 128 near",
        "233 126 kept",
        "448 256 fits",
        "960 540 fits",
        "448 114 refused",
    ],
)
def test_intrinsics_of_another_resolution_need_one_scale(case):
    *centre_words, result_text = case.split()
    intrinsics = torch.tensor(
        [[344.5, 0, float(centre_words[0])], [0, 344.5, float(centre_words[1])], [0, 0, 1]]
    )
    take_meta = TakeMeta(name="take", camera_intrinsics=intrinsics.double())
    if result_text == "refused":
        with refuses("camera_intrinsics of take: got a centre 448, 114 for 448x256"):
            meta_lens(take_meta, (448, 256), Frames.of_count(1))
        return
    stated = meta_lens(take_meta, (448, 256), Frames.of_count(1))
    camera, note = stated.lens, stated.note
    kept_and_noted = torch.equal(camera.intrinsics, intrinsics.double()), "as they are" in note
    # One within .25 % of the width is the middle.
    assert kept_and_noted == (result_text != "fits", result_text == "kept")


def test_a_wider_picture_has_the_video_as_its_middle():
    wide = replace(CameraModel.pinhole(796, 448, 500.0), cx=398.0, cy=224.0)
    take_meta = TakeMeta(name="take", exo=CameraPath.of_exo(wide))
    lens = meta_lens(take_meta, (784, 448), Frames.of_count(1)).lens
    assert (lens.width, lens.height, lens.cx, lens.cy) == (784, 448, 392.0, 224.0)
    assert lens.fx == lens.fy == 500


@pytest.mark.parametrize(
    "centre_offset", [(0, 0), (0.01, 0.01), (0.01, -0.01), (0.024, 0.024), (-0.024, 0.01)]
)
@pytest.mark.parametrize("case", ["1920x1080 640x360", "3840x2160 1280x720", "1920x1120 192x112"])
def test_calibrated_intrinsics_are_scaled_to_another_resolution(case, centre_offset):
    (width, height), used_size = (
        tuple(map(int, size_text.split("x"))) for size_text in case.split()
    )
    source_camera = CameraModel.pinhole(width, height, 0.6 * width)
    source_camera = replace(
        source_camera,
        cx=source_camera.cx + centre_offset[0] * width,
        cy=source_camera.cy + centre_offset[1] * height,
    )
    frame = Frames.of_count(1)
    expected_intrinsics, intrinsics = (
        source_camera.rescale(*used_size).intrinsics,
        source_camera.intrinsics,
    )
    assert torch.allclose(
        given_lens(source_camera, frame, used_size).lens.intrinsics,
        expected_intrinsics,
        atol=1e-6,
        rtol=0,
    )
    take_meta = TakeMeta(name="take", camera_intrinsics=intrinsics)
    if any(centre_offset) and height == 1120:  # no standard size
        with refuses("say which size K is of"):
            given_lens(intrinsics, frame, used_size)
        with refuses("exo_camera"):
            meta_lens(take_meta, used_size, Frames.of_count(1))
        return
    for stated in (
        given_lens(intrinsics, frame, used_size),
        meta_lens(take_meta, used_size, Frames.of_count(1)),
    ):
        assert torch.allclose(stated.lens.intrinsics, expected_intrinsics, rtol=0.01)
        assert f"{width}x{height}" in stated.note


@pytest.mark.parametrize(
    "case",
    [
        # numbers of the pictures, or times from a start on in a unit; frames of the video (0:
        # unknown), in use from first to last (and every_nth): the poses' frames, or words of the
        # refusal
        "0-11; 12 -> 0-11",
        "1-12; 12 -> 0-11",
        "8 11 4 7 5 0 9 10 1 3 6 2; 12 -> 8 11 4 7 5 0 9 10 1 3 6 2",
        "0-2 6-11; 12 -> 0-2 6-11",
        (
            "1-11; 12 -> refused set every_nth -1 where number 0 is .*, or set every_nth 1 where "
            "number 1 is"
        ),
        "1-11; 12 0 10 1 -> 0-10",
        "1-11; 12 1 11 -1 -> 1-11",
        "0 5 10 15 20 25; 29 0 25 -> 0 5 10 15 20 25",
        "1-6; 30 0 25 -> 0 5 10 15 20 25",
        (
            "1-6; 30 0 5 -> refused every_nth 1 where number 1 .*, or set every_nth 5 where "
            "number 1 is the"
        ),
        "1-6; 33 0 25 -> refused every_nth -5 where number 0 .*, or set every_nth 5 where number 1",
        "1-6; 33 5 30 -5 -> 5 10 15 20 25 30",
        "1 5 9 13 17 21 25; 49 0 24 -> 0 4 8 12 16 20 24",  # as they stand, the first one first
        "1 5 9 13 17 21 25; 49 1 25 -> 1 5 9 13 17 21 25",  # the very frames in use
        "0 4 8 12; 49 0 12 -> 0 4 8 12",
        "4 8 12 16; 49 4 16 -> 4 8 12 16",
        "0 3 6 9 12; 25 0 12 -> 0 3 6 9 12",
        "0 4 8 12; 25 0 24 2 -> 0 8 16 24",  # pictures that fill the video
        "0 4 8 12; 13 0 12 2 -> 0 4 8 12",
        "0 2 4 6 8; 17 0 8 -> 0 2 4 6 8",
        "0 2 4 6 8; 17 0 8 2 -> 0 2 4 6 8",
        "3 7 11 15; 49 4 8 -> refused every_nth -1 where number 0 .*, or set every_nth 1 where",
        "0-8; 46 10 18 -> 10-18",
        "0-8; 45 10 18 -> refused number the images 10 to 18 where number 0 .*, or set every_nth 5",
        "0-11; 68 0 55 -> refused every_nth 6 where .*, or set every_nth 5 where",
        (
            "1-12; 30 -> refused set every_nth 1 and 9 frames \\(poses end at frame 11\\), or "
            "set every_nth n"
        ),
        "5 10 15; 30 5 15 5 -> 5 10 15",
        "1-9; 31 3 11 -> 3-11",
        "1-9; 200 3 10 -> refused numbered 1 to 9",
        "1-6; 30 0 20 4 -> 0 4 8 12 16 20",
        "0 5 10; 30 0 10 5 -> 0 5 10",
        "0-8; 30 -> refused numbered 0 to 8, .* 30 in use; .* every_nth 1 and 9 frames",
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
def test_poses_are_assigned_to_frames_by_number_or_time(case, tmp_path):
    input_text, expected_text = case.split(" -> ")
    number_text, clip_text = input_text.split("; ")
    count, first, last, every_nth = [*map(int, clip_text.split()), 0, 0, 0][:4]
    frames = make_frames(count, range(first, (last or count - 1) + 1))
    number_ranges, _, clock_text = number_text.partition(" @ ")
    frame_numbers = torch.tensor(expand_ranges(number_ranges), dtype=torch.float64)
    if clock_text:
        start_time, time_unit = map(float, clock_text.split())
        frame_numbers = start_time + time_unit * frame_numbers / 30
    placement_arguments = (frame_numbers, frames, "x", every_nth)
    w2c = W2C[: len(frame_numbers)]
    if expected_text.startswith("refused "):
        with refuses(expected_text.removeprefix("refused ")):
            place_values(*placement_arguments)
        return
    placement = place_values(*placement_arguments)
    poses = w2c[placement.order]
    pose_track = PoseTrack(w2c=poses, moments=placement.moments, clock=placement.clock, name="x")
    expected_frames = torch.tensor(expand_ranges(expected_text)) - first
    camera_path = pose_track.of_frames(frames)
    assert torch.allclose(camera_path[expected_frames], w2c, atol=1e-4)  # nanoseconds fill a double
    interpolated_count = len(camera_path) - len(expected_frames)
    assert (
        f"; {interpolated_count} of {len(camera_path)} frames have no pose" in placement.words
    ) == (interpolated_count > 0)


def test_numbers_of_a_table_that_end_early_bring_no_advice_on_names():
    numbers, frames = torch.tensor([1, 4, 7, 10, 13]), make_frames(17, range(17))
    table, names = (
        place_values(numbers, frames, "x", are_times=are_times) for are_times in (True, False)
    )
    assert table.moments.tolist() == [1, 4, 7, 10, 13] and not table.name_advice
    assert names.moments.tolist() == [0, 3, 6, 9, 12] and "every_nth" in names.name_advice


def make_frames(total: int, used_frames: range):
    moments = torch.tensor(used_frames).double()
    return Frames.stated(moments, moments / 30, total or None)


def expand_ranges(ranges_text: str) -> list[int]:
    """Expand a text of numbers and ranges, such as ``0-2 6``, into a list of numbers."""
    range_ends = [word.split("-") for word in ranges_text.split()]
    return [
        n
        for range_end_pair in range_ends
        for n in range(int(range_end_pair[0]), int(range_end_pair[-1]) + 1)
    ]


def test_numbers_that_are_those_of_the_frames_in_use_are_taken_as_they_are():
    used = torch.arange(1, 26, 2)
    frames = Frames.stated(used, used / 30, 49)
    names = torch.arange(1, 26, 4).double()
    assert place_values(names, frames, "x").moments.equal(names)
