"""A take's depth: file or sockets, their priority, whose camera and poses count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.depth.adapters import DEPTH_ADAPTERS, socket_sources
from egox_core.depth.align import ADVICE
from egox_core.frames import UNSAID
from egox_core.stages import path
from egox_core.takes.depth_inputs import take_depth
from egox_core.types import FrameSelection
from tests.core.takes.test_depth_files import meta_of
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

T, H, W = 5, 32, 48
FOCAL = 40.0
K = ((FOCAL, 0, W / 2), (0, FOCAL, H / 2), (0, 0, 1))


def selection(video: Path | None = None) -> FrameSelection:
    return frames_in_use(range(T), (W, H), source=video)


def moge(focal: float = 30.0, size: tuple[int, int] = (W, H)) -> dict:
    width, height = size
    k = torch.tensor([[focal / W, 0, 0.5], [0, focal / H, 0.5], [0, 0, 1]]).expand(T, 3, 3)
    depth = torch.linspace(2, 4, width).expand(T, height, width)
    return {"depth": depth, "intrinsics": k, "normal": torch.zeros(1)}


def da3(height: int = H, width: int = W) -> dict:
    depth = torch.linspace(3, 6, width).expand(T, height, width)
    return {"depth": depth, "mode": "mono", "sky": torch.zeros(T, height, width)}


@pytest.fixture
def file(tmp_path) -> Path:
    np.savez(tmp_path / "depth.npz", depth_m=np.full((T, H, W), 4, np.float32))
    return tmp_path / "depth.npz"


def test_sockets_go_before_the_file_and_the_takes_camera_before_theirs(file):
    sockets = {"da3_geometry": da3(2 * H, 2 * W), "moge_geometry": moge()}  # in any order
    meta = meta_of(K, exo=CameraPath.of_exo(None, torch.eye(3, 4)))
    depth, report = take_depth(file, meta, selection(), sockets)
    assert "metric depth: MoGe; video depth: Depth Anything 3" in report.text()
    alone, report = take_depth(file, meta, selection())
    assert float(alone.depth_m.mean()) == 4 and "metric depth: depth.npz" in report.text()
    for each in (depth, alone):
        assert each.exo.camera.fx == FOCAL and each.exo.pose.shape == (3, 4)


def test_the_first_known_camera_is_handed_to_later_sockets():
    sockets = {"moge_geometry": moge(30.0), "da3_geometry": da3()}
    first, second = socket_sources(sockets)
    assert first.depth.exo.camera == second.depth.exo.camera
    (alone,) = socket_sources({"da3_geometry": da3()})
    assert alone.depth.exo.lens_guessed
    assert list(DEPTH_ADAPTERS) == ["moge_geometry", "da3_geometry", "depth_image"], (
        "the order is the priority"
    )


def test_without_frames_the_takes_camera_has_the_first_sources_size():
    depth, *_ = take_depth(None, meta_of(K), UNSAID, {"moge_geometry": moge(size=(2 * W, 2 * H))})
    assert depth.exo.camera.stored_size == (2 * W, 2 * H)
    assert depth.exo.camera.fx == pytest.approx(2 * FOCAL)
    moving = meta_of(K, exo=CameraPath.of_exo(None, torch.eye(3, 4).expand(T, 3, 4)))
    with refuses("give 'frames'"):
        take_depth(None, moving, UNSAID, {"moge_geometry": moge()})


def test_a_file_of_another_take_is_refused_but_not_one_beside_the_video(file, tmp_path):
    (tmp_path / "meta.json").write_text("{}", "utf-8")
    (tmp_path / "exo.mp4").write_bytes(b"the take's own video")
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path, tmp_path / "mine"):
        (folder / "mine.ts").write_bytes(b"another video")
    with refuses("the video in use is mine.ts") as caught:
        take_depth(file, meta_of(K), selection(video=tmp_path / "mine" / "mine.ts"))
    assert ADVICE in str(caught.value)
    with refuses("the poses of .*, while the video in use is mine.ts"):
        path(tmp_path / "meta.json", frames=selection(video=tmp_path / "mine" / "mine.ts"))
    take_depth(file, meta_of(K), selection(video=tmp_path / "mine.ts"))
    (tmp_path / "mine" / "mine.ts").write_bytes(b"the take's own video")  # a copy
    take_depth(file, meta_of(K), selection(video=tmp_path / "mine" / "mine.ts"))


def test_depth_of_another_frame_rate_is_refused(file):
    frames = selection()
    with refuses("5 frames for a video of 10 frames .20 a second"):
        take_depth(file, meta_of(K), replace(frames, total=2 * T))
    take_depth(file, meta_of(K), replace(frames, total=T + 1))
