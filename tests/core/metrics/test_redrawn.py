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
    """Draw a picture [H, W, 3] of blobs of about ``px`` pixels."""
    coarse = rng.random((height // px, width // px, 3), np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def draw_video(size: int = 96) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw three frames of a video, the prior as its observed part, and the classes of pixels."""
    rng = np.random.default_rng(3)
    video = torch.from_numpy(np.stack([smooth_picture(size, size, rng) for _ in range(3)]))
    classes = torch.full((3, size, size), NOW, dtype=torch.uint8)
    classes[:, :, : size // 4], classes[:, : size // 4], classes[2] = UNOBSERVED, DOUBTFUL, EARLIER
    return video, video * (classes > UNOBSERVED)[..., None], classes


@pytest.mark.parametrize("shift", [(0, 0), (0, 3), (2, -1)])
def test_shift_errors_equal_the_plain_implementation(shift):
    rng = np.random.default_rng(5)
    prior, observed_mask = (
        smooth_picture(16, 24, rng)[..., 0],
        smooth_picture(16, 24, rng)[..., 0] > 0.3,
    )
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
    truth, prior, classes = draw_video()
    local_means = F.avg_pool2d(truth.movedim(-1, 1), 5, 1, 2, count_include_pad=False)
    blurred_video = local_means.movedim(1, -1)
    kept_video, redrawn, put_back, judged = keep_observed(blurred_video, prior, classes, 1.0)
    assert not redrawn.any() and judged.all(), "a soft picture is no other one"
    unobserved_mask = classes < EARLIER
    assert (
        torch.equal(kept_video[unobserved_mask], blurred_video[unobserved_mask])
        and not put_back[unobserved_mask].any()
    )
    assert put_back.float().mean() == pytest.approx(0.6, abs=0.1)
    inner_slices = (slice(None), slice(30, 90), slice(30, 90))
    blurred_error, corrected_error = (
        (video - truth)[inner_slices].square().mean() for video in (blurred_video, kept_video)
    )
    assert corrected_error < 0.05 * blurred_error
    unchanged_video, _, empty_mask, _ = keep_observed(blurred_video, prior, classes, 0.0)
    assert torch.equal(unchanged_video, blurred_video) and not empty_mask.any()


@pytest.mark.parametrize("move", [(6, 0), (0, -6)])
def test_shifted_video_is_left_unchanged(move):
    truth, prior, classes = draw_video()
    shifted_video = torch.roll(truth, move, (1, 2))
    kept_video, redrawn, put_back, judged = keep_observed(shifted_video, prior, classes, 1.0)
    assert not put_back.any() and torch.equal(kept_video, shifted_video)
    assert judged.all() and redrawn[classes >= EARLIER].all()
    half_shifted_video = torch.cat((truth[:, :, :80], shifted_video[:, :, 80:]), 2)
    put_back = keep_observed(half_shifted_video, prior, classes, 1.0)[2]
    assert (
        put_back[:, 30:90, 28:58].float().mean() > 0.5 and put_back[:, :, 88:].float().mean() < 0.1
    )


@pytest.mark.parametrize("period", [40, 64])
@pytest.mark.parametrize("px", [8, 14])
def test_prior_of_wrong_depth_is_not_used(period, px):
    """Move each pixel differently, so that no single shift explains a frame."""
    truth, prior, classes = draw_video(128)
    rows, columns = np.indices((128, 128), np.float32)
    wave = px * np.sin(2 * np.pi * (rows + 2 * columns) / period)
    warped_frames = [
        cv2.remap(frame.numpy(), columns + wave, rows, cv2.INTER_LINEAR) for frame in truth
    ]
    warped_prior = torch.from_numpy(np.stack(warped_frames)) * (classes > UNOBSERVED)[..., None]
    kept_video, redrawn, put_back, judged = keep_observed(truth, warped_prior, classes, 1.0)
    assert put_back[classes >= EARLIER].float().mean() <= 0.05 and torch.equal(
        kept_video[~put_back], truth[~put_back]
    )
    assert not judged.any() and not redrawn.any()
    blurred_video = F.avg_pool2d(truth.movedim(-1, 1), 5, 1, 2, count_include_pad=False).movedim(
        1, -1
    )
    for correct_video in (truth, blurred_video):
        assert not keep_observed(correct_video, prior, classes, 1.0)[1].any()


def test_changed_object_is_kept_and_exposure_is_ignored():
    truth, prior, classes = draw_video()
    video = truth * 0.8 + 0.1
    assert not keep_observed(video, prior, classes, 1.0)[1].any()
    video[0, 50:74, 50:74] = 1 - video[0, 50:74, 50:74]
    _, redrawn, put_back, _ = keep_observed(video, prior, classes, 1.0)
    assert redrawn[0, 54:70, 54:70].float().mean() > 0.8 and not redrawn[1:].any()
    assert not put_back[redrawn].any() and put_back[0, 90:94, 40:90].all()


def test_unfitting_videos_are_refused():
    truth, prior, classes = draw_video()
    for video, keep, expected_text in (
        (truth[:2], 1.0, "prior of the ego video"),
        (truth, 1.5, "keep_"),
    ):
        with refuses(expected_text):
            keep_observed(video, prior, classes, keep)
