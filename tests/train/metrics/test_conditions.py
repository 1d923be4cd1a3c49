"""Structure, sharpness and colour: cases worked out by hand, and what each of them is blind to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics")

from egox_train.metrics.conditions import condition_rows  # noqa: E402


def noise(seed: int = 0, side: int = 128) -> torch.Tensor:
    """Two frames of coloured blocks of 4 px."""
    small = (
        torch.rand(2, side // 4, side // 4, 3, generator=torch.Generator().manual_seed(seed)) * 0.6
        + 0.2
    )
    return small.repeat_interleave(4, 1).repeat_interleave(4, 2)


def test_equal_videos_have_one_and_others_less():
    truth = noise()
    assert condition_rows(truth, truth) == pytest.approx(
        {"patch_zncc": 1, "sharpness": 1, "chroma": 1}
    )
    blurred = torch.nn.functional.avg_pool2d(truth.movedim(-1, 1), 5, 1, 2).movedim(1, -1)
    noisy = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    for worse in (blurred, noisy, noise(9)):
        assert condition_rows(worse, truth)["patch_zncc"] < 0.95
    assert (
        condition_rows(blurred, truth)["sharpness"] < 0.5
        and condition_rows(noisy, truth)["sharpness"] < 0.8
    )
    grey = truth.mean(-1, keepdim=True).expand_as(truth)
    assert condition_rows(grey, truth)["chroma"] < 0.2
    flat = condition_rows(torch.full_like(truth, 0.5), truth)
    assert flat["patch_zncc"] == flat["sharpness"] == 0 and flat["chroma"] < 1e-6


def test_brightness_and_contrast_leave_the_structure():
    truth = noise()
    assert condition_rows(0.5 * truth + 0.3, truth)["patch_zncc"] == pytest.approx(1)
    assert condition_rows(0.5 * truth + 0.3, truth)["sharpness"] == pytest.approx(0.25)
    assert condition_rows(0.5 * truth + 0.3, truth)["chroma"] == pytest.approx(0.5)


def test_the_correlation_is_that_of_numpy():
    ours, truth = noise(1), noise(2)
    weights = np.array([0.299, 0.587, 0.114])
    expected = [
        np.corrcoef(
            *(
                (video[t, y : y + 64, x : x + 64].double().numpy() @ weights).ravel()
                for video in (ours, truth)
            )
        )[0, 1]
        for t in range(2)
        for y in (0, 64)
        for x in (0, 64)
    ]
    assert condition_rows(ours, truth)["patch_zncc"] == pytest.approx(np.mean(expected), abs=1e-9)


def test_what_the_truth_does_not_show_is_not_judged():
    still = torch.full((1, 64, 64, 3), 0.5)
    assert condition_rows(noise()[:1, :64, :64], still) == {
        "patch_zncc": None,
        "sharpness": None,
        "chroma": None,
    }
