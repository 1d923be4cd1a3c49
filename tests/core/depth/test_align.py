"""Depth alignment: recovery of known α and β, its plain twin, momentum, masks, pass-through,
refusals."""

from dataclasses import replace

import pytest
import torch

from egox_core.depth import align
from egox_core.depth.align import align_depth
from egox_core.frames import Frames
from egox_core.types import DepthVideo
from tests.core.depth.align_cases import AlignCase, make_case
from tests.refusals import refuses
from tests.twins.align_depth import align_depth_reference

SIZE = dict(frames=3, height=224, width=392)
MODES = ("least squares", "robust")
both_modes = pytest.mark.parametrize("mode", MODES)
CASES = [
    AlignCase(),
    *(AlignCase(noise_in=n, outliers_in=o) for n in "mvb" for o in ("", "m", "v", "b")),
]


@both_modes
@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"noise_{c.noise_in or '-'}_outliers_{c.outliers_in or '-'}"
)
def test_recovers_alpha_and_beta(case, mode):
    metric, video = make_case(case, **SIZE)
    aligned, report = align_depth(metric, video, mode=mode)
    bar = case.bar(mode)
    if bar is not None:
        worst = case.errors(report.alpha, report.beta)
        assert worst[0] <= bar[0] and worst[1] <= bar[1]
    assert aligned.kind == "metric z" and not report.reported_frames
    if not case.noise_in:
        torch.testing.assert_close(aligned.depth_m, metric.depth_m, rtol=1e-4, atol=0)


@both_modes
@pytest.mark.parametrize(
    "case",
    [AlignCase(), AlignCase(noise_in="b"), AlignCase(noise_in="m", outliers_in="m")],
    ids=["clean", "noise", "outliers"],
)
def test_equals_its_plain_twin(monkeypatch, case, mode):
    # Small enough that the samples are the whole frame; what differs is single against double
    # precision in the inverse depths, which moves a few pixels across a gate, and that the robust
    # twin iterates to the very end, whereas the fast path stops where α changes by less than 1e-4;
    # at a convergence rate of up to 0.8 that leaves 4e-4 to go. β is the smaller term, so the same
    # tilt is a larger share of it.
    metric, video = make_case(case, frames=3, height=112, width=196)
    metric = replace(metric, dynamic=torch.zeros_like(metric.depth_m, dtype=torch.bool))
    metric.dynamic[:, 20:60, 30:90] = True
    monkeypatch.setattr(align, "MOMENTUM", 0.5)
    fast, fast_report = align_depth(metric, video, mode=mode)
    plain, plain_report = align_depth_reference(metric, video, mode=mode)
    for name, rtol in (("alpha", 5e-4), ("beta", 2e-3), ("residual", 5e-3), ("used_share", 3e-3)):
        a, b = getattr(fast_report, name), getattr(plain_report, name)
        torch.testing.assert_close(
            a, b, rtol=rtol, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )
    torch.testing.assert_close(fast.depth_m, plain.depth_m, rtol=1e-3, atol=0)


@both_modes
def test_samples_move_the_fit_less_than_its_noise(mode):
    # At 351,232 px the fast path takes its quantiles and the robust iterations from a sample, the
    # twin from all pixels.
    metric, video = make_case(AlignCase(noise_in="b"), frames=1, height=448, width=784)
    _, fast = align_depth(metric, video, mode=mode)
    _, plain = align_depth_reference(metric, video, mode=mode)
    torch.testing.assert_close(fast.fit_alpha, plain.fit_alpha, rtol=5e-4, atol=0)
    torch.testing.assert_close(fast.fit_beta, plain.fit_beta, rtol=5e-3, atol=0)


def test_disparity_is_inverse_depth_up_to_scale_and_shift():
    case = AlignCase(alpha=0.8, beta=0.1)
    metric, video = make_case(case, **SIZE)
    disparity = replace(video, depth_m=1 / video.depth_m, kind="disparity")
    aligned, report = align_depth(metric, disparity)
    assert max(case.errors(report.alpha, report.beta)) < 1e-4
    torch.testing.assert_close(aligned.depth_m, metric.depth_m, rtol=1e-4, atol=0)


def test_momentum_trails_a_drift_and_the_report_says_so(monkeypatch):
    case = AlignCase(drift=0.10)
    metric, video = make_case(case, frames=25, height=90, width=160)
    _, report = align_depth(metric, video)
    assert report.fit_alpha[-1] == pytest.approx(1.43, rel=1e-4)
    expected = case.alpha
    for t in range(25):
        expected = 0.99 * expected + 0.01 * case.alpha * (1 + 0.10 * t / 24)
    assert report.alpha[-1] == pytest.approx(expected, rel=1e-4)
    lag = (report.lag / report.mean_inverse).abs()
    assert lag[0] < 1e-5 and lag[-1] > 0.04 and bool((lag.diff() > 0).all())
    assert "lag" in report.text()
    monkeypatch.setattr(align, "MOMENTUM", 0.0)
    _, free = align_depth(metric, video)
    assert float((free.lag / free.mean_inverse).abs().max()) < 1e-9


