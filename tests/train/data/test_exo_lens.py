"""Test how the lens of Ego-Exo4D's exo cameras is found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.poses import camera_centre, transform
from egox_core.safe_files import read_json, write_json
from egox_train.cli.prior import main
from egox_train.data.clip_files import read_clip
from egox_train.data.egoexo4d import read_egoexo4d
from egox_train.data.gopro_calibs import read_gopro_calibs
from egox_train.data.prepare_options import PrepareOptions
from egox_train.video_writer import write_video
from tests.poses import still_poses
from tests.refusals import refuses
from tests.train.prepared_takes import SMALL_OPTIONS, prepare_and_read, write_lens_table

PICTURE_SIZE = (796, 448)  # the downscaled videos
POSE_CELLS = "g,0,0,0,0,0,0,1"


def row(
    name: str,
    focal: float,
    frames: tuple[int, int] = (-1, -1),
    quality: float = 1,
    lens: str = "KANNALABRANDTK3",
) -> str:
    return (
        f" {name},{POSE_CELLS},3840,2160,{lens},{focal},{focal},1920,1080,0.03,0.05,-0.05,0.01,"
        f"{frames[0]},{frames[1]},{quality}"
    )


def test_the_table_gives_good_rows_and_names_the_others(tmp_path):
    notes: list[str] = []
    rows = (
        row("cam01", 1761.28),
        row("cam02", 1700, quality=0),
        row("cam03", 1750, (80, 89)),
        row("cam03", 1755, (0, 70)),
        row("cam04", 1700, lens="PINHOLE"),
        row("cam05", 1700, (9, 3)),
    )
    table = read_gopro_calibs(write_lens_table(tmp_path / "gopro_calibs.csv", *rows), notes)
    found = {name: (entry.camera.fx, entry.valid_frames) for name, entry in table.items()}
    assert found == {"cam01": (1761.28, None), "cam03": (1755, (0, 70))}, "the longer stretch"
    assert table["cam01"].camera.distortion == (0.03, 0.05, -0.05, 0.01)
    for words in ("cam02", "quality 0", "PINHOLE", "frames 9 to 3"):
        assert words in " ".join(notes)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", "utf-8")
    with refuses("no column cam_uid"):
        read_gopro_calibs(tmp_path / "x.csv", [])


@pytest.fixture
def released_layout(tmp_path) -> Path:
    """Write a take in the layout of the authors' release."""
    take_folder, frame_count = tmp_path / "source" / "room", 5
    take_folder.mkdir(parents=True)
    write_video(
        take_folder / "exo.mp4", torch.full((frame_count, 64, 112, 3), 90, dtype=torch.uint8), 30.0
    )
    np.savez(take_folder / "depth.npz", depth_m=np.full((frame_count, 64, 112), 2.0, np.float16))
    exo_pose = torch.eye(3, 4, dtype=torch.float64)
    ego_poses = still_poses(frame_count)
    exo_pose[0, 3], ego_poses[:, 2, 3] = 0.5, torch.arange(frame_count) / 10
    write_json(
        take_folder / "meta.json",
        {
            "prompt": "",
            "camera_intrinsics": [[1240, 0, 1920], [0, 1240, 1080], [0, 0, 1]],
            "camera_extrinsics": exo_pose.tolist(),
            "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
            "ego_extrinsics": ego_poses.tolist(),
        },
    )
    return take_folder.parent


def test_prepare_takes_lens_and_scale_as_asked(released_layout, tmp_path):
    """Check that ``prepare`` uses the requested exo lens and depth scale."""
    for exo_lens, lens in ((None, "pinhole"), ("raw", "opencv_fisheye")):
        options = replace(
            SMALL_OPTIONS, exo_size=(112, 64), ego_size=64, exo_lens=exo_lens, scale=1.5
        )
        (record,), _ = prepare_and_read(released_layout, tmp_path / str(exo_lens), options)
        depth_video = read_clip(tmp_path / str(exo_lens), record).take.depth
        assert depth_video.exo.camera.lens == lens and record.depth_scale["scale"] == 1.5
        assert (
            torch.isfinite(depth_video.depth_m).all() and float(depth_video.depth_m[0, 0, 0]) == 3.0
        )
    # 1761 px at 3840 wide, of which the video shows the middle at 1/33.75.
    assert depth_video.exo.camera.fx == pytest.approx(1765 / 33.75, rel=0.01)
    assert depth_video.exo.camera.cx == pytest.approx((112 - 1) / 2, abs=0.6)


