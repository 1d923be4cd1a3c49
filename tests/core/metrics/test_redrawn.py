"""Test finding pixels that differ from an observed prior, and putting the prior back."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from egox_core.metrics import keep_observed
from egox_core.metrics.redrawn import move_errors
from egox_core.types import DOUBTFUL, EARLIER, NOW, UNOBSERVED
from tests.refusals import refuses
from tests.twins.redrawn import move_errors_reference


def smooth_picture(height: int, width: int, rng: np.random.Generator, px: int = 8) -> np.ndarray:
    """Draw a random picture [H, W, 3] of smooth blobs of about ``px`` pixels."""
    coarse_picture = rng.random((height // px, width // px, 3), np.float32)
    return cv2.resize(coarse_picture, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def draw_video(size: int = 96) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw three video frames, a prior that shows part of them, and the class of each pixel."""
    rng = np.random.default_rng(3)
    video = torch.from_numpy(np.stack([smooth_picture(size, size, rng) for _ in range(3)]))
    classes = torch.full((3, size, size), NOW, dtype=torch.uint8)
    classes[:, :, : size // 4], classes[:, : size // 4], classes[2] = UNOBSERVED, DOUBTFUL, EARLIER
    return video, video * (classes > UNOBSERVED)[..., None], classes


@pytest.mark.parametrize("shift", [(0, 0), (0, 3), (2, -1)])
def test_shift_errors_equal_the_plain_implementation(shift):
    rng = np.random.default_rng(5)
    prior = smooth_picture(16, 24, rng)[..., 0]
    observed_mask = smooth_picture(16, 24, rng)[..., 0] > 0.3
    video = np.roll(prior, shift, (0, 1)) + rng.normal(0, 0.02, prior.shape)
    fast_result, plain_result = (
        rule(video.astype(np.float32), prior, observed_mask.astype(np.float32))
        for rule in (move_errors, move_errors_reference)
    )
    for fast_errors, plain_errors in zip(fast_result[:2], plain_result[:2], strict=True):
        np.testing.assert_allclose(fast_errors, plain_errors, atol=1e-5)
    expected_shift = (-shift[0], -shift[1])
    assert fast_result[2] == plain_result[2] == (None if shift == (0, 0) else expected_shift)


def test_only_observed_pixels_of_the_prior_are_put_back():
    true_video, prior, classes = draw_video()
    local_means = F.avg_pool2d(true_video.movedim(-1, 1), 5, 1, 2, count_include_pad=False)
    blurred_video = local_means.movedim(1, -1)
    kept_video, redrawn_mask, put_back_mask, judged_mask = keep_observed(
        blurred_video, prior, classes, 1.0
    )
    assert not redrawn_mask.any() and judged_mask.all(), "a soft picture is no other one"
    unobserved_mask = classes < EARLIER
    assert (
        torch.equal(kept_video[unobserved_mask], blurred_video[unobserved_mask])
        and not put_back_mask[unobserved_mask].any()
    )
    assert put_back_mask.float().mean() == pytest.approx(0.6, abs=0.1)
    inner_slices = (slice(None), slice(30, 90), slice(30, 90))
    blurred_error, corrected_error = (
        (video - true_video)[inner_slices].square().mean() for video in (blurred_video, kept_video)
    )
    assert corrected_error < 0.05 * blurred_error
    unchanged_video, _, empty_mask, _ = keep_observed(blurred_video, prior, classes, 0.0)
    assert torch.equal(unchanged_video, blurred_video)
    assert not empty_mask.any()


@pytest.mark.parametrize("move", [(6, 0), (0, -6)])
def test_shifted_video_is_left_unchanged(move):
    true_video, prior, classes = draw_video()
    shifted_video = torch.roll(true_video, move, (1, 2))
    kept_video, redrawn_mask, put_back_mask, judged_mask = keep_observed(
        shifted_video, prior, classes, 1.0
    )
    assert not put_back_mask.any()
    assert torch.equal(kept_video, shifted_video)
    assert judged_mask.all()
    assert redrawn_mask[classes >= EARLIER].all()
    half_shifted_video = torch.cat((true_video[:, :, :80], shifted_video[:, :, 80:]), 2)
    put_back_mask = keep_observed(half_shifted_video, prior, classes, 1.0)[2]
    assert (
        put_back_mask[:, 30:90, 28:58].float().mean() > 0.5
        and put_back_mask[:, :, 88:].float().mean() < 0.1
    )


@pytest.mark.parametrize("period", [40, 64])
@pytest.mark.parametrize("px", [8, 14])
def test_prior_of_wrong_depth_is_not_used(period, px):
    """Check that a prior whose pixels are each displaced differently is not put into the video."""
    true_video, prior, classes = draw_video(128)
    rows, columns = np.indices((128, 128), np.float32)
    wave = px * np.sin(2 * np.pi * (rows + 2 * columns) / period)
    warped_frames = [
        cv2.remap(frame.numpy(), columns + wave, rows, cv2.INTER_LINEAR) for frame in true_video
    ]
    warped_prior = torch.from_numpy(np.stack(warped_frames)) * (classes > UNOBSERVED)[..., None]
    kept_video, redrawn_mask, put_back_mask, judged_mask = keep_observed(
        true_video, warped_prior, classes, 1.0
    )
    assert put_back_mask[classes >= EARLIER].float().mean() <= 0.05 and torch.equal(
        kept_video[~put_back_mask], true_video[~put_back_mask]
    )
    assert not judged_mask.any()
    assert not redrawn_mask.any()
    blurred_video = F.avg_pool2d(
        true_video.movedim(-1, 1), 5, 1, 2, count_include_pad=False
    ).movedim(1, -1)
    for correct_video in (true_video, blurred_video):
        assert not keep_observed(correct_video, prior, classes, 1.0)[1].any()


def test_changed_object_is_kept_and_exposure_is_ignored():
    true_video, prior, classes = draw_video()
    brightened_video = true_video * 0.8 + 0.1
    assert not keep_observed(brightened_video, prior, classes, 1.0)[1].any()
    brightened_video[0, 50:74, 50:74] = 1 - brightened_video[0, 50:74, 50:74]
    _, redrawn_mask, put_back_mask, _ = keep_observed(brightened_video, prior, classes, 1.0)
    assert redrawn_mask[0, 54:70, 54:70].float().mean() > 0.8
    assert not redrawn_mask[1:].any()
    assert not put_back_mask[redrawn_mask].any()
    assert put_back_mask[0, 90:94, 40:90].all()


def test_unfitting_videos_are_refused():
    true_video, prior, classes = draw_video()
    for video, keep, expected_text in (
        (true_video[:2], 1.0, "prior of the ego video"),
        (true_video, 1.5, "keep_"),
    ):
        with refuses(expected_text):
            keep_observed(video, prior, classes, keep)
