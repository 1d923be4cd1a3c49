"""The demo's own steps: options, keypoints, the side-by-side."""

from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core import file_names
from egox_core.cameras.model import CameraModel
from egox_core.safe_files import read_json, write_json
from egox_core.trajectory.head_payloads import OPENPOSE_POINTS, openpose_people
from egox_core.trajectory.head_points import choose_person
from egox_core.trajectory.head_template import POINTS
from egox_core.video.reader import probe_video
from egox_core.video.selection import camera_of_frames, select_frames
from egox_train.video_writer import write_video
from tests.paths import ROOT
from tools.setup.api_client import read_prompt
from tools.setup.demo import DemoOptions, apply_options, check_options, of_type
from tools.setup.demo_head import keypoints_in_use
from tools.setup.layout import SetupError
from tools.setup.side_by_side import join, read_frames

CALM_ROOM = ROOT / "sample" / "calm_room"
EXO = CALM_ROOM / file_names.EXO


def test_a_take_runs_at_full_size():
    made = apply_options(read_prompt("egox_demo"), DemoOptions(take=Path("x")), "take_x")
    (load,) = of_type(made, "EgoXLoadExoVideo")
    values = [load[name] for name in ("frame_count", "width", "height", "file")]
    assert values == [49, 784, 448, "take_x/exo.mp4"]
    with pytest.raises(SetupError, match="no EgoXWanSampler node with an input steps"):
        apply_options({}, DemoOptions(steps=3), None)


def test_side_by_side(tmp_path):
    random = np.random.default_rng(0)
    sizes = {"exo": (64, 112), "prior": (64, 64), "ego": (64, 64), "truth": (128, 128)}
    for name, (height, width) in sizes.items():
        flat = random.integers(0, 255, (7 if name in ("exo", "truth") else 5, 1, 1, 3))
        frames = np.broadcast_to(flat, (len(flat), height, width, 3)).astype(np.uint8)
        write_video(tmp_path / f"{name}.mp4", torch.from_numpy(frames), 10.0)
    join(tmp_path, tmp_path / "exo.mp4", tmp_path / "truth.mp4", range(2, 7), "")
    joined = read_frames(tmp_path / "side_by_side.mp4")
    assert joined.shape == (5, 64, 112 + 3 * 68, 3), "as long as the ego video, one height"
    exo = read_frames(tmp_path / "exo.mp4")
    # Flat pictures: what differs is the second encoding only.
    assert np.abs(joined[:, 20:40, 20:90].astype(int) - exo[2:, 20:40, 20:90]).mean() < 4
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000


def seen(nose: tuple[float, float], width: int = 64, height: int = 48) -> dict:
    values = [0.0] * 54
    row = 3 * OPENPOSE_POINTS[18]["nose"]
    values[row : row + 3] = [*nose, 0.9]
    people = [{"pose_keypoints_2d": values}]
    return {"canvas_width": width, "canvas_height": height, "people": people}


@pytest.mark.parametrize(
    ("width", "height", "resize"), [(144, 80, "crop"), (128, 128, "crop"), (128, 128, "pad")]
)
def test_keypoints_follow_the_picture_like_cameras(width, height, resize, tmp_path):
    """A point seen by the source's camera and by that of the frames in use."""
    video = probe_video(EXO)
    chosen = select_frames(video, frame_count=9, width=width, height=height, resize=resize)
    source = CameraModel(
        lens="pinhole",
        width=video.width,
        height=video.height,
        fx=300.0,
        fy=300.0,
        cx=230.0,
        cy=120.0,
    )
    place = torch.tensor([[0.1, -0.2, 2.0]], dtype=torch.float64)
    before, _ = source.project(place)
    after, _ = camera_of_frames(source, chosen).project(place)
    frames = [seen(before[0].tolist(), video.width, video.height)] * video.frame_count
    write_json(tmp_path / "keypoints.json", frames)
    moved = choose_person(
        openpose_people(keypoints_in_use(tmp_path / "keypoints.json", EXO, chosen))
    )
    assert moved.picture == (width, height)
    torch.testing.assert_close(moved.uv[0, POINTS.index("nose")], after[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "0 frames"),
        ([{}], "canvas_width"),
        ([seen((8.0, 8.0))], r"1 frames of \[\(64, 48\)\] px; the video has"),
        (None, "No such file"),
    ],
)
def test_keypoints_of_another_form_or_video_are_refused(content, told, tmp_path):
    if content is not None:
        write_json(tmp_path / "keypoints.json", content)
    chosen = select_frames(probe_video(EXO), frame_count=1, width=64, height=64)
    with pytest.raises(SetupError, match=f"{told}(?s:.*)--keypoints FILE"):
        keypoints_in_use(tmp_path / "keypoints.json", EXO, chosen)


def test_options_that_no_node_would_see(tmp_path):
    (tmp_path / "exo.mp4").write_bytes(b"")
    for options, told in (
        (DemoOptions(take=tmp_path), "lacks depth.npz, meta.json"),
        (DemoOptions(keypoints=tmp_path), "is for --head estimated"),
    ):
        with pytest.raises(SetupError, match=told):
            check_options(options)


def test_the_sample_s_keypoints_are_of_its_video():
    """As a detector gives them: some frames without anybody, never a point outside the picture by
    far."""
    video, frames = probe_video(EXO), read_json(CALM_ROOM / file_names.HEAD_KEYPOINTS)
    points = choose_person(openpose_people(frames))
    assert len(frames) == video.frame_count and points.picture == (video.width, video.height)
    there = points.seen.any(1)
    assert bool(there.any()) and not bool(there.all())