def test_exact_is_a_preset_of_the_whole_way(released_layout, tmp_path):
    exact = PrepareOptions(prior="exact")
    assert (exact.source_lens, exact.depth_scale) == ("raw where known", "wearer where seen")
    assert replace(exact, exo_lens="as given", scale="as is").source_lens == "as given"
    assert replace(exact, depth="plane").depth_scale == "as is"
    with refuses("stand-in"):
        PrepareOptions(depth="plane", scale="wearer")
    command = (
        f"--frames 5 --preset exact --out {tmp_path} --take {released_layout / 'room'}".split()
    )
    assert main(command) == 0
    report = read_json(tmp_path / "report.json")
    assert "raw" in report["exo_lens"]
    assert "head in 0 of 5" in report["scale"]["note"], "nobody stands there"
    assert main([*command, "--exo-lens", "as-given", "--scale", "2"]) == 0
    report = read_json(tmp_path / "report.json")
    assert report["exo_lens"] == "exo lens as given" and report["scale"]["scale"] == 2
    assert main([*command, "--scale", "wearer"]) == main([*command, "--scale", "big"]) == 1


@pytest.fixture(scope="module")
def raw_folder(shared_dir) -> Path:
    folder = shared_dir / "data" / "egoexo4d_raw"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/egoexo4d_raw, a take in the dataset's own layout")
    return folder


def test_the_picked_head_lies_where_the_exact_lens_sees_it(raw_folder):
    """Check that the lens projects the ego camera to the place that a person picked in the picture.

    What is left is the few cm between the picked bridge and the camera, tracking, and the picks'
    own 3 px."""
    (take,) = read_egoexo4d(raw_folder, [])
    picked_pixels = read_json(raw_folder / "head_picks.json")
    squared_errors_px = []
    for view in take.exos:
        camera = view.exo.camera.rescale(*PICTURE_SIZE)
        for frame, pixel in picked_pixels.get(view.name, {}).items():
            head_position = camera_centre(take.ego.w2c[int(frame)])
            uv, _ = camera.project(transform(view.exo.pose, head_position[None]))
            squared_errors_px.append(float((uv[0] - torch.tensor(pixel)).square().sum()))
    assert len(squared_errors_px) >= 4 and np.mean(squared_errors_px) ** 0.5 < 25


def test_the_takes_own_table_goes_first_and_as_given_is_a_pinhole(
    raw_folder, take_writers, tmp_path
):
    source = take_writers.copy_raw(raw_folder, tmp_path / "raw", lambda content: None)

    def read_take(*options: str):
        (take,) = read_egoexo4d(source, [], *options)
        return take, {view.name: view for view in take.exos}

    derived_take, derived_views = read_take()
    assert all(1740 < view.exo.camera.fx < 1790 for view in derived_take.exos)
    table = source / "takes" / derived_take.name / "trajectory" / "gopro_calibs.csv"
    write_lens_table(table, row("cam01", 1700, (30, 60)), row("cam02", 1700, quality=0))
    take, views = read_take()
    assert views["cam01"].exo.camera.fx == 1700
    assert views["cam02"].exo.camera == derived_views["cam02"].exo.camera
    usable_frames = views["cam01"].usable_frames(torch.ones(100, dtype=torch.bool)).nonzero()
    assert (int(usable_frames[0]), int(usable_frames[-1])) == (30, 60)
    assert any("cam02" in note.text and "quality 0" in note.text for note in take.notes)
    for view in read_take("as given")[0].exos:
        assert view.exo.camera.lens == "pinhole" and 1200 < view.exo.camera.fx < 1300
        assert view.valid_frames is None
