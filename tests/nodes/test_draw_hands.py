"""Test the node Draw Hands."""

import pytest
import torch

from tests.frames_in_use import frames_in_use
from tests.refusals import refuses


@pytest.fixture(scope="module")
def take(pack):
    from egox_pack.lab.drawn import SyntheticSpec, make_take

    sizes = dict(exo_width=112, exo_height=64, ego_size=64, edge_samples=1)
    return make_take(SyntheticSpec(seed=3, frames=5, **sizes))


def test_hands_of_the_take_are_drawn_at_their_true_pixels(take, comfy_host):
    from egox_pack.egox_core.hands import write_hands
    from egox_pack.egox_core.types import DepthVideo
    from egox_pack.nodes.draw_hands import EgoXDrawHands

    hands_folder = comfy_host.input / "with_hands"
    hands_folder.mkdir()
    write_hands(take.hands, hands_folder / "hands.json")
    ego_trajectory = take.trajectory()
    frames = frames_in_use(range(5), (112, 64), source=hands_folder / "exo.mp4")
    depth = DepthVideo(depth_m=take.ego_depth_m, exo=take.ego)
    hand_pictures, hand_mask, hand_track = EgoXDrawHands.execute(
        ego_trajectory, depth=depth, frames=frames
    ).args
    assert hand_pictures.shape == (5, 64, 64, 3)
    assert hand_mask.shape == (5, 64, 64)
    is_hand = [solid.name in ("palm", "finger", "thumb") for solid in take.scene.solids]
    true_mask = torch.tensor([*is_hand, False])[take.ego_index.long()]
    overlap_count = (true_mask & (hand_mask > 0)).sum()
    assert overlap_count > 0.6 * (true_mask | (hand_mask > 0)).sum()
    assert torch.allclose(hand_track.joints, take.hands.joints, atol=1e-6)
    second_picture, *_ = EgoXDrawHands.execute(ego_trajectory, depth=depth, hands=take.hands).args
    assert torch.allclose(second_picture, hand_pictures, atol=0.02)
    with refuses("neither hands nor hands.json"):
        EgoXDrawHands.execute(ego_trajectory)
    with refuses("depth of another camera"):
        EgoXDrawHands.execute(ego_trajectory, depth=take.depth_video(), hands=take.hands)
