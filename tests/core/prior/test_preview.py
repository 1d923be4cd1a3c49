"""Test the preview: an ego prior that is filled and shaded without a model."""

import pytest
import torch

from egox_core.cameras import preset_camera
from egox_core.prior.preview import (
    aria_shading,
    iter_ego_preview,
    preview_note,
)
from tests.refusals import refuses

ARIA, PINHOLE = preset_camera("aria_released", 96), preset_camera("pinhole", 96)


def make_prior(frames: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a picture that is bright on the left and dark on the right, with a hole in each half."""
    prior = torch.full((frames, 96, 96, 3), 0.8)
    prior[:, :, 48:] = torch.tensor([0.1, 0.2, 0.3])
    holes = torch.zeros(frames, 96, 96, dtype=torch.bool)
    holes[:, 40:56, 10:26] = holes[:, 40:56, 70:86] = True
    return prior.masked_fill(holes[..., None], 0), holes


def test_holes_take_the_colours_around_them_and_other_pixels_stay():
    prior, holes = make_prior()
    frames = list(iter_ego_preview(prior, holes, PINHOLE))
    assert len(frames) == 2 and frames[0].dtype == torch.float32
    for frame, picture, hole in zip(frames, prior, holes, strict=True):
        assert torch.equal(frame[~hole], picture[~hole])
        assert torch.allclose(frame[48, 18], torch.full((3,), 0.8), atol=0.02)
        assert torch.allclose(frame[48, 78], torch.tensor([0.1, 0.2, 0.3]), atol=0.02)
    # The fill is the same whichever frame comes before.
    assert torch.equal(frames[0], frames[1])


def test_a_hole_behind_something_near_takes_the_far_sides_colour():
    prior, holes = torch.full((1, 96, 96, 3), 0.2), torch.zeros(1, 96, 96, dtype=torch.bool)
    prior[:, :, :40] = 0.9
    holes[:, :, 40:56] = True
    depth_m = torch.full((1, 96, 96), 4.0)
    depth_m[:, :, :40] = 1.0
    depth_m[holes] = torch.nan
    (frame,) = iter_ego_preview(prior, holes, PINHOLE, depth_m=depth_m)
    assert torch.allclose(frame[:, 41:56], torch.tensor(0.2), atol=0.02)
    (frame,) = iter_ego_preview(prior, holes, PINHOLE, depth_m=torch.full((1, 96, 96), torch.nan))
    assert float(frame[48, 44].mean()) > 0.5  # without depth all sides count alike


def test_a_hole_at_the_lens_border_takes_no_black_from_beyond_it():
    shading = aria_shading(ARIA)
    rim = ARIA.axis_distance_px() > 38
    prior = torch.full((1, 96, 96, 3), 0.8).masked_fill(rim[None, ..., None], 0)
    (frame,) = iter_ego_preview(prior, rim[None], ARIA)
    inner_rim = rim & (shading > 0.3)
    filled = frame[inner_rim] / shading[inner_rim][:, None]
    assert torch.allclose(filled, torch.tensor(0.8), atol=0.05)


def test_only_the_aria_lens_is_shaded_unless_it_is_asked_for():
    prior, holes = torch.ones(1, 96, 96, 3), torch.zeros(1, 96, 96, dtype=torch.bool)
    for camera, guessed, shading, is_dark, words in (
        (ARIA, False, "auto", True, "by file or choice"),
        (ARIA, True, "auto", False, "neither file nor choice"),
        (preset_camera("aria_meta", 96), False, "auto", True, "by file or choice"),
        (PINHOLE, False, "auto", False, "isn't the Aria"),
        (PINHOLE, False, "on", True, "shaded by choice"),
        (ARIA, True, "on", True, "shaded by choice"),
        (ARIA, False, "off", False, "not shaded by choice"),
    ):
        (frame,) = iter_ego_preview(prior, holes, camera, shading=shading, lens_guessed=guessed)
        assert words in preview_note(holes, camera, shading, 1.0, lens_guessed=guessed)
        assert float(frame[47:49, 46:49].amin()) == pytest.approx(1, abs=0.01)
        assert (float(frame[0, 0].max()) == 0) is is_dark, (camera.lens, shading)


def test_gain_multiplies_and_is_clamped():
    prior, holes = make_prior(1)
    (dark,), (bright,) = (list(iter_ego_preview(prior, holes, PINHOLE, gain=g)) for g in (0.5, 4))
    assert torch.allclose(dark[0, 0], torch.full((3,), 0.4)) and float(bright.max()) == 1
    assert "11% filled" not in preview_note(holes, ARIA, "auto", 0.5)
    assert "6% filled" in (note := preview_note(holes, ARIA, "auto", 0.5))
    assert "Aria" in note and "x 0.5" in note


def test_progress_is_reported_and_cancels():
    prior, holes = make_prior(3)
    calls = []

    def cancel(done, total, text):
        calls.append((done, total))
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(iter_ego_preview(prior, holes, ARIA, progress=cancel))
    assert calls == [(0, 3), (1, 3)]


def test_bad_input_is_refused_before_the_first_frame():
    prior, holes = make_prior()
    with refuses("holes of the prior"):
        iter_ego_preview(prior, holes[:1], ARIA)
    with refuses("ego camera of the preview"):
        iter_ego_preview(prior, holes, preset_camera("aria_released", 64))
    with refuses("gain"):
        iter_ego_preview(prior, holes, ARIA, gain=0)
    with refuses("shading"):
        iter_ego_preview(prior, holes, ARIA, shading="dark")  # ty: ignore[invalid-argument-type]
