"""Test PSNR, SSIM, flicker and patch correlation against known values."""

from itertools import product

import numpy as np
import pytest
import torch

from egox_core.metrics.image import (
    psnr,
    region_psnr,
    require_torchmetrics,
    squared_error,
    ssim_map,
)
from egox_train.metrics.patches import patch_zncc
from egox_train.metrics.temporal import temporal_flickering
from tests.refusals import refuses


def noise_video(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed))


def test_psnr_equals_known_values_and_torchmetrics():
    true_video = torch.full((2, 16, 16, 3), 0.5)
    generated_video = true_video.clone()
    generated_video[0] += 0.1  # mean square error 0.01: 20 dB
    generated_video[1, :8] += 0.2  # half of the pixels, 0.02: 16.99 dB
    assert psnr(generated_video, true_video).tolist() == pytest.approx([20.0, 16.9897], abs=1e-4)
    first_video, second_video = noise_video(3, 32, 28), noise_video(3, 32, 28, seed=1)
    torchmetrics_psnr = require_torchmetrics().peak_signal_noise_ratio(
        first_video.double(), second_video.double(), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    assert psnr(first_video, second_video).equal(torchmetrics_psnr), (
        "rows that were stored before stay as they are"
    )


def test_ssim_equals_torchmetrics_and_scikit_image():
    # scikit-image mirrors the picture differently at its border (with the outermost pixel), 5 px
    # deep.
    scikit_metrics = pytest.importorskip("skimage.metrics")
    truth = noise_video(3, 32, 28)
    truth[2] = 0.5
    noisy_video = (truth + 0.2 * noise_video(3, 32, 28, seed=1)).clamp(0, 1)
    egox_map = ssim_map(truth, noisy_video)
    assert egox_map.shape == (3, 32, 28)
    _, torchmetrics_map = require_torchmetrics().structural_similarity_index_measure(
        *(x.double().movedim(-1, 1) for x in (truth, noisy_video)),
        data_range=1.0,
        return_full_image=True,
    )
    difference = torchmetrics_map.mean(dim=1) - egox_map
    assert float(difference.mean(dim=(1, 2)).abs().max()) < 1e-9
    for frame in (0, 2):
        _, scikit_map = scikit_metrics.structural_similarity(
            truth[frame].double().numpy(),
            noisy_video[frame].double().numpy(),
            data_range=1,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            full=True,
            use_sample_covariance=False,
        )
        difference = np.abs(scikit_map.mean(-1) - egox_map[frame].numpy())[5:-5, 5:-5]
        assert difference.max() < 1e-9


def test_region_psnr_is_pooled_over_the_clip():
    true_video = torch.zeros(2, 16, 16, 3)
    generated_video = true_video.clone()
    generated_video[0, 0, 0] = (
        1.0  # one of four marked pixels, all the rest of the error lies outside
    )
    generated_video[1, 8:] = 0.7
    region_mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    region_mask[0, 0, :3] = region_mask[1, 0, 0] = True
    error = squared_error(generated_video, true_video)
    assert region_psnr(error, region_mask) == pytest.approx(10 * np.log10(4), abs=1e-9)
    assert region_psnr(error, torch.zeros_like(region_mask)) is None


def test_unequal_and_small_videos_are_refused():
    for first_shape, second_shape in (
        ((2, 16, 16), (3, 16, 16)),
        ((2, 16, 16), (2, 16, 20)),
        ((0, 16, 16),) * 2,
        ((2, 8, 8),) * 2,
    ):
        with refuses("frames to compare"):
            psnr(noise_video(*first_shape), noise_video(*second_shape))


def test_flicker_of_known_videos_is_exact():
    still_video = noise_video(1, 8, 8).expand(4, -1, -1, -1)
    assert temporal_flickering(still_video) == 1
    blinking_video = torch.zeros(5, 8, 8, 3)
    for step in (0.25, 1):
        blinking_video[1::2] = step
        assert temporal_flickering(blinking_video) == 1 - step
    ramp_picture = torch.linspace(0, 1, 16).view(1, 1, 16, 1).expand(1, 8, 16, 3)
    moving_video = torch.cat(
        [ramp_picture, torch.roll(ramp_picture, 1, dims=2)]
    )  # 15 columns change by 1/15, one by 1
    assert temporal_flickering(moving_video) == pytest.approx(1 - 2 / 16)
    with refuses("at least 2"):
        temporal_flickering(still_video[:1])


def test_patch_correlation_ignores_brightness_and_contrast():
    generated, truth = noise_video(2, 128, 128, seed=1), noise_video(2, 128, 128, seed=2)
    luma_weights, expected_correlations = np.array([0.299, 0.587, 0.114]), []
    for t, y, x in product((0, 1), (0, 64), (0, 64)):
        patches = (
            (video[t, y : y + 64, x : x + 64].double().numpy() @ luma_weights).ravel()
            for video in (generated, truth)
        )
        expected_correlations.append(np.corrcoef(*patches)[0, 1])
    assert patch_zncc(generated, truth) == pytest.approx(np.mean(expected_correlations), abs=1e-9)
    assert patch_zncc(0.5 * truth + 0.3, truth) == pytest.approx(1)
    constant_video = torch.full_like(truth, 0.5)
    assert patch_zncc(constant_video, truth) == 0 and patch_zncc(truth, constant_video) is None
