"""Test exo lenses and poses of pictures as a phone stores them, in videos that are shown turned."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel, sensor_from_upright
from egox_core.stages import align, load_clip, path
from egox_core.takes import load_depth_file, read_meta
from egox_core.video import probe_video
from egox_train.data.exo_pictures import camera_of_video
from egox_train.data.sources import list_takes
from egox_train.video_writer import write_video
from tests.core.facts.pose_doors import write_json
from tests.refusals import refuses

STORED, COUNT = (96, 64), 5
MATRICES = {0: (1, 0, 0, 0, 1), 1: (0, 1, 0, -1, 0), 2: (-1, 0, 0, 0, -1), 3: (0, -1, 0, 1, 0)}
"""a, b, u, c, d of display matrices, by clockwise quarter turns."""
LENS = CameraModel.pinhole(*STORED, 70.0)
W2C = np.array([[0.6, 0, 0.8, 0.1], [0, 1, 0, -0.2], [-0.8, 0, 0.6, 0.3]])


def write_phone_video(folder, turns, stored=STORED):
    file = folder / "exo.mp4"
    pictures = np.random.default_rng(0).random((COUNT, stored[1], stored[0], 3))
    write_video(file, torch.from_numpy(pictures).float(), 20.0)
    content = bytearray(file.read_bytes())
    entries = struct.pack(">5i", *(number << 16 for number in MATRICES[turns]))
    offset = content.find(b"tkhd") + 44
    content[offset : offset + 20] = entries
    file.write_bytes(content)
    return file


def write_meta(folder, lens=LENS, k=None, **more):
    content = {"prompt": "", "camera_extrinsics": W2C.tolist()} | more
    content |= {} if lens is None else {"exo_camera": lens.to_json()}
    content |= {} if k is None else {"camera_intrinsics": k.tolist()}
    content["ego_extrinsics"] = [W2C.tolist()] * COUNT
    return write_json(folder / "meta.json", content)


def shown(lens, turns):
    return replace(lens, quarter_turns=turns).upright()


def assert_turned(exo, turns, tolerance_px=1e-9):
    expected = shown(LENS, turns)
    assert torch.allclose(exo.camera.intrinsics, expected.intrinsics, rtol=0, atol=tolerance_px)
    assert exo.camera.stored_size == expected.stored_size and not exo.camera.quarter_turns
    turned_w2c = sensor_from_upright(turns).T @ torch.from_numpy(W2C)
    assert torch.allclose(exo.at(0), turned_w2c, atol=1e-12)


def exo_at_doors(folder, clip, declared=None):
    """Read the exo camera of a take's meta.json through maps in memory, a file and the path."""
    meta = read_meta(folder / "meta.json")
    width, height = clip.selection.source_size
    maps = np.full((COUNT, height, width), 3, np.float32)
    np.savez(folder / "depth.npz", depth_m=maps)
    options = {"frames": clip.selection, "meta": meta, "declared": declared}
    depth, report = align(maps, **options)
    file_depth, file_report = align(folder / "depth.npz", **options)
    assert file_report.facts and file_depth.exo.begins_as(depth.exo)
    rows = [[r for r in rep.facts if r.fact == "exo.picture"] for rep in (report, file_report)]
    assert rows[0] == rows[1]
    trajectory, _ = path(folder / "meta.json", frames=clip.selection)
    exos = [depth.exo, file_depth.exo]
    return exos if declared else [*exos, trajectory.exo], rows[0]


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("given", ["exo_camera", "K", "quarter_turns", "shown"])
def test_lens_and_pose_turn_with_the_picture(given, turns, tmp_path):
    clip, _ = load_clip(write_phone_video(tmp_path, turns), frame_count=COUNT, one_shot=True)
    assert clip.selection.source_size == (64, 96) and clip.selection.display_turns == turns
    if given == "shown":
        write_meta(tmp_path, shown(LENS, turns))
    elif given == "K":
        write_meta(tmp_path, None, LENS.intrinsics)
    else:
        write_meta(tmp_path, replace(LENS, quarter_turns=turns if given == "quarter_turns" else 0))
    exos, rows = exo_at_doors(tmp_path, clip)
    for exo in exos:
        if given == "shown":  # with a pose of the shown picture, as always
            assert torch.allclose(exo.at(0), torch.from_numpy(W2C), atol=1e-12)
        else:
            assert_turned(exo, turns, 1.0 if given == "K" else 1e-9)
    if given == "quarter_turns":
        (row,) = rows
        assert row.value == f"turned by {90 * turns} degrees" and "quarter_turns" in row.by
    if given in ("exo_camera", "K"):
        (row,) = rows
        assert row.value == "stored" and "size of the lens" in row.by


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_a_calibrated_k_keeps_its_centre_wherever_it_is_read(turns, tmp_path):
    """Check a K off the middle, whose doubled centre has another shape than either picture."""
    video = write_phone_video(tmp_path, turns)
    clip, _ = load_clip(video, frame_count=COUNT, one_shot=True)
    lens = replace(LENS, cx=50.2, cy=29.1)
    write_meta(tmp_path, None, lens.intrinsics)
    for exo in exo_at_doors(tmp_path, clip)[0]:
        assert torch.allclose(exo.camera.intrinsics, shown(lens, turns).intrinsics)
    ((view,),) = (take.exos for take in list_takes(tmp_path, "auto", []))
    assert camera_of_video(view, probe_video(video)) == shown(lens, turns)


