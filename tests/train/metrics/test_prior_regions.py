"""Test metrics per region of the prior, baselines and bootstrap intervals."""

import numpy as np
import pytest
import torch

from egox_core.metrics.image import squared_error
from egox_train.metrics.baselines import BASELINES
from egox_train.metrics.bootstrap import bootstrap_mean, paired_difference
from egox_train.metrics.prior_regions import coverage_of_picture, region_rows


def test_errors_are_measured_in_their_region():
    truth = torch.rand(2, 64, 64, 3) * 0.5
    coverage = torch.zeros(2, 64, 64, dtype=torch.bool)
    coverage[:, :, :32] = True
    for columns, sides in (
        (slice(0, 8), ("inside", "outside")),
        (slice(56, 64), ("outside", "inside")),
    ):
        generated = truth.clone()
        generated[:, :, columns] += 0.1  # a quarter of that side
        rows = region_rows(squared_error(generated, truth), coverage)
        off, clean = (rows[f"psnr_{side}"] for side in sides)
        assert off == pytest.approx(20 + 10 * np.log10(4), abs=1e-3)
        assert clean == 100 and rows["coverage"] == 0.5


def test_regions_of_empty_and_full_coverage_have_values_or_none():
    error = torch.full((1, 16, 16), 0.01)
    full, none = (torch.full((1, 16, 16), value) for value in (True, False))
    assert region_rows(error, full)["psnr_outside"] is None
    assert region_rows(error, none)["psnr_inside"] is None


def test_baseline_videos_follow_their_definitions():
    exo = torch.zeros(2, 8, 16, 3)
    exo[0] = 0.4  # mean over the clip: 0.2
    exo[:, :, :8, 0] += 0.5
    prior = torch.zeros(2, 16, 16, 3)
    coverage = torch.zeros(2, 16, 16, dtype=torch.bool)
    coverage[:, :10] = True
    prior[coverage] = 0.8
    videos = {name: make(exo, prior, coverage) for name, make in BASELINES.items()}
    for video in videos.values():
        assert video.shape == prior.shape and 0 <= video.min() and video.max() <= 1
    mean = torch.tensor([0.45, 0.2, 0.2])
    assert torch.allclose(videos["exo mean colour"], mean.expand(2, 16, 16, 3))
    assert torch.allclose(videos["shrink"][:, :10], 0.6 * 0.8 + 0.4 * mean)
    assert torch.allclose(videos["shrink"][:, 10:], mean.expand(2, 6, 16, 3))
    assert torch.equal(videos["prior"], prior)
    # One colour all around the hole; Telea carries gradients on, and sees one towards the black
    # that it fills.
    assert torch.allclose(videos["prior + Telea"], torch.tensor(0.8), atol=0.03)
    assert torch.allclose(videos["prior + Telea"][coverage], prior[coverage], atol=1e-6)
    assert videos["exo resized"][0, :, 2, 0].tolist() == pytest.approx([0.9] * 16, abs=1e-5)
    assert not BASELINES["prior + Telea"](exo, prior, torch.zeros_like(coverage)).any()


def test_coverage_is_read_from_a_prior_picture():
    prior = torch.zeros(1, 4, 4, 3)
    prior[0, 0] = torch.tensor([0.0, 0.2, 0.0])
    prior[0, 1] = 0.05  # what compression makes of black
    assert coverage_of_picture(prior)[0].tolist() == [[True] * 4] + [[False] * 4] * 3


def test_interval_contains_the_mean_and_is_reproducible():
    values = np.random.default_rng(0).normal(3.0, 1.0, 200).tolist()
    estimate, again = (bootstrap_mean(values, [*map(str, range(200))]) for _ in range(2))
    assert estimate == again and estimate.mean == pytest.approx(np.mean(values))
    assert estimate.low < estimate.mean < estimate.high
    # Textbook: 1.96 standard errors on either side; the drawn quantiles wobble by a few per cent.
    width = 2 * 1.96 * np.std(values) / np.sqrt(200)
    assert estimate.high - estimate.low == pytest.approx(width, rel=0.1)


def test_clips_of_one_take_do_not_narrow_the_interval():
    values = [0.0, 1.0, 2.0, 3.0]
    one = bootstrap_mean(values, list("abcd"))
    many = bootstrap_mean(values * 25, list("abcd" * 25))
    assert (many.low, many.high, many.takes, many.clips) == (one.low, one.high, 4, 100)
    alone = bootstrap_mean(values, ["a"] * 4)
    assert alone.low == alone.high == alone.mean == 1.5
    assert bootstrap_mean([], []) is None


def test_paired_differences_are_within_a_clip():
    level = {str(n): 5.0 * n for n in range(40)}
    take_of, better = dict(zip(level, level, strict=True)), {n: v + 1 for n, v in level.items()}
    difference, p = paired_difference(better, level, take_of)
    # Though clips differ by much more.
    assert (difference.low, difference.high) == pytest.approx((1, 1)) and p < 1e-6
    assert paired_difference({**better, "0": None}, level, take_of)[0].clips == 39
    assert paired_difference(better, {"x": 1.0}, take_of) == (None, None)
