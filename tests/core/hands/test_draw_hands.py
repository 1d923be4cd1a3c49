"""Drawn hands: as their plain twin draws them, and hidden by what is before them."""

import pytest
import torch

from egox_core.hands import HandTrack, draw_hands
from egox_core.types import CameraTrajectory
from lab.drawn import SyntheticSpec
from lab.drawn.layout import draw_layout
from lab.drawn.take import drawn_hands
from tests.refusals import refuses
from tests.twins.draw_hands import draw_hands_reference

SIZE = 80


@pytest.fixture(scope="module")
def clip() -> tuple[HandTrack, CameraTrajectory]:
    layout = draw_layout(SyntheticSpec(seed=3, frames=1, ego_size=SIZE))
    scene = layout.scene
    path = CameraTrajectory(
        w2c=scene.ego_w2c,
        camera=scene.ego_camera,
        times_s=torch.zeros(1),
        exo_w2c=scene.exo_w2c,
    )
    return drawn_hands(layout, scene.exo_w2c), path


def test_as_the_plain_twin_draws_them(clip):
    """A wall through the hands hides a part. The twin's walk creeps along outlines, and doubles
    round otherwise: some pixels there differ, and shades near them where the skin turns away."""
    track, path = clip
    middle = float(track.in_head(path)[0][..., 2].median())
    wall = torch.full((1, SIZE, SIZE), middle - 0.03)
    wall[:, :, : SIZE // 2] = torch.nan
    ours, mask = draw_hands(track, path, wall)
    theirs, expected = draw_hands_reference(track, path, wall)
    assert mask.sum() > 50 and (mask != expected).sum() <= 2
    assert (ours - theirs)[(mask > 0) & (expected > 0)].abs().quantile(0.99) < 0.01
    assert ours[mask == 0].max() == 0
    whole = draw_hands(track, path)[1]
    assert mask.sum() < whole.sum()
    assert mask[..., : SIZE // 2].equal(whole[..., : SIZE // 2])


def test_joints_lie_in_the_mask_and_doubtful_hands_are_left_out(clip):
    track, path = clip
    joints, _ = track.in_head(path)
    camera = path.camera.upright()
    uv, _ = camera.project(joints)
    inside = camera.inside(uv)
    _, mask = draw_hands(track, path)
    u, v = uv[0][inside[0]].round().long().clamp(0, SIZE - 1).T
    assert (mask[0, v, u] > 0).double().mean() > 0.9  # a pixel is as wide as a finger
    nobody = HandTrack.of_joints(track.joints * torch.nan)
    assert draw_hands(nobody, path)[1].max() == 0
    with refuses("depth of the ego view"):
        draw_hands(track, path, torch.ones(1, 50, 50))