def test_half_a_turn_is_declared(tmp_path):
    clip, _ = load_clip(write_phone_video(tmp_path, 2), frame_count=COUNT, one_shot=True)
    write_meta(tmp_path)
    exos, (row,) = exo_at_doors(tmp_path, clip)
    assert row.value == "shown" and row.by == "default" and "exo.picture=stored" in row.advice
    assert all(torch.allclose(exo.at(0), torch.from_numpy(W2C)) for exo in exos)
    exos, (row,) = exo_at_doors(tmp_path, clip, "exo.picture=stored")
    for exo in exos:
        assert_turned(exo, 2)
    assert row.by == "declared"
    write_meta(tmp_path, declared={"exo.picture": "stored"})
    exos, (row,) = exo_at_doors(tmp_path, clip)
    for exo in exos:
        assert_turned(exo, 2)
    assert "meta.json" in row.by


def test_a_stored_picture_that_nothing_turns_is_the_shown_one(tmp_path):
    clip, _ = load_clip(write_phone_video(tmp_path, 0), frame_count=COUNT, one_shot=True)
    write_meta(tmp_path)
    exos, (row,) = exo_at_doors(tmp_path, clip, "exo.picture=stored")
    for exo in exos:
        assert_turned(exo, 0)
    assert row.by == "declared"


def test_square_pictures_are_declared(tmp_path):
    square = CameraModel.pinhole(64, 64, 70.0)
    video = write_phone_video(tmp_path, 1, (64, 64))
    clip, _ = load_clip(video, frame_count=COUNT, one_shot=True)
    write_meta(tmp_path, square)
    _, (row,) = exo_at_doors(tmp_path, clip)
    assert row.value == "shown" and row.advice
    exos, _ = exo_at_doors(tmp_path, clip, "exo.picture=stored")
    turned_w2c = sensor_from_upright(1).T @ torch.from_numpy(W2C)
    assert all(torch.allclose(exo.at(0), turned_w2c) for exo in exos)


