"""Depth of another take, or of another moment, is told from a clip's own."""

import pytest
import torch

from egox_core.scene.own_take import WARNING, WARNING_TIME, strange_depth
from egox_core.take import load_take


@pytest.fixture(scope="module")
def room(repo_root) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames and depth of the sample."""
    pytest.importorskip("av", reason="decodes video")
    take = load_take(repo_root / "sample" / "synthetic_room")
    return take.read_exo(), take.depth.depth_m


def test_what_is_of_another_take_or_moment_is_told(room):
    frames, depth = room
    half = 10  # of a second
    for clip, maps, says in (
        (frames, depth, ()),
        (frames.float() / 255, depth, ()),
        (frames, depth[:1].expand_as(depth), ()),  # a still map tells nothing of its moment
        (frames.flip(2), depth, (WARNING,)),
        (frames[half:], depth[:-half], (WARNING_TIME,)),
        (frames[:, :40, :40], depth[:, :40, :40], ()),  # too small to shift
        (torch.zeros_like(frames), depth, ()),
    ):
        assert strange_depth(clip, maps) == says
