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
    calibration_table = read_gopro_calibs(
        write_lens_table(
            tmp_path / "gopro_calibs.csv",
            row("cam01", 1761.28),
            row("cam02", 1700, quality=0),
            row("cam03", 1750, (80, 89)),
            row("cam03", 1755, (0, 70)),
            row("cam04", 1700, lens="PINHOLE"),
            row("cam05", 1700, (9, 3)),
        ),
        notes,
    )
    assert (
        set(calibration_table) == {"cam01", "cam03"}
        and calibration_table["cam01"].valid_frames is None
    )
    assert calibration_table["cam01"].camera.fx == 1761.28 and calibration_table[
        "cam01"
    ].camera.distortion == (
        0.03,
        0.05,
        -0.05,
        0.01,
    )
    # The longer stretch.
    assert (
        calibration_table["cam03"].valid_frames == (0, 70)
        and calibration_table["cam03"].camera.fx == 1755
    )
    notes_text = " ".join(notes)
    assert (
        "cam02" in notes_text
        and "quality 0" in notes_text
        and "PINHOLE" in notes_text
        and "frames 9 to 3" in notes_text
    )


def test_a_file_that_is_no_such_table_is_refused(tmp_path):
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
    exact_options = PrepareOptions(prior="exact")
    assert (exact_options.source_lens, exact_options.depth_scale) == (
        "raw where known",
        "wearer where seen",
    )
    assert (
        PrepareOptions(prior="exact", exo_lens="as given", scale="as is").source_lens == "as given"
    )
    assert PrepareOptions(prior="exact", depth="plane").depth_scale == "as is"
    with refuses("stand-in"):
        PrepareOptions(depth="plane", scale="wearer")
    take_folder = released_layout / "room"
    command = f"--frames 5 --preset exact --out {tmp_path / 'out'} --take {take_folder}".split()
    assert main(command) == 0
    report_content = read_json(tmp_path / "out" / "report.json")
    assert (
        "raw" in report_content["exo_lens"] and "head in 0 of 5" in report_content["scale"]["note"]
    )  # nobody stands there
    assert main([*command, "--exo-lens", "as-given", "--scale", "2"]) == 0
    report_content = read_json(tmp_path / "out" / "report.json")
    assert (
        report_content["exo_lens"] == "exo lens as given" and report_content["scale"]["scale"] == 2
    )
    assert main([*command, "--scale", "wearer"]) == 1
    assert main([*command, "--scale", "big"]) == 1


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
    squared_errors_px, rays_by_frame = [], {}
    for view in take.exos:
        camera = view.exo.camera.rescale(*PICTURE_SIZE)
        for frame, picked_pixel in picked_pixels.get(view.name, {}).items():
            head_position = camera_centre(take.ego.w2c[int(frame)])
            pixel = torch.tensor(picked_pixel, dtype=torch.float64)
            uv, _ = camera.project(transform(view.exo.pose, head_position[None]))
            squared_errors_px.append(float((uv[0] - pixel).square().sum()))
            ray, _ = camera.unproject(pixel)
            rays_by_frame.setdefault(int(frame), []).append(
                (camera_centre(view.exo.pose), view.exo.pose[:, :3].T @ ray)
            )
    assert (sum(squared_errors_px) / len(squared_errors_px)) ** 0.5 < 25
    met = 0
    for frame, frame_rays in rays_by_frame.items():
        if len(frame_rays) < 2:
            continue
        met += 1
        projections = [
            torch.eye(3, dtype=torch.float64) - torch.outer(ray, ray) for _, ray in frame_rays
        ]
        meeting_point = torch.linalg.solve(
            sum(projections), sum(a @ c for a, (c, _) in zip(projections, frame_rays, strict=True))
        )
        assert float((meeting_point - camera_centre(take.ego.w2c[frame])).norm()) < 0.25
    assert met >= 2


def test_the_takes_own_table_goes_first_and_as_given_is_a_pinhole(
    raw_folder, take_writers, tmp_path
):
    source_folder = take_writers.copy_raw(raw_folder, tmp_path / "raw", lambda content: None)
    (derived_take,) = read_egoexo4d(source_folder, [])
    write_lens_table(
        source_folder / "takes" / derived_take.name / "trajectory" / "gopro_calibs.csv",
        row("cam01", 1700, (30, 60)),
        row("cam02", 1700, quality=0),
    )
    (take,) = read_egoexo4d(source_folder, [])
    view_by_name, derived_view_by_name = (
        {v.name: v for v in take.exos},
        {v.name: v for v in derived_take.exos},
    )
    assert (
        view_by_name["cam01"].exo.camera.fx == 1700
        and view_by_name["cam02"].exo.camera == derived_view_by_name["cam02"].exo.camera
    )
    known_frames = (
        view_by_name["cam01"].usable_frames(torch.ones(100, dtype=torch.bool)).nonzero().flatten()
    )
    assert (int(known_frames[0]), int(known_frames[-1])) == (30, 60)
    assert any("cam02" in note.text and "quality 0" in note.text for note in take.notes)
    (pinhole_take,) = read_egoexo4d(source_folder, [], "as given")
    assert all(
        v.exo.camera.lens == "pinhole" and 1200 < v.exo.camera.fx < 1300 and v.valid_frames is None
        for v in pinhole_take.exos
    )
    assert all(1740 < v.exo.camera.fx < 1790 for v in derived_take.exos)
