"""Test the choice of a take's depth, camera and poses among file and sockets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.depth.align import ADVICE
from egox_core.takes.depth_inputs import take_depth
from egox_core.types import FrameSelection
from tests.core.takes.test_depth_files import make_meta
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

FRAME_COUNT, HEIGHT, WIDTH = 5, 32, 48
FOCAL = 40.0
INTRINSICS = ((FOCAL, 0, WIDTH / 2), (0, FOCAL, HEIGHT / 2), (0, 0, 1))


def select_frames(video: Path | None = None) -> FrameSelection:
    return frames_in_use(range(FRAME_COUNT), (WIDTH, HEIGHT), source=video)


def moge_payload(focal_px: float = 30.0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> dict:
    width, height = size
    intrinsics = torch.tensor(
        [[focal_px / WIDTH, 0, 0.5], [0, focal_px / HEIGHT, 0.5], [0, 0, 1]]
    ).expand(FRAME_COUNT, 3, 3)
    depth = torch.linspace(2, 4, width).expand(FRAME_COUNT, height, width)
    return {"depth": depth, "intrinsics": intrinsics, "normal": torch.zeros(1)}


def da3_payload(height: int = HEIGHT, width: int = WIDTH) -> dict:
    depth = torch.linspace(3, 6, width).expand(FRAME_COUNT, height, width)
    return {"depth": depth, "mode": "mono", "sky": torch.zeros(FRAME_COUNT, height, width)}


@pytest.fixture
def depth_file(tmp_path) -> Path:
    np.savez(tmp_path / "depth.npz", depth_m=np.full((FRAME_COUNT, HEIGHT, WIDTH), 4, np.float32))
    return tmp_path / "depth.npz"


def test_sockets_precede_the_file_and_the_takes_camera_theirs(depth_file):
    sockets = {
        "da3_geometry": da3_payload(2 * HEIGHT, 2 * WIDTH),
        "moge_geometry": moge_payload(),
    }  # in any order
    meta = make_meta(INTRINSICS, exo=CameraPath.of_exo(None, torch.eye(3, 4)))
    depth, report = take_depth(depth_file, meta, select_frames(), sockets)
    assert "metric depth: MoGe; video depth: Depth Anything 3" in report.text()
    file_depth, report = take_depth(depth_file, meta, select_frames())
    assert float(file_depth.depth_m.mean()) == 4
    assert "metric depth: depth.npz" in report.text()
    for depth_video in (depth, file_depth):
        assert depth_video.exo.camera.fx == FOCAL
        assert depth_video.exo.pose.shape == (3, 4)


def test_without_frames_the_takes_camera_has_the_first_sources_size():
    depth, *_ = take_depth(
        None,
        make_meta(INTRINSICS),
        None,
        {"moge_geometry": moge_payload(size=(2 * WIDTH, 2 * HEIGHT))},
    )
    assert depth.exo.camera.stored_size == (2 * WIDTH, 2 * HEIGHT)
    assert depth.exo.camera.fx == pytest.approx(2 * FOCAL)
    moving_meta = make_meta(
        INTRINSICS, exo=CameraPath.of_exo(None, torch.eye(3, 4).expand(FRAME_COUNT, 3, 4))
    )
    with refuses("give 'frames'"):
        take_depth(None, moving_meta, None, {"moge_geometry": moge_payload()})


def test_files_beside_another_video_are_refused(depth_file, tmp_path):
    (tmp_path / "meta.json").write_text("{}", "utf-8")
    (tmp_path / "exo.mp4").write_bytes(b"the take's own video")
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path, tmp_path / "mine"):
        (folder / "mine.ts").write_bytes(b"another video")
    with refuses("the video in use is mine.ts") as error_info:
        take_depth(
            depth_file, make_meta(INTRINSICS), select_frames(video=tmp_path / "mine" / "mine.ts")
        )
    assert ADVICE in str(error_info.value)
    take_depth(depth_file, make_meta(INTRINSICS), select_frames(video=tmp_path / "mine.ts"))
    (tmp_path / "mine" / "mine.ts").write_bytes(b"the take's own video")  # a copy
    take_depth(
        depth_file, make_meta(INTRINSICS), select_frames(video=tmp_path / "mine" / "mine.ts")
    )
