"""Depth of another take is told from a clip's own."""

import pytest
import torch

from egox_core.scene.own_take import WARNING, strange_depth
from egox_core.take import load_take


@pytest.fixture(scope="module")
def room(repo_root) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames and depth of the sample."""
    pytest.importorskip("av", reason="decodes video")
    take = load_take(repo_root / "sample" / "synthetic_room")
    return take.read_exo(), take.depth.depth_m


def test_depth_of_another_take_is_told(room):
    frames, depth = room
    for clip, maps, says in (
        (frames, depth, ()),
        (frames.float() / 255, depth, ()),
        (frames, depth[:1].expand_as(depth), ()),  # a still map
        (frames.roll((6, 6), (1, 2)), depth, ()),  # 1 % of the height, as of a model's crop
        (frames.flip(2), depth, (WARNING,)),
        (frames.roll(60, 2), depth, (WARNING,)),
        (frames[:, :40, :40], depth[:, :40, :40], ()),  # too small to shift
        (torch.zeros_like(frames), depth, ()),
        (frames, torch.ones_like(depth), ()),
    ):
        assert strange_depth(clip, maps) == says