def test_masks_keep_moving_and_sky_pixels_out_of_the_fit():
    case = AlignCase()
    metric, video = make_case(case, **SIZE)
    dynamic, sky = torch.zeros(2, *metric.depth_m.shape, dtype=torch.bool)
    dynamic[:, 60:200, 100:260] = True
    sky[:, :50] = True
    metric.depth_m[dynamic] *= 3.0
    metric.depth_m[sky] = 40.0
    aligned, report = align_depth(metric, video, dynamic, sky)
    assert max(case.errors(report.alpha, report.beta)) < 1e-4
    assert torch.isnan(aligned.depth_m[sky]).all() and torch.isfinite(aligned.depth_m[~sky]).all()
    assert torch.equal(aligned.dynamic, dynamic) and torch.equal(aligned.sky, sky)
    _, unmasked = align_depth(metric, video)
    assert max(case.errors(unmasked.alpha, unmasked.beta)) > 0.02


@both_modes
def test_frames_with_too_few_pixels_take_the_momentum_state_and_are_reported(mode):
    case = AlignCase()
    metric, video = make_case(case, frames=5, height=90, width=160)
    metric.depth_m[0] = float("nan")
    metric.depth_m[3, 3:] = float("nan")
    aligned, report = align_depth(metric, video, mode=mode)
    assert [frame for frame, _ in report.reported_frames] == [0, 3]
    assert max(case.errors(report.alpha, report.beta)) < 1e-4
    assert torch.isfinite(aligned.depth_m).all()
    assert torch.isnan(report.fit_alpha[[0, 3]]).all() and "frame 3" in report.text()


def test_inverse_depth_is_clamped():
    metric, video = make_case(AlignCase(), frames=2, height=90, width=160)
    video.depth_m[:, 0, 0] = -1000.0  # behind every plane: α / D^v + β near zero or negative
    video.depth_m[:, 0, 1] = -1.0
    aligned, _ = align_depth(metric, video)
    assert float(aligned.depth_m.max()) == pytest.approx(1000.0)


def test_without_video_depth_the_metric_one_passes_through():
    metric, _ = make_case(AlignCase(), frames=3, height=60, width=80)
    sky = torch.zeros_like(metric.depth_m, dtype=torch.bool)
    sky[:, 0] = True
    aligned, report = align_depth(metric, None, sky=sky)
    assert (
        torch.equal(aligned.depth_m[:, 1:], metric.depth_m[:, 1:])
        and torch.isnan(aligned.depth_m[:, 0]).all()
    )
    assert aligned.exo == metric.exo and "as it is" in report.text()


def refused(match, *arguments, **options):
    with refuses(match):
        align_depth(*arguments, **options)


def test_refusals_name_what_is_missing():
    metric, video = make_case(AlignCase(), frames=2, height=60, width=80)
    refused("the video's own depth", None, None)
    refused("video depth only", None, video)
    refused("kind 'relative z'", video, None)
    refused("video depth: got 1 frames", metric, replace(video, depth_m=video.depth_m[:1]))
    refused("sky mask", metric, video, sky=torch.zeros(2, 5, 5, dtype=torch.bool))
    everything = torch.ones_like(metric.depth_m, dtype=torch.bool)
    refused("no frame in which scale and shift", metric, video, dynamic=everything)
    flat = replace(metric, depth_m=torch.full_like(metric.depth_m, 3.0))
    refused("alignment mode", metric, video, mode="median")
    for mode in MODES:
        refused("no frame", flat, replace(flat, kind="relative z"), mode=mode)


def test_disparity_by_mistake_is_found_by_order_and_scale():
    metric, video = make_case(AlignCase(noise_in="b"), frames=2, height=90, width=160)
    disparity = 255 * (1 / video.depth_m) / (1 / video.depth_m).max()
    refused("looks like disparity", metric, replace(video, depth_m=disparity))
    refused("looks like z depth", metric, replace(video, kind="disparity"))


def test_a_few_wild_pixels_do_not_tilt_the_robust_line():
    # Next to zero depth is a huge inverse depth: a lever that no quantile range holds back in this
    # mode.
    case = AlignCase(noise_in="b")
    metric, video = make_case(case, **SIZE)
    video.depth_m[:, 10:12, 10:20] = 1e-3
    metric.depth_m[:, 30:32, 10:20] = 1e-3
    _, report = align_depth(metric, video, mode="robust")
    alpha, beta = case.errors(report.alpha, report.beta)
    assert alpha <= 0.01 and beta <= 0.04


def test_a_depth_video_keeps_its_time_and_indices():
    metric, video = make_case(AlignCase(), frames=2, height=60, width=80)
    frames = Frames.stated([4, 8], [0.2, 0.4])
    stamped: DepthVideo = replace(metric, exo=replace(metric.exo, frames=frames))
    aligned, _ = align_depth(stamped, video)
    assert aligned.frames == frames
