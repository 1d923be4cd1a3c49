"""Drawn hands: on the skin of their bones, and hidden by what is before them."""

import pytest
import torch

from egox_core.hands import HandTrack, draw_hands
from egox_core.hands.draw import CAPSULES, RADII, cast_capsules, meets
from egox_core.types import CameraTrajectory
from lab.drawn import SyntheticSpec
from lab.drawn.layout import draw_layout
from lab.drawn.take import drawn_hands
from tests.refusals import refuses

SIZE = 128


@pytest.fixture(scope="module")
def clip() -> tuple[HandTrack, CameraTrajectory]:
    layout = draw_layout(SyntheticSpec(seed=3, frames=1, ego_size=SIZE))
    scene = layout.scene
    return drawn_hands(layout, scene.exo), CameraTrajectory(ego=scene.ego, exo=scene.exo)


def skin_distance(points: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:  # [N, 3] -> [N]
    """Compute the distance from the skin plainly, as the least over all capsules."""
    least = torch.full(points.shape[:1], torch.inf)
    for (a, b), radius in zip(CAPSULES, RADII, strict=True):
        axis = joints[b] - joints[a]
        share = ((points - joints[a]) @ axis / (axis @ axis)).clamp(0, 1)
        off = (points - joints[a] - share[:, None] * axis).norm(dim=-1) - radius
        least = least.minimum(off)
    return least


def test_rays_end_where_they_first_meet_the_skin(clip):
    """Float32 rounds to a tenth of a millimetre, where a ray only grazes."""
    track, path = clip
    every = path.ego.camera.upright().pixel_rays()[0].reshape(-1, 3)
    for joints in track.in_head(path)[0][0].float():
        near = meets(every, joints)
        assert cast_capsules(every[~near], joints)[0].isinf().all()
        rays = every[near]
        far, shade = cast_capsules(rays, joints)
        hit = far.isfinite()
        assert skin_distance(rays[hit] * far[hit, None], joints).abs().max() < 1e-4
        assert hit.sum() > 50 and shade[hit].min() >= 0.3 and shade[hit].max() > 0.9
        for back in torch.linspace(0.0, 0.3, 60):  # no skin before a hit, none on rays without one
            place = torch.where(hit, far, joints[0].norm() + 0.15) - back
            assert skin_distance(rays * place[:, None], joints).min() > -1e-4


def test_hidden_by_a_wall_and_left_out_where_doubtful(clip):
    track, path = clip
    middle = float(track.in_head(path)[0][..., 2].median())
    wall = torch.full((1, SIZE, SIZE), middle - 0.03)
    wall[:, :, : SIZE // 2] = torch.nan
    picture, mask = draw_hands(track, path, wall)
    full_mask = draw_hands(track, path)[1]
    assert mask.sum() < full_mask.sum() and picture[mask == 0].max() == 0 < picture[mask > 0].min()
    assert mask[..., : SIZE // 2].equal(full_mask[..., : SIZE // 2])
    assert draw_hands(HandTrack.of_joints(track.joints * torch.nan), path)[1].max() == 0
    with refuses("depth of the ego view"):
        draw_hands(track, path, torch.ones(1, 50, 50))
