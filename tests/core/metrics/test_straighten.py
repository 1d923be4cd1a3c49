"""Test turning an ego video back to its path, and its path to the video."""

from dataclasses import replace

import pytest
import torch

from egox_core import frame_store
from egox_core.cameras import preset_camera, sensor_from_upright
from egox_core.metrics import ClipTurn, straighten_picture
from egox_core.prior import aria_shading
from egox_core.video import recolour, reproject
from tests.poses import make_path, still_poses
from tests.refusals import refuses

CAMERA = preset_camera("aria_released", 112)
AXES = sensor_from_upright(CAMERA.quarter_turns).double()


def turn_of(*turn_deg: float, interval_deg: float = 1.0) -> ClipTurn:
    vector = torch.tensor(turn_deg, dtype=torch.float64)
    return replace(ClipTurn.unjudged("", 0.6), turn_deg=vector, interval_deg=interval_deg)


def draw_spots(rays: torch.Tensor) -> torch.Tensor:  # [N, 3] -> [1, H, W, 3]
    spots_uv, _ = CAMERA.project(rays)
    distance = (CAMERA.pixel_grid(torch.float64)[:, :, None] - spots_uv).norm(dim=-1)
    spots = (1 - distance.amin(-1) / 4).clamp(0, 1).float() * aria_shading(CAMERA)
    return spots[None, ..., None].expand(1, -1, -1, 3).contiguous()


def test_a_turned_picture_shows_what_the_ordered_camera_sees():
    turn = turn_of(4.0, -5.0, 3.0)
    points = torch.tensor([(0.1, 0.2, 1.0), (-0.4, 0.1, 1.0), (0.3, -0.3, 1.0)]).double()
    sensor_points = points @ AXES.T
    drawn_points = (points @ turn.rotation.T) @ AXES.T
    straight, words, filled_mask = straighten_picture(draw_spots(drawn_points), turn, CAMERA)
    assert words.startswith("Straightened by 7° ± 1") and filled_mask is not None
    ordered = draw_spots(sensor_points)
    assert (straight - ordered).abs().mean() < 0.1 * ordered.mean()
    assert (draw_spots(drawn_points) - ordered).abs().mean() > ordered.mean()


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (turn_of(3.0, 0.0, 0.0), "too small"),
        (turn_of(6.0, 0.0, 0.0, interval_deg=7.0), "too small"),
        (ClipTurn.unjudged("nothing fits"), "nothing fits"),
    ],
)
def test_a_picture_that_would_not_gain_stays_as_it_is(turn, words):
    video = torch.rand(1, 112, 112, 3)
    straight, said, filled_mask = straighten_picture(video, turn, CAMERA)
    assert straight is video and words in said and filled_mask is None


def test_the_rim_is_filled_and_the_lens_keeps_its_shading():
    flat_video = aria_shading(CAMERA)[None, ..., None].expand(1, -1, -1, 3).contiguous()
    striped_video = flat_video.clone()
    striped_video[:, :, ::8] = 0
    turn = turn_of(0.0, 22.0, 0.0)
    straight, words, filled_mask = straighten_picture(flat_video, turn, CAMERA)
    assert (straight - flat_video).abs()[0, CAMERA.circle()].max() < 0.05
    assert "27% of the picture filled" in words
    assert filled_mask[56, 100:108].all() and not filled_mask[56, :80].any()
    striped, *_ = straighten_picture(striped_video, turn, CAMERA)
    assert striped[0, 56, 96:104].std() < 0.1 * striped[0, 56, 20:60].std()
    assert torch.equal(striped[0, ~CAMERA.circle()], striped_video[0, ~CAMERA.circle()])


def test_a_pinhole_view_is_drawn_from_the_video_at_once():
    points = torch.tensor([(0.1, 0.2, 1.0), (-0.2, 0.1, 1.0), (0.2, -0.2, 1.0)]).double()
    turn, target = turn_of(0.0, 12.0, 0.0), CAMERA.as_pinhole(60.0)
    drawn, ordered = (draw_spots(p @ AXES.T) for p in (points @ turn.rotation.T, points))
    straight, words, filled_mask = straighten_picture(drawn, turn, CAMERA, target=target)
    expected, unjudged_words, unjudged_mask = straighten_picture(
        ordered, ClipTurn.unjudged("nothing fits"), CAMERA, target=target
    )
    assert words.startswith("Straightened by 12°"), "no rim: further than a whole picture"
    assert torch.equal(expected, reproject(ordered, CAMERA, target))
    assert (straight - expected).abs().mean() < 0.15 * expected.mean() and "Not" in unjudged_words
    assert not filled_mask.any() and unjudged_mask is None


def test_a_long_clip_is_kept_on_disk(monkeypatch):
    """Check that no step holds the whole clip: each result is a mapped file of the same frames."""
    video, turn = torch.rand(3, 112, 112, 3), turn_of(0.0, 8.0, 0.0)
    in_memory = straighten_picture(video, turn, CAMERA)[0]
    monkeypatch.setattr(frame_store, "MEMORY_LIMIT", 0)
    straight = straighten_picture(video, turn, CAMERA)[0]
    for frames in (straight, recolour(straight, "tint")):
        assert frames.data_ptr() in frame_store._MAPPED
    assert torch.equal(straight, in_memory)


def test_chunks_that_agree_have_one_turn():
    agreeing = [turn_of(0.0, 6.0, 0.0), turn_of(0.0, 8.0, 0.0), ClipTurn.unjudged("dark")]
    joined = ClipTurn.of_chunks(agreeing)
    assert joined.judged and torch.allclose(joined.turn_deg, torch.tensor([0.0, 7.0, 0.0]).double())
    assert "differ by 14°" in ClipTurn.of_chunks([agreeing[0], turn_of(0.0, -8.0, 0.0)]).reason
    assert "2 of 3 chunks" in ClipTurn.of_chunks([agreeing[0], *agreeing[2:] * 2]).reason


def test_the_corrected_path_is_the_one_that_the_video_shows():
    path = make_path(still_poses(3), CAMERA, 20.0)
    turn = turn_of(2.0, 11.0, -4.0)
    corrected = turn.correct_path(path)
    points = torch.randn(5, 3, dtype=torch.float64)
    expected = (points @ AXES @ turn.rotation.T) @ AXES.T
    assert torch.allclose(points @ corrected.ego.w2c[1, :, :3].T.double(), expected, atol=1e-9)
    with refuses("turn of the view"):
        ClipTurn.unjudged("nothing fits").correct_path(path)
