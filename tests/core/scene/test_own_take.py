"""Depth of another take, or of another moment, is told from a clip's own."""

import numpy as np
import pytest
import torch

from egox_core.scene.own_take import WARNING, WARNING_TIME, strange_depth


@pytest.fixture(scope="module")
def room(repo_root) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames and depth of the sample."""
    av = pytest.importorskip("av", reason="decodes video")
    folder = repo_root / "sample" / "synthetic_room"
    with av.open(str(folder / "exo.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    with np.load(folder / "depth.npz") as file:
        depth = file["depth_m"].astype(np.float32)
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(depth)


def test_what_is_of_another_take_or_moment_is_told(room):
    frames, depth = room
    half = 10  # of a second
    for clip, maps, says in (
        (frames, depth, ""),
        (frames.float() / 255, depth, ""),
        (frames, depth[:1].expand_as(depth), ""),  # a still map tells nothing of its moment
        (frames.flip(2), depth, WARNING),
        (frames[half:], depth[:-half], WARNING_TIME),
        (frames[:, :40, :40], depth[:, :40, :40], ""),  # too small to shift
        (torch.zeros_like(frames), depth, ""),
    ):
        assert strange_depth(clip, maps) == says
