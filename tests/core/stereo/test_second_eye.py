"""The second eye: equal to its plain twin, and to the ray-traced one of a drawn room."""

import pytest
import torch

from egox_core.cameras.model import sensor_from_upright
from egox_core.cameras.presets import preset_camera
from egox_core.scene.build import build_scene
from egox_core.stereo.right_eye import iter_second_eye, second_eye
from egox_core.stereo.warp import fill_holes, move, snap_edges, whole_nearness, wide_parts
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.shading import crease_neighbours
from lab.drawn.views import Renderer
from tests.refusals import refuses
from tests.twins.second_eye import move_reference, snap_edges_reference

SIDE = 128
ROOM = SyntheticSpec(
    seed=760028, frames=2, fps=10.0, exo_width=224, exo_height=SIDE, ego_size=SIDE, texture="soft"
)


def test_edges_and_ways_equal_their_plain_twin():
    draw = torch.Generator().manual_seed(1)
    nearness = 0.5 + 0.02 * torch.rand(20, 24, generator=draw)
    nearness[5:15, 8:17] += 1.0
    observed = torch.rand(20, 24, generator=draw) < 0.9
    picture = torch.rand(20, 24, 3, generator=draw)
    snapped = snap_edges(nearness, observed, picture)
    assert torch.equal(snapped, snap_edges_reference(nearness, observed, picture))
    assert 10 < int((snapped != nearness).sum()) < 200
    camera, eye = preset_camera("aria_released", 24).upright().crop(0, 2, 24, 20), torch.zeros(3)
    eye[0] = 0.2
    source, moved = move(camera, snapped, eye)
    plain = move_reference(camera, snapped, eye)
    assert torch.allclose(source, plain, atol=1e-4, equal_nan=True)
    assert 10 < int(moved.isnan().sum()) < 200


@pytest.fixture(scope="module")
def room():
    """(the true left eye [T, S, S, 3], its scene, its path), the take."""
    take = make_take(ROOM)
    scene = build_scene(take.exo_rgb, take.depth_video())
    return (take.ego_frames(), scene, take.trajectory()), take


def test_right_eye_is_the_ray_traced_one(room):
    """The issue's bar, where exo observed."""
    given, take = room
    there = take.ego_w2c.clone()
    there[..., 3] -= 0.063 * sensor_from_upright(1)[:, 0]
    neighbours = crease_neighbours(take.scene)
    renderer = Renderer(take.scene, take.ego_camera, there, neighbours, ROOM.edge_samples)
    true = renderer.full([0, 1], take.scene.indices(head=False)).rgb.view(given[0].shape)
    errors, unmoved = [], []
    for truth, left, eye in zip(true, given[0], iter_second_eye(*given), strict=True):
        hole = eye.source.isnan().any(-1)
        u, v = eye.source.nan_to_num(0.0).round().long().clamp(0, SIDE - 1).unbind(-1)
        seen = eye.observed[v, u] & ~hole
        errors.append((eye.rgb - truth)[seen].square())
        unmoved.append((left - truth)[seen].square())
        assert eye.rgb.isfinite().all() and 0.005 < float(hole.float().mean()) < 0.1
    mean_error = torch.cat(errors).mean()
    assert -10 * mean_error.log10() >= 30 and torch.cat(unmoved).mean() > 10 * mean_error


def test_what_the_model_moved_is_said(room):
    """About 10 px of a picture 448 px wide, on purpose; the true video isn't warned of."""
    (video, *scene), _ = room
    true, px = second_eye(video, *scene), 3
    assert true.off_px < 1 and "Warning" not in "".join(true.notes)
    moved = second_eye(video.roll(px, 2), *scene)
    assert moved.off_px == pytest.approx(px, abs=0.7)
    assert f"Warning: Image and depth are {moved.off_px:.1f} px apart" in moved.notes[1]
    # Depth went along: the picture moves as much as it did.
    inner = (slice(None), *(slice(16, -16),) * 2)
    off = (moved.rgb.roll(-px, 2) - true.rgb)[inner].abs().mean()
    assert off < 0.25 * (true.rgb - video)[inner].abs().mean()
    with refuses("200 mm"):
        second_eye(video, *scene, eyes_m=0.63)


def test_what_is_made_up_stays_off_and_what_is_seen_stays_near():
    observed = torch.zeros(16, 16, dtype=torch.bool)
    observed[4:9, 4:9] = True
    whole = whole_nearness(torch.full((16, 16), 1 / 0.2), observed)
    assert torch.allclose(whole, torch.where(observed, 1 / 0.2, 1 / 0.4))


def test_cracks_are_no_wide_holes():
    holes = torch.zeros(9, 12, dtype=torch.bool)
    holes[:, 2:4] = True
    assert not wide_parts(holes).any()
    holes[:3, 2:8] = True
    assert torch.equal(wide_parts(holes).nonzero().amax(0), torch.tensor([2, 7]))


def test_holes_are_filled_from_the_far_side():
    picture, nearness = torch.zeros(6, 12, 3), torch.full((6, 12), 0.5)
    picture[:, 7:], nearness[:, :4] = 1.0, 2.0
    nearness[:, 4:7] = torch.nan
    assert torch.equal(fill_holes(picture, nearness)[:, 4:7], torch.ones(6, 3, 3))
    assert torch.equal(fill_holes(picture, nearness.flip(1))[:, 5:8], torch.zeros(6, 3, 3))
