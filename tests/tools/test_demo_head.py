"""``run.py demo --head estimated``: keypoints of a video become those of the frames in use, before
the real node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from egox_core import file_names
from egox_core.cameras.model import CameraModel, project
from egox_core.safe_files import read_json, write_json
from egox_core.trajectory.head_payloads import OPENPOSE_POINTS, openpose_points
from egox_core.trajectory.head_template import POINTS
from egox_core.video.reader import probe_video
from egox_core.video.selection import camera_of_frames, select_frames
from tools.setup.demo import DemoOptions, check_options
from tools.setup.demo_head import keypoints_in_use
from tools.setup.layout import SetupError


def seen(nose: tuple[float, float], width: int = 64, height: int = 48) -> dict:
    values = [0.0] * 54
    row = 3 * OPENPOSE_POINTS[18]["nose"]
    values[row : row + 3] = [*nose, 0.9]
    return {
        "canvas_width": width,
        "canvas_height": height,
        "people": [{"pose_keypoints_2d": values}],
    }


@pytest.fixture
def exo(repo_root) -> Path:
    return repo_root / "sample" / "calm_room" / file_names.EXO


def in_use(folder: Path, content: Any, exo: Path, **load: Any) -> list[dict[str, Any]]:
    file = folder / "keypoints.json"
    write_json(file, content)
    return keypoints_in_use(
        file, exo, {"start_frame": 0, "frame_count": 1, "width": 64, "height": 64} | load
    )


@pytest.mark.parametrize(("width", "height"), [(144, 80), (128, 128), (448, 256)])
@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_keypoints_follow_the_picture_like_cameras(width, height, resize, exo, tmp_path):
    """A point seen by the source's camera and by that of the frames in use."""
    video = probe_video(exo)
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
    before, _ = project(source, place)
    after, _ = project(camera_of_frames(source, chosen), place)
    frames = [seen(before[0].tolist(), video.width, video.height)] * video.frame_count
    moved = openpose_points(
        in_use(tmp_path, frames, exo, width=width, height=height, resize=resize)
    )
    assert moved.picture == (width, height)
    torch.testing.assert_close(moved.uv[0, POINTS.index("nose")], after[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "list with one object per frame"),
        ([{}], "list with one object per frame"),
        ([seen((8.0, 8.0))], "1 frames of .'(64, 48)'. px; the video has"),
        ([{"people": []}] * 9, "canvas_width"),
    ],
)
def test_keypoints_of_another_form_or_video_are_refused(content, told, exo, tmp_path):
    with pytest.raises(SetupError, match=told.replace("(", "\\(").replace(")", "\\)")):
        in_use(tmp_path, content, exo)


def test_a_file_that_is_not_there_or_not_asked_for(exo, tmp_path):
    with pytest.raises(SetupError, match="--keypoints FILE"):
        keypoints_in_use(tmp_path / "none.json", exo, {})
    with pytest.raises(SetupError, match="is for --head estimated"):
        check_options(DemoOptions(keypoints=tmp_path / "other.json"))


def test_the_sample_s_keypoints_are_of_its_video(repo_root):
    """As a detector gives them: some frames without anybody, never a point outside the picture by
    far."""
    folder = repo_root / "sample" / "calm_room"
    video = probe_video(folder / file_names.EXO)
    frames = read_json(folder / file_names.HEAD_KEYPOINTS)
    points = openpose_points(frames)
    assert len(frames) == video.frame_count and points.picture == (video.width, video.height)
    there = points.seen.any(1)
    assert bool(there.any()) and not bool(there.all())
