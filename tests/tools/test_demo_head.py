"""``run.py demo --head estimated``: keypoints of a video become those of the frames in use, before the real node."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from egox_core import file_names
from egox_core.cameras.model import CameraModel, project
from egox_core.trajectory.head_payloads import OPENPOSE_POINTS, openpose_points
from egox_core.trajectory.head_template import POINTS
from egox_core.video.reader import probe_video
from egox_core.video.selection import camera_of_frames, select_frames
from tools.setup import demo_head
from tools.setup.demo import DemoOptions, check_options
from tools.setup.demo_head import estimate_head, keypoints_in_use, read_keypoints
from tools.setup.layout import SetupError

OBJECT_INFO = {
    "EgoXLoadExoVideo": {"output_name": ["exo_images", "audio", "fps", "frames"]},
    "EgoXDepthAlign": {"output_name": ["depth", "preset"]},
    "EgoXEgoPoseInput": {"output_name": ["trajectory", "prompt"]},
    "EgoXEstimateHeadPose": {
        "output_name": ["trajectory", "keyframes", "preview", "report"],
        "input": {"required": {"exo_images": ["IMAGE", {}], "mount": ["COMBO", {"options": ["glasses", "none"]}]},
                  "optional": {"pose_keypoints": ["POSE_KEYPOINT", {}]}}},
}


def prompt() -> dict:
    return {
        "1": {"class_type": "EgoXLoadExoVideo", "inputs": {
            "start_frame": 0, "frame_count": 2, "width": 32, "height": 16, "resize": "crop", "target_fps": 0.0}},
        "2": {"class_type": "EgoXDepthAlign", "inputs": {}},
        "7:3": {"class_type": "EgoXEgoPoseInput", "inputs": {"source": "file"}},
    }


def seen(nose: tuple[float, float], width: int = 64, height: int = 48) -> dict:
    values = [0.0] * 54
    row = 3 * OPENPOSE_POINTS[18]["nose"]
    values[row:row + 3] = [*nose, 0.9]
    return {"canvas_width": width, "canvas_height": height, "people": [{"pose_keypoints_2d": values}]}


def test_the_file_s_name_is_the_core_s() -> None:
    assert demo_head.KEYPOINTS == file_names.HEAD_KEYPOINTS


@pytest.mark.parametrize(("width", "height"), [(144, 80), (128, 128), (448, 256)])
def test_keypoints_follow_the_cropped_picture_like_cameras(width: int, height: int, repo_root: Path) -> None:
    """A point seen by the source's camera and by that of the frames in use."""
    video = probe_video(repo_root / "sample" / "calm_room" / file_names.EXO)
    chosen = select_frames(video, frame_count=9, width=width, height=height)
    source = CameraModel(lens="pinhole", width=video.width, height=video.height, fx=300.0, fy=300.0, cx=230.0, cy=120.0)
    place = torch.tensor([[0.1, -0.2, 2.0]], dtype=torch.float64)
    before, _ = project(source, place)
    after, _ = project(camera_of_frames(source, chosen), place)
    load = {"start_frame": 0, "frame_count": 1, "width": width, "height": height}
    moved = openpose_points(keypoints_in_use([seen(before[0].tolist(), video.width, video.height)], load))
    assert moved.picture == (width, height)
    torch.testing.assert_close(moved.uv[0, POINTS.index("nose")], after[0], atol=1e-6, rtol=0)


def test_the_estimate_stands_before_the_pose() -> None:
    made = estimate_head(prompt(), [seen((8.0, 8.0)), seen((9.0, 9.0)), seen((9.0, 9.0))], OBJECT_INFO)
    head, pose = made["head"]["inputs"], made["7:3"]["inputs"]
    assert pose["source"] == "estimated" and pose["estimated"] == ["head", 0]
    assert head["exo_images"] == ["1", 0] and head["frames"] == ["1", 3] and head["depth"] == ["2", 0]
    assert head["mount"] == "glasses", "the node's own defaults otherwise"
    frames = head["pose_keypoints"]["__value__"]
    assert len(frames) == 2 and all(frame["canvas_width"] == 32 for frame in frames)
    json.dumps(made)


def test_what_does_not_fit_is_told() -> None:
    frames = [seen((8.0, 8.0))] * 2
    with pytest.raises(SetupError, match="keypoints of 1 frames, and 2 are used"):
        estimate_head(prompt(), frames[:1], OBJECT_INFO)
    with pytest.raises(SetupError, match="canvas_width"):
        estimate_head(prompt(), [{"people": []}] * 2, OBJECT_INFO)
    padded = copy.deepcopy(prompt())
    padded["1"]["inputs"]["resize"] = "pad"
    with pytest.raises(SetupError, match="no padding"):
        estimate_head(padded, frames, OBJECT_INFO)
    with pytest.raises(SetupError, match="demo's graph"):
        estimate_head({"1": prompt()["1"]}, frames, OBJECT_INFO)


def test_keypoint_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="--keypoints FILE"):
        read_keypoints(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SetupError, match="list with one object a frame"):
        read_keypoints(tmp_path / "other.json")
    with pytest.raises(SetupError, match="is for --head estimated"):
        check_options(DemoOptions(keypoints=tmp_path / "other.json"))


def test_the_sample_s_keypoints_are_of_its_video(repo_root: Path) -> None:
    """As a detector gives them: some frames without anybody, never a point outside the picture by far."""
    folder = repo_root / "sample" / "calm_room"
    video = probe_video(folder / file_names.EXO)
    frames = read_keypoints(folder / file_names.HEAD_KEYPOINTS)
    points = openpose_points(frames)
    assert len(frames) == video.frame_count and points.picture == (video.width, video.height)
    kinds = points.kinds()
    assert "face" in kinds and "nothing" in kinds
