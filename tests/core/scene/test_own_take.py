"""Test the warning about depth that belongs to another take."""

import pytest
import torch

from egox_core import stages
from egox_core.scene.own_take import HEAD_VIDEO, WARNING, strange_depth
from egox_core.take import load_take
from egox_core.takes import read_meta
from tests.paths import ROOT


@pytest.fixture(scope="module")
def room(repo_root) -> tuple[torch.Tensor, torch.Tensor]:
    """Provide the frames and the depth of a sample take of a room."""
    pytest.importorskip("av", reason="decodes video")
    take = load_take(repo_root / "sample" / "synthetic_room")
    return take.read_exo(), take.depth.depth_m


def test_depth_of_another_take_is_remarked(room):
    frames, depth = room
    for clip_frames, depth_maps, expected_remarks in (
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
        assert strange_depth(clip_frames, depth_maps) == expected_remarks


@pytest.mark.parametrize("name", ["synthetic_room", "calm_room"])
def test_ego_video_given_as_exo_video_is_remarked(name):
    take_folder = ROOT / "sample" / name
    meta = read_meta(take_folder / "meta.json")
    for video, is_head_camera in (("exo.mp4", False), ("ego_ground_truth.mp4", True)):
        clip, _ = stages.load_clip(take_folder / video, frame_count=5)
        depth, _ = stages.align(take_folder / "depth.npz", frames=clip.selection, meta=meta)
        notes = stages.scene(clip.exo, depth)[0].notes
        assert notes == ((HEAD_VIDEO,) if is_head_camera else ()), video
