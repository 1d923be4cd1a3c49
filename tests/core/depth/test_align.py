"""Test depth alignment: known scale and shift, the plain form, momentum, masks and refusals."""

from dataclasses import replace

import pytest
import torch

from egox_core.depth import align
from egox_core.depth.align import align_depth
from tests.core.depth.align_cases import AlignCase, make_case
from tests.refusals import refuses
from tests.twins.align_depth import align_depth_reference

SIZE = dict(frames=3, height=224, width=392)
MODES = ("least squares", "robust")
in_both_modes = pytest.mark.parametrize("mode", MODES)
CASES = [AlignCase(noise_in=n) for n in ("", "m", "v", "b")]
OUTLIER_CASES = [AlignCase(noise_in=n, outliers_in=o) for n in "mvb" for o in "mv"]


@pytest.mark.parametrize(
    ("mode", "case"),
    [*((mode, c) for mode in MODES for c in CASES), *(("robust", c) for c in OUTLIER_CASES)],
    ids=str,
)
def test_known_scale_and_shift_are_recovered(case, mode):
    metric_depth, video_depth = make_case(case, **SIZE)
    aligned_depth, report = align_depth(metric_depth, video_depth, mode=mode)
    worst_errors = case.errors(report.alpha, report.beta)
    assert worst_errors[0] <= case.max_errors[0]
    assert worst_errors[1] <= case.max_errors[1]
    assert aligned_depth.kind == "metric z"
    assert not report.reported_frames
    if not case.noise_in:
        torch.testing.assert_close(aligned_depth.depth_m, metric_depth.depth_m, rtol=1e-4, atol=0)


@in_both_modes
@pytest.mark.parametrize(
    "case",
    [AlignCase(), AlignCase(noise_in="b"), AlignCase(noise_in="m", outliers_in="m")],
    ids=["clean", "noise", "outliers"],
)
def test_alignment_equals_the_plain_implementation(monkeypatch, case, mode):
    # Small enough that the samples are the whole frame; what differs is single against double
    # precision in the inverse depths, which moves a few pixels across a gate, and that the robust
    # twin iterates to the very end, whereas the fast path stops where α changes by less than 1e-4;
    # at a convergence rate of up to 0.8 that leaves 4e-4 to go. β is the smaller term, so the same
    # tilt is a larger share of it.
    metric_depth, video_depth = make_case(case, frames=3, height=112, width=196)
    metric_depth = replace(
        metric_depth, dynamic=torch.zeros_like(metric_depth.depth_m, dtype=torch.bool)
    )
    metric_depth.dynamic[:, 20:60, 30:90] = True
    monkeypatch.setattr(align, "MOMENTUM", 0.5)
    fast_depth, fast_report = align_depth(metric_depth, video_depth, mode=mode)
    plain_depth, plain_report = align_depth_reference(metric_depth, video_depth, mode=mode)
    for name, rtol in (("alpha", 5e-4), ("beta", 2e-3), ("residual", 5e-3), ("used_share", 3e-3)):
        fast_value, plain_value = getattr(fast_report, name), getattr(plain_report, name)
        torch.testing.assert_close(
            fast_value, plain_value, rtol=rtol, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )
    torch.testing.assert_close(fast_depth.depth_m, plain_depth.depth_m, rtol=1e-3, atol=0)


def test_disparity_is_aligned_like_inverse_depth():
    case = AlignCase(alpha=0.8, beta=0.1)
    metric_depth, video_depth = make_case(case, **SIZE)
    disparity = replace(video_depth, depth_m=1 / video_depth.depth_m, kind="disparity")
    aligned_depth, report = align_depth(metric_depth, disparity)
    assert max(case.errors(report.alpha, report.beta)) < 1e-4
    torch.testing.assert_close(aligned_depth.depth_m, metric_depth.depth_m, rtol=1e-4, atol=0)