@pytest.mark.parametrize("given", ["exo_camera", "K"])
def test_a_turned_lens_in_an_unturned_video_is_refused_and_the_remedies_work(given, tmp_path):
    clip, _ = load_clip(
        write_phone_video(tmp_path, 0, STORED[::-1]), frame_count=COUNT, one_shot=True
    )
    is_k = given == "K"
    write_meta(tmp_path, None if is_k else LENS, LENS.intrinsics if is_k else None)
    maps = np.full((COUNT, 96, 64), 3, np.float32)
    np.savez(tmp_path / "depth.npz", depth_m=maps)
    for depth in (maps, tmp_path / "depth.npz"):
        with refuses("a lens of 9[56]x6[34] px for a picture of 64x96.*quarter_turns 1"):
            align(depth, frames=clip.selection, meta=read_meta(tmp_path / "meta.json"))
    with refuses("a lens of 9[56]x6[34] px for a picture of 64x96.*quarter_turns 1"):
        load_depth_file(tmp_path / "depth.npz", read_meta(tmp_path / "meta.json"))
    write_meta(tmp_path, replace(LENS, quarter_turns=1))
    for exo in exo_at_doors(tmp_path, clip)[0]:
        assert_turned(exo, 1)
    turned = shown(LENS, 1)
    turned_w2c = (sensor_from_upright(1).T @ torch.from_numpy(W2C)).tolist()
    write_meta(tmp_path, turned, camera_extrinsics=turned_w2c)
    for exo in exo_at_doors(tmp_path, clip)[0]:
        assert_turned(exo, 1)


def test_turns_to_another_shape_are_refused_and_the_remedy_works(tmp_path):
    clip, _ = load_clip(write_phone_video(tmp_path, 0), frame_count=COUNT, one_shot=True)
    write_meta(tmp_path, replace(LENS, quarter_turns=1))
    with refuses("quarter_turns of .*64 px wide and 96 px high.*leave quarter_turns out"):
        exo_at_doors(tmp_path, clip)
    write_meta(tmp_path)
    assert all(exo.camera == LENS for exo in exo_at_doors(tmp_path, clip)[0])


def test_a_callers_turned_camera(tmp_path):
    clip, _ = load_clip(write_phone_video(tmp_path, 1), frame_count=COUNT, one_shot=True)
    maps = np.full((COUNT, 96, 64), 3, np.float32)
    options = {"frames": clip.selection, "exo_w2c": W2C}
    for camera in (LENS, LENS.intrinsics):
        with refuses("a lens of 9[56]x6[34] px for a picture of 64x96.*quarter_turns 1"):
            align(maps, camera=camera, **options)
    depth, _ = align(maps, camera=replace(LENS, quarter_turns=1), **options)
    assert_turned(depth.exo, 1)


def test_poses_in_the_exo_cameras_own_world_turn_with_it(tmp_path):
    clip, _ = load_clip(write_phone_video(tmp_path, 1), frame_count=COUNT, one_shot=True)
    file = write_meta(tmp_path)
    in_take, _ = path(file, frames=clip.selection)
    ego_from_exo = in_take.ego.seen_from(in_take.exo)
    square_w2c, exo_w2c = np.vstack([W2C, [0, 0, 0, 1]]), np.vstack([W2C, [0, 0, 0, 1]])
    relative = (square_w2c @ np.linalg.inv(exo_w2c))[:3].tolist()
    content = {"ego_extrinsics": [relative] * COUNT, "exo_camera": LENS.to_json(), "prompt": ""}
    own_world, _ = path(write_json(file, content), frames=clip.selection)
    assert own_world.ego.world == "exo"
    assert torch.allclose(own_world.ego.seen_from(own_world.exo), ego_from_exo)


def test_two_lenses_of_one_file_are_told(tmp_path):
    clip, _ = load_clip(write_phone_video(tmp_path, 0), frame_count=COUNT, one_shot=True)
    maps = np.full((COUNT, 64, 96), 3, np.float32)
    np.savez(tmp_path / "depth.npz", depth_m=maps)
    k = LENS.intrinsics * torch.tensor([[1.5, 1, 1], [1, 1.5, 1], [1, 1, 1]])
    for matrix, is_other in ((k, True), (LENS.intrinsics, False)):
        meta = read_meta(write_meta(tmp_path, LENS, matrix))
        for depth in (maps, tmp_path / "depth.npz"):
            _, report = align(depth, frames=clip.selection, meta=meta)
            (row,) = (row for row in report.facts if row.fact == "exo.lens")
            assert ["camera_intrinsics of" in other for other in row.others] == [True] * is_other
