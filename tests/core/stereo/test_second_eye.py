"""The second eye: equal to its plain twin, and to the ray-traced one of a drawn room."""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import sensor_from_upright
from egox_core.cameras.presets import preset_camera
from egox_core.prior.options import prior_preset
from egox_core.scene.build import build_scene
from egox_core.stereo.right_eye import iter_second_eye, second_eye
from egox_core.stereo.warp import fill_holes, move, snap_edges, whole_nearness
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.shading import crease_neighbours
from lab.drawn.views import Renderer
from tests.refusals import refuses
from tests.twins.second_eye import move_reference, snap_edges_reference

ROOM = SyntheticSpec(
    seed=760028,
    frames=2,
    fps=10.0,
    exo_width=224,
    exo_height=128,
    ego_size=128,
    texture="soft",
    edge_samples=2,
)


@pytest.fixture(scope="module")
def room():
    """(take, scene, pictures of the true right eye [T, S, S, 3])."""
    take = make_take(ROOM)
    there = take.ego_w2c.clone()
    there[..., 3] -= 0.063 * sensor_from_upright(1)[:, 0]
    eye = Renderer(take.scene, take.ego_camera, there, crease_neighbours(take.scene), 2)
    true = eye.full([0, 1], take.scene.indices(head=False)).rgb.view(2, 128, 128, 3)
    return take, build_scene(take.exo_rgb, take.depth_video()), true


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
    moved, plain = move(camera, snapped, eye), move_reference(camera, snapped, eye)
    assert torch.allclose(moved.source, plain, atol=1e-4, equal_nan=True)
    assert 10 < int(moved.nearness.isnan().sum()) < 200


def test_right_eye_is_the_ray_traced_one(room):
    """The issue's bar, where exo observed; holes and fill are apart."""
    take, scene, true = room
    options = replace(prior_preset("exact"), device="cpu")
    errors, unmoved, own = [], [], 0
    for t, frame in enumerate(
        iter_second_eye(
            take.ego_frames(),
            scene,
            take.trajectory(),
            eyes_m=0.063,
            axes=None,
            options=options,
            progress=lambda *_: None,
        )
    ):
        hole = frame.moved.nearness.isnan()
        u, v = frame.moved.source.nan_to_num(0.0).round().long().clamp(0, 127).unbind(-1)
        seen = frame.observed[v, u] & ~hole
        errors.append((frame.rgb - true[t])[seen].square())
        unmoved.append((take.ego_frames()[t] - true[t])[seen].square())
        own += int(frame.own.sum())
        assert frame.rgb.isfinite().all() and 0.005 < float(hole.float().mean()) < 0.1
    mean_error = torch.cat(errors).mean()
    assert -10 * mean_error.log10() >= 30 and torch.cat(unmoved).mean() > 10 * mean_error
    assert own > 0


def test_what_the_model_moved_is_said(room):
    """Moved by 10 px of a picture 448 px wide, on purpose; the true video isn't warned of."""
    take, scene, _ = room
    true = second_eye(take.ego_frames(), scene, take.trajectory())
    assert true.off_px < 1 and not any("Warning" in note for note in true.notes)
    px = 3
    moved = second_eye(take.ego_frames().roll(px, 2), scene, take.trajectory())
    assert moved.off_px == pytest.approx(px, abs=0.7)
    assert f"Warning: Image and depth are {moved.off_px:.1f} px apart" in moved.notes[0]
    # Depth went along: the picture moves as much as it did.
    off = (moved.rgb.roll(-px, 2) - true.rgb)[:, 16:-16, 16:-16].abs().mean()
    assert off < 0.25 * (true.rgb - take.ego_frames())[:, 16:-16, 16:-16].abs().mean()
    with refuses("200 mm"):
        second_eye(take.ego_frames(), scene, take.trajectory(), eyes_m=0.63)


def test_what_is_made_up_stays_off_and_what_is_seen_stays_near():
    observed = torch.zeros(16, 16, dtype=torch.bool)
    observed[4:9, 4:9] = True
    nearness = torch.full((16, 16), 1 / 0.2).masked_fill(~observed, torch.nan)
    whole = whole_nearness(nearness, observed)
    assert torch.equal(whole[observed], nearness[observed])
    assert torch.allclose(whole[~observed], torch.tensor(1 / 0.4))


def test_holes_are_filled_from_the_far_side():
    picture, nearness = torch.zeros(6, 12, 3), torch.full((6, 12), 0.5)
    picture[:, 7:], nearness[:, :4] = 1.0, 2.0
    nearness[:, 4:7] = torch.nan
    assert torch.equal(fill_holes(picture, nearness)[:, 4:7], torch.ones(6, 3, 3))
    assert torch.equal(fill_holes(picture, nearness.flip(1))[:, 5:8], torch.zeros(6, 3, 3))
