"""Differences from an observed prior are found, and its pixels put back."""

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


def smooth(height: int, width: int, draw: np.random.Generator, px: int = 8) -> np.ndarray:
    """Draw blobs of about ``px``, [H, W, 3] 0...1."""
    coarse = draw.random((height // px, width // px, 3), np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def scene(size: int = 96) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw three frames of a video (its prior plus what was never observed), with the prior and its
    classes."""
    draw = np.random.default_rng(3)
    video = torch.from_numpy(np.stack([smooth(size, size, draw) for _ in range(3)]))
    classes = torch.full((3, size, size), NOW, dtype=torch.uint8)
    classes[:, :, : size // 4], classes[:, : size // 4], classes[2] = UNOBSERVED, DOUBTFUL, EARLIER
    return video, video * (classes > UNOBSERVED)[..., None], classes


@pytest.mark.parametrize("move", [(0, 0), (0, 3), (2, -1)])
def test_moves_are_tried_as_in_the_plain_twin(move):
    draw = np.random.default_rng(5)
    prior, on = smooth(16, 24, draw)[..., 0], smooth(16, 24, draw)[..., 0] > 0.3
    video = np.roll(prior, move, (0, 1)) + draw.normal(0, 0.02, prior.shape)
    fast_result, plain = (
        rule(video.astype(np.float32), prior, on.astype(np.float32))
        for rule in (move_errors, move_errors_reference)
    )
    for fast, slow in zip(fast_result[:2], plain[:2], strict=True):
        np.testing.assert_allclose(fast, slow, atol=1e-5)
    back = (-move[0], -move[1])
    assert fast_result[2] == plain[2] == (None if move == (0, 0) else back)


def test_the_prior_is_put_back_where_it_is_observed_alone():
    truth, prior, classes = scene()
    mean = F.avg_pool2d(truth.movedim(-1, 1), 5, 1, 2, count_include_pad=False)
    soft = mean.movedim(1, -1)
    kept_video, redrawn, put_back, judged = keep_observed(soft, prior, classes, 1.0)
    assert not redrawn.any() and judged.all(), "a soft picture is no other one"
    open_ = classes < EARLIER
    assert torch.equal(kept_video[open_], soft[open_]) and not put_back[open_].any()
    assert put_back.float().mean() == pytest.approx(0.6, abs=0.1)
    inside = (slice(None), slice(30, 90), slice(30, 90))
    before, after = ((v - truth)[inside].square().mean() for v in (soft, kept_video))
    assert after < 0.05 * before
    again, _, nothing, _ = keep_observed(soft, prior, classes, 0.0)
    assert torch.equal(again, soft) and not nothing.any()


@pytest.mark.parametrize("move", [(6, 0), (0, -6)])
def test_nothing_is_put_back_into_a_video_that_is_elsewhere(move):
    truth, prior, classes = scene()
    elsewhere = torch.roll(truth, move, (1, 2))
    kept_video, redrawn, put_back, judged = keep_observed(elsewhere, prior, classes, 1.0)
    assert not put_back.any() and torch.equal(kept_video, elsewhere)
    assert judged.all() and redrawn[classes >= EARLIER].all()
    part = torch.cat((truth[:, :, :80], elsewhere[:, :, 80:]), 2)
    put_back = keep_observed(part, prior, classes, 1.0)[2]
    assert (
        put_back[:, 30:90, 28:58].float().mean() > 0.5 and put_back[:, :, 88:].float().mean() < 0.1
    )


@pytest.mark.parametrize("period", [40, 64])
@pytest.mark.parametrize("px", [8, 14])
def test_a_prior_of_wrong_depth_judges_nothing_and_puts_nothing_back(period, px):
    """Each place is moved by another way, so that no move explains the frame."""
    truth, prior, classes = scene(128)
    rows, columns = np.indices((128, 128), np.float32)
    wave = px * np.sin(2 * np.pi * (rows + 2 * columns) / period)
    moved = [cv2.remap(frame.numpy(), columns + wave, rows, cv2.INTER_LINEAR) for frame in truth]
    wrong = torch.from_numpy(np.stack(moved)) * (classes > UNOBSERVED)[..., None]
    kept_video, redrawn, put_back, judged = keep_observed(truth, wrong, classes, 1.0)
    assert put_back[classes >= EARLIER].float().mean() <= 0.05 and torch.equal(
        kept_video[~put_back], truth[~put_back]
    )
    assert not judged.any() and not redrawn.any()
    soft = F.avg_pool2d(truth.movedim(-1, 1), 5, 1, 2, count_include_pad=False).movedim(1, -1)
    for right in (truth, soft):
        assert not keep_observed(right, prior, classes, 1.0)[1].any()


def test_an_object_of_another_colour_stays_and_another_exposure_counts_for_nothing():
    truth, prior, classes = scene()
    video = truth * 0.8 + 0.1
    assert not keep_observed(video, prior, classes, 1.0)[1].any()
    video[0, 50:74, 50:74] = 1 - video[0, 50:74, 50:74]
    _, redrawn, put_back, _ = keep_observed(video, prior, classes, 1.0)
    assert redrawn[0, 54:70, 54:70].float().mean() > 0.8 and not redrawn[1:].any()
    assert not put_back[redrawn].any() and put_back[0, 90:94, 40:90].all()


def test_parts_that_do_not_fit_are_refused():
    truth, prior, classes = scene()
    for video, keep, words in ((truth[:2], 1.0, "prior of the ego video"), (truth, 1.5, "keep_")):
        with refuses(words):
            keep_observed(video, prior, classes, keep)
