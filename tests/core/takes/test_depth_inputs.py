"""Inputs of Depth Align: the file's role, the sockets' priority, whose camera and poses
count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.depth.adapters import DEPTH_ADAPTERS, DepthSocket, socket_sources
from egox_core.depth.align import ADVICE
from egox_core.takes.depth_inputs import DepthFileInput, depth_inputs, file_counts
from egox_core.types import FrameSelection, TakeMeta
from tests.refusals import refuses

T, H, W = 5, 32, 48
FOCAL = 40.0


def meta_of(
    k=((FOCAL, 0, W / 2), (0, FOCAL, H / 2), (0, 0, 1)), poses: torch.Tensor | None = None
) -> TakeMeta:
    return TakeMeta(
        name="take",
        prompt="",
        camera_intrinsics=None if k is None else torch.tensor(k).double(),
        camera_extrinsics=poses,
        ego_intrinsics=None,
        ego_extrinsics=None,
    )


def selection(path: Path | None = None) -> FrameSelection:
    index = torch.arange(T)
    return FrameSelection(
        source_indices=index,
        times_s=index.double() / 20,
        source_fps=20,
        fps=20,
        source_size=(W, H),
        size=(W, H),
        resize="crop",
        source_path=path,
    )


def moge(focal: float = 30.0) -> DepthSocket:
    k = torch.tensor([[focal / W, 0, 0.5], [0, focal / H, 0.5], [0, 0, 1]]).expand(T, 3, 3)
    return DepthSocket(
        payload={"depth": torch.full((T, H, W), 2.0), "intrinsics": k, "normal": torch.zeros(1)}
    )


def da3(height: int = H, width: int = W) -> DepthSocket:
    return DepthSocket(
        payload={
            "depth": torch.full((T, height, width), 3.0),
            "mode": "mono",
            "sky": torch.zeros(T, height, width),
        },
        options={"variant": "metric"},
    )


@pytest.fixture
def file(tmp_path) -> DepthFileInput:
    np.savez(tmp_path / "depth.npz", depth_m=np.full((T, H, W), 4, np.float32))
    return DepthFileInput(path=tmp_path / "depth.npz")


def test_sockets_come_by_priority_after_the_file_and_beside_the_takes_camera(file):
    sockets = {
        "da3_geometry": da3(2 * H, 2 * W),
        "moge_geometry": moge(),
    }  # whatever the order they are given in
    inputs = depth_inputs(file, meta_of(poses=torch.eye(3, 4).double()), selection(), sockets)
    assert [source.name for source in inputs.sources] == ["depth.npz", "MoGe", "Depth Anything 3"]
    assert inputs.camera.fx == FOCAL and inputs.exo_w2c.shape == (3, 4)
    assert inputs.sources[2].depth.camera.fx == pytest.approx(2 * FOCAL), (
        "the take's camera, at this depth's size"
    )


def test_the_first_known_camera_is_handed_to_later_sockets():
    sockets = {"moge_geometry": moge(30.0), "da3_geometry": da3()}
    inputs = depth_inputs(None, None, selection(), sockets)
    assert (
        inputs.camera is None and inputs.sources[1].depth.camera == inputs.sources[0].depth.camera
    )
    (alone,) = socket_sources({"da3_geometry": da3()})
    assert not alone.camera_known
    assert list(DEPTH_ADAPTERS) == ["moge_geometry", "da3_geometry", "depth_image"], (
        "the order is the priority"
    )


def test_a_file_left_in_the_workflow_gives_way_to_sockets():
    assert file_counts("auto", {}) and file_counts("video depth", {"moge_geometry": moge()})
    assert not file_counts("auto", {"moge_geometry": moge()})


def test_without_frames_the_takes_camera_has_the_first_sources_size():
    inputs = depth_inputs(None, meta_of(), None, {"da3_geometry": da3(2 * H, 2 * W)})
    assert inputs.camera.stored_size == (2 * W, 2 * H) and inputs.camera.fx == pytest.approx(
        2 * FOCAL
    )
    with refuses("connect 'frames'"):
        depth_inputs(
            None,
            meta_of(poses=torch.eye(3, 4).double().expand(T, 3, 4)),
            None,
            {"moge_geometry": moge()},
        )


def test_the_depth_of_another_take_is_refused_but_not_one_beside_the_video(file, tmp_path):
    (tmp_path / "meta.json").write_text("{}", encoding="utf-8")
    (tmp_path / "exo.mp4").write_bytes(b"the take's own video")
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path, tmp_path / "mine"):
        (folder / "mine.ts").write_bytes(b"another video")
    with refuses("the video in use is mine.ts") as caught:
        depth_inputs(file, meta_of(), selection(path=tmp_path / "mine" / "mine.ts"), {})
    assert ADVICE in str(caught.value)
    assert (
        depth_inputs(file, meta_of(), selection(path=tmp_path / "mine.ts"), {}).sources[0].name
        == "depth.npz"
    )
