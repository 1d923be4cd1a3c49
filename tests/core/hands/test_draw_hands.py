"""Test drawn hands: the skin around their bones, and occlusion by depth."""

import pytest
import torch

from egox_core.hands import HandTrack, draw_hands
from egox_core.hands.draw import CAPSULES, RADII, cast_capsules, rays_near_hand
from egox_core.types import CameraTrajectory
from lab.drawn import SyntheticSpec
from lab.drawn.layout import draw_layout
from lab.drawn.take import drawn_hands
from tests.refusals import refuses

PICTURE_SIZE = 128


@pytest.fixture(scope="module")
def hands_and_path() -> tuple[HandTrack, CameraTrajectory]:
    layout = draw_layout(SyntheticSpec(seed=3, frames=1, ego_size=PICTURE_SIZE))
    scene = layout.scene
    return drawn_hands(layout, scene.exo), CameraTrajectory(ego=scene.ego, exo=scene.exo)


def skin_distance(points: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:  # [N, 3] -> [N]
    """Compute the distance from points to a drawn hand's skin, the surface of capsules around its
    bones."""
    least_distance = torch.full(points.shape[:1], torch.inf)
    for (start_joint, end_joint), radius in zip(CAPSULES, RADII, strict=True):
        axis = joints[end_joint] - joints[start_joint]
        axis_share = ((points - joints[start_joint]) @ axis / (axis @ axis)).clamp(0, 1)
        capsule_distance = (points - joints[start_joint] - axis_share[:, None] * axis).norm(
            dim=-1
        ) - radius
        least_distance = least_distance.minimum(capsule_distance)
    return least_distance


def test_rays_end_at_the_first_skin_point(hands_and_path):
    """Check that rendered hand depth ends at the first skin point of each ray, to 0.1 mm."""
    hand_track, path = hands_and_path
    all_rays = path.ego.camera.upright().pixel_rays()[0].reshape(-1, 3)
    for joints in hand_track.in_head(path)[0][0].float():
        near_mask = rays_near_hand(all_rays, joints)
        assert cast_capsules(all_rays[~near_mask], joints)[0].isinf().all()
        rays = all_rays[near_mask]
        hit_distance, skin_shade = cast_capsules(rays, joints)
        hit_mask = hit_distance.isfinite()
        assert (
            skin_distance(rays[hit_mask] * hit_distance[hit_mask, None], joints).abs().max() < 1e-4
        )
        assert (
            hit_mask.sum() > 50
            and skin_shade[hit_mask].min() >= 0.3
            and skin_shade[hit_mask].max() > 0.9
        )
        for offset_m in torch.linspace(
            0.0, 0.3, 60
        ):  # no skin before a hit, none on rays without one
            query_distance = torch.where(hit_mask, hit_distance, joints[0].norm() + 0.15) - offset_m
            assert skin_distance(rays * query_distance[:, None], joints).min() > -1e-4


def test_hands_are_hidden_by_a_wall_and_left_out_if_doubtful(hands_and_path):
    hand_track, path = hands_and_path
    hand_depth = float(hand_track.in_head(path)[0][..., 2].median())
    wall_depth = torch.full((1, PICTURE_SIZE, PICTURE_SIZE), hand_depth - 0.03)
    wall_depth[:, :, : PICTURE_SIZE // 2] = torch.nan
    picture, mask = draw_hands(hand_track, path, wall_depth)
    full_mask = draw_hands(hand_track, path)[1]
    assert mask.sum() < full_mask.sum()
    assert picture[mask == 0].max() == 0 < picture[mask > 0].min()
    assert mask[..., : PICTURE_SIZE // 2].equal(full_mask[..., : PICTURE_SIZE // 2])
    assert draw_hands(HandTrack.of_joints(hand_track.joints * torch.nan), path)[1].max() == 0
    with refuses("depth of the ego view"):
        draw_hands(hand_track, path, torch.ones(1, 50, 50))
