"""Test metrics inside and outside the area that the prior covers."""

import numpy as np
import pytest
import torch

from egox_core.cameras import preset_camera
from egox_core.metrics.image import squared_error
from egox_train.metrics.baselines import make_baselines
from egox_train.metrics.bootstrap import bootstrap_mean, paired_difference
from egox_train.metrics.prior_regions import coverage_of_picture, region_rows


def test_errors_are_measured_in_their_region():
    truth = torch.rand(2, 64, 64, 3) * 0.5
    coverage = torch.zeros(2, 64, 64, dtype=torch.bool)
    coverage[:, :, :32] = True
    for columns, side_names in (
        (slice(0, 8), ("inside", "outside")),
        (slice(56, 64), ("outside", "inside")),
    ):
        generated = truth.clone()
        generated[:, :, columns] += 0.1  # a quarter of that side
        region_figures = region_rows(squared_error(generated, truth), coverage)
        wrong_side_psnr, right_side_psnr = (region_figures[f"psnr_{side}"] for side in side_names)
        assert wrong_side_psnr == pytest.approx(20 + 10 * np.log10(4), abs=1e-3)
        assert right_side_psnr == 100 and region_figures["coverage"] == 0.5


def test_regions_of_empty_and_full_coverage_have_values_or_none():
    error = torch.full((1, 16, 16), 0.01)
    full_coverage, empty_coverage = (torch.full((1, 16, 16), value) for value in (True, False))
    assert region_rows(error, full_coverage)["psnr_outside"] is None
    assert region_rows(error, empty_coverage)["psnr_inside"] is None


def test_baseline_videos_follow_their_definitions():
    exo = torch.zeros(2, 8, 16, 3)
    exo[0] = 0.4  # mean over the clip: 0.2
    exo[:, :, :8, 0] += 0.5
    prior = torch.zeros(2, 16, 16, 3)
    coverage = torch.zeros(2, 16, 16, dtype=torch.bool)
    coverage[:, :10] = True
    prior[coverage] = 0.8
    videos = make_baselines(exo, prior, coverage, preset_camera("aria_meta", 32))
    for video in videos.values():
        assert video.shape == prior.shape and 0 <= video.min() and video.max() <= 1
    mean_colour = torch.tensor([0.45, 0.2, 0.2])
    assert torch.allclose(videos["exo mean colour"], mean_colour.expand(2, 16, 16, 3))
    assert torch.allclose(videos["shrink"][:, :10], 0.6 * 0.8 + 0.4 * mean_colour)
    assert torch.allclose(videos["shrink"][:, 10:], mean_colour.expand(2, 6, 16, 3))
    assert torch.equal(videos["prior"], prior)
    assert torch.allclose(videos["prior, haze"], torch.tensor(0.8))  # all around the hole
    dark_rim = prior.clone()
    dark_rim[:, 8:10] *= 0.2  # as a video's blocks make it
    filled = make_baselines(exo, dark_rim, coverage, None)["prior, haze"]
    assert torch.allclose(filled[:, 10:], torch.tensor(0.8))
    assert torch.equal(filled[:, :10], dark_rim[:, :10])
    assert torch.allclose(videos["prior, haze"][coverage], prior[coverage], atol=1e-6)
    assert videos["exo resized"][0, :, 2, 0].tolist() == pytest.approx([0.9] * 16, abs=1e-5)
    alone = make_baselines(exo, prior, torch.zeros_like(coverage), preset_camera("pinhole", 16))
    assert not alone["prior, haze"].any()
    assert alone.keys() == videos.keys() - {"prior, haze, shaded", "shading alone"}
    shading = videos["shading alone"] / mean_colour
    assert torch.allclose(shading[:, 7:9, 7:9], torch.ones(()), atol=0.02)
    assert not shading[:, 0, 0].any()
    shaded = videos["prior, haze, shaded"][coverage]
    assert torch.allclose(shaded, (prior * shading)[coverage], atol=1e-6)


def test_coverage_is_read_from_a_prior_picture():
    prior = torch.zeros(1, 4, 4, 3)
    prior[0, 0] = torch.tensor([0.0, 0.2, 0.0])
    prior[0, 1] = 0.05  # what compression makes of black
    assert coverage_of_picture(prior)[0].tolist() == [[True] * 4] + [[False] * 4] * 3


def test_interval_contains_the_mean_and_is_reproducible():
    psnr_values = np.random.default_rng(0).normal(3.0, 1.0, 200).tolist()
    estimate, repeated_estimate = (
        bootstrap_mean(psnr_values, [*map(str, range(200))]) for _ in range(2)
    )
    assert estimate == repeated_estimate and estimate.mean == pytest.approx(np.mean(psnr_values))
    assert estimate.low < estimate.mean < estimate.high
    # Textbook: 1.96 standard errors on either side; the drawn quantiles wobble by a few per cent.
    expected_width = 2 * 1.96 * np.std(psnr_values) / np.sqrt(200)
    assert estimate.high - estimate.low == pytest.approx(expected_width, rel=0.1)


def test_clips_of_one_take_do_not_narrow_the_interval():
    psnr_values = [0.0, 1.0, 2.0, 3.0]
    four_clip_estimate = bootstrap_mean(psnr_values, list("abcd"))
    hundred_clip_estimate = bootstrap_mean(psnr_values * 25, list("abcd" * 25))
    assert (
        hundred_clip_estimate.low,
        hundred_clip_estimate.high,
        hundred_clip_estimate.takes,
        hundred_clip_estimate.clips,
    ) == (four_clip_estimate.low, four_clip_estimate.high, 4, 100)
    single_take_estimate = bootstrap_mean(psnr_values, ["a"] * 4)
    assert single_take_estimate.low == single_take_estimate.high == single_take_estimate.mean == 1.5
    assert bootstrap_mean([], []) is None


def test_paired_differences_are_within_a_clip():
    psnr_by_clip = {str(n): 5.0 * n for n in range(40)}
    take_by_clip = dict(zip(psnr_by_clip, psnr_by_clip, strict=True))
    better_psnr_by_clip = {n: v + 1 for n, v in psnr_by_clip.items()}
    difference, p = paired_difference(better_psnr_by_clip, psnr_by_clip, take_by_clip)
    # Though clips differ by much more.
    assert (difference.low, difference.high) == pytest.approx((1, 1)) and p < 1e-6
    assert (
        paired_difference({**better_psnr_by_clip, "0": None}, psnr_by_clip, take_by_clip)[0].clips
        == 39
    )
    assert paired_difference(better_psnr_by_clip, {"x": 1.0}, take_by_clip) == (None, None)