def test_momentum_lags_behind_a_drift_and_is_reported(monkeypatch):
    case = AlignCase(drift=0.10)
    metric_depth, video_depth = make_case(case, frames=25, height=90, width=160)
    _, report = align_depth(metric_depth, video_depth)
    assert report.fit_alpha[-1] == pytest.approx(1.43, rel=1e-4)
    expected_alpha = case.alpha
    for t in range(25):
        expected_alpha = 0.99 * expected_alpha + 0.01 * case.alpha * (1 + 0.10 * t / 24)
    assert report.alpha[-1] == pytest.approx(expected_alpha, rel=1e-4)
    relative_lag = (report.lag / report.mean_inverse).abs()
    assert (
        relative_lag[0] < 1e-5 and relative_lag[-1] > 0.04 and bool((relative_lag.diff() > 0).all())
    )
    assert "lag" in report.text()
    monkeypatch.setattr(align, "MOMENTUM", 0.0)
    _, report_without_momentum = align_depth(metric_depth, video_depth)
    assert (
        float((report_without_momentum.lag / report_without_momentum.mean_inverse).abs().max())
        < 1e-9
    )


def test_moving_and_sky_pixels_are_left_out_of_the_fit():
    case = AlignCase()
    metric_depth, video_depth = make_case(case, **SIZE)
    dynamic_mask, sky_mask = torch.zeros(2, *metric_depth.depth_m.shape, dtype=torch.bool)
    dynamic_mask[:, 60:200, 100:260] = True
    sky_mask[:, :50] = True
    metric_depth.depth_m[dynamic_mask] *= 3.0
    metric_depth.depth_m[sky_mask] = 40.0
    aligned_depth, report = align_depth(metric_depth, video_depth, dynamic_mask, sky_mask)
    assert max(case.errors(report.alpha, report.beta)) < 1e-4
    assert (
        torch.isnan(aligned_depth.depth_m[sky_mask]).all()
        and torch.isfinite(aligned_depth.depth_m[~sky_mask]).all()
    )
    assert torch.equal(aligned_depth.dynamic, dynamic_mask) and torch.equal(
        aligned_depth.sky, sky_mask
    )
    _, unmasked_report = align_depth(metric_depth, video_depth)
    assert max(case.errors(unmasked_report.alpha, unmasked_report.beta)) > 0.02


@in_both_modes
def test_frames_with_few_pixels_use_the_momentum_state(mode):
    case = AlignCase()
    metric_depth, video_depth = make_case(case, frames=5, height=90, width=160)
    metric_depth.depth_m[0] = float("nan")
    metric_depth.depth_m[3, 3:] = float("nan")
    aligned_depth, report = align_depth(metric_depth, video_depth, mode=mode)
    assert [frame for frame, _ in report.reported_frames] == [0, 3]
    assert max(case.errors(report.alpha, report.beta)) < 1e-4
    assert torch.isfinite(aligned_depth.depth_m).all()
    assert torch.isnan(report.fit_alpha[[0, 3]]).all()
    assert "frame 3" in report.text()


def test_inverse_depth_is_clamped():
    metric_depth, video_depth = make_case(AlignCase(), frames=2, height=90, width=160)
    video_depth.depth_m[:, 0, 0] = -1000.0  # behind every plane: α / D^v + β near zero or negative
    video_depth.depth_m[:, 0, 1] = -1.0
    aligned_depth, _ = align_depth(metric_depth, video_depth)
    assert float(aligned_depth.depth_m.max()) == pytest.approx(1000.0)


def check_refusal(message_pattern, *arguments, **options):
    with refuses(message_pattern):
        align_depth(*arguments, **options)


def test_missing_and_unfitting_depth_is_refused():
    metric_depth, video_depth = make_case(AlignCase(), frames=2, height=60, width=80)
    check_refusal("the video's own depth", None, None)
    check_refusal("video depth only", None, video_depth)
    check_refusal("kind 'relative z'", video_depth, None)
    check_refusal(
        "video depth: got 1 frames",
        metric_depth,
        replace(video_depth, depth_m=video_depth.depth_m[:1]),
    )
    check_refusal("sky mask", metric_depth, video_depth, sky=torch.zeros(2, 5, 5, dtype=torch.bool))
    full_mask = torch.ones_like(metric_depth.depth_m, dtype=torch.bool)
    check_refusal("no frame in which scale and shift", metric_depth, video_depth, dynamic=full_mask)
    constant_depth = replace(metric_depth, depth_m=torch.full_like(metric_depth.depth_m, 3.0))
    check_refusal("alignment mode", metric_depth, video_depth, mode="median")
    for mode in MODES:
        check_refusal(
            "no frame", constant_depth, replace(constant_depth, kind="relative z"), mode=mode
        )
