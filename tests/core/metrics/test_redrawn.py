"""What departs from an observed prior, and its pixels put back."""

import numpy as np
import pytest
import torch

from egox_core.metrics import find_redrawn, put_back
from egox_core.metrics.redrawn import departs, kept_share
from egox_core.types import DOUBTFUL, EARLIER, NOW, UNOBSERVED
from tests.refusals import refuses
from tests.twins.redrawn import departs_reference, put_back_reference


def smooth(height: int, width: int, draw: np.random.Generator, px: int = 8) -> np.ndarray:
    """Blobs of about ``px``, [H, W, 3] 0...1."""
    import cv2

    coarse = draw.random((height // px, width // px, 3), np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def blurred(frames: torch.Tensor) -> torch.Tensor:
    mean = torch.nn.functional.avg_pool2d(frames.movedim(-1, 1), 5, 1, 2, count_include_pad=False)
    return mean.movedim(1, -1)


def scene(size: int = 96) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(a video that is its prior plus what was never observed; prior; classes), three frames."""
    draw = np.random.default_rng(3)
    video = torch.from_numpy(np.stack([smooth(size, size, draw) for _ in range(3)]))
    seen = torch.full((3, size, size), NOW, dtype=torch.uint8)
    seen[:, :, : size // 4], seen[:, : size // 4], seen[2] = UNOBSERVED, DOUBTFUL, EARLIER
    return video, video * (seen > UNOBSERVED)[..., None], seen


@pytest.mark.parametrize("change", ["noise", "recoloured", "moved", "part moved"])
def test_it_is_the_plain_twin(change):
    draw = np.random.default_rng(5)
    prior = smooth(16, 24, draw)
    observed = smooth(16, 24, draw)[..., 0] > 0.3
    video = (prior + draw.normal(0, 0.02, prior.shape)).astype(np.float32)
    if change == "recoloured":
        video[4:12, 4:16] = video[4:12, 4:16, ::-1] * 0.5
    elif change == "moved":
        video = np.roll(video, 6, 1)
    elif change == "part moved":
        video[:, 12:] = np.roll(video, 5, 0)[:, 12:]
    video = video.clip(0, 1)
    fast, plain = departs(video, prior, observed), departs_reference(video, prior, observed)
    # A place on a bound falls to either side by rounding.
    assert (fast != plain).mean() < 0.003 and fast.any() == (change != "noise")
    seen = torch.where(torch.from_numpy(observed), NOW, UNOBSERVED).to(torch.uint8)[None]
    few = torch.zeros(1, 16, 24, dtype=torch.bool)
    few[0, 8:10, 4:7] = True
    clip = [torch.from_numpy(picture)[None] for picture in (video, prior)]
    kept, own = put_back(*clip, seen, few, 0.7)
    expected = put_back_reference(video, prior, observed, few[0].numpy(), 0.7)
    assert np.abs(kept[0].numpy() - expected).max() < 1e-4 and 0.1 < own.float().mean() < 0.7


def test_the_prior_is_put_back_where_it_is_observed_alone():
    truth, prior, seen = scene()
    soft = blurred(truth)
    redrawn = find_redrawn(soft, prior, seen)
    assert not redrawn.any(), "a soft picture is no other one"
    kept, own = put_back(soft, prior, seen, redrawn, 1.0)
    open_ = seen < EARLIER
    assert torch.equal(kept[open_], soft[open_]) and not own[open_].any()
    assert own.float().mean() == pytest.approx(0.6, abs=0.1)
    inside = (slice(None), slice(30, 90), slice(30, 90))
    before, after = ((v - truth)[inside].square().mean() for v in (soft, kept))
    assert after < 0.05 * before
    again, nothing = put_back(soft, prior, seen, redrawn, 0.0)
    assert torch.equal(again, soft) and not nothing.any()


@pytest.mark.parametrize("move", [(6, 0), (0, -6)])
def test_nothing_is_put_back_into_a_video_that_is_elsewhere(move):
    truth, prior, seen = scene()
    elsewhere = torch.roll(truth, move, (1, 2))
    redrawn = find_redrawn(elsewhere, prior, seen)
    kept, own = put_back(elsewhere, prior, seen, redrawn, 1.0)
    assert not own.any() and torch.equal(kept, elsewhere)


def test_an_object_of_another_colour_stays_and_another_exposure_counts_for_nothing():
    truth, prior, seen = scene()
    video = truth * 0.8 + 0.1
    assert not find_redrawn(video, prior, seen).any()
    video[0, 50:74, 50:74] = 1 - video[0, 50:74, 50:74]
    redrawn = find_redrawn(video, prior, seen)
    assert redrawn[0, 54:70, 54:70].float().mean() > 0.8 and not redrawn[1:].any()
    share = kept_share((seen[0] >= EARLIER).numpy(), redrawn[0].numpy())
    assert not share[redrawn[0].numpy()].any() and share[90:94, 40:90].all()


def test_parts_that_do_not_fit_are_refused():
    truth, prior, seen = scene()
    with refuses("prior of the ego video"):
        find_redrawn(truth[:2], prior, seen)
    with refuses("keep_observed"):
        put_back(truth, prior, seen, seen > 0, 1.5)
