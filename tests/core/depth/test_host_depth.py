"""Host payloads become DepthVideos. They are built here exactly as the host's nodes build them, and
tests/nodes runs the nodes."""

import math

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.depth.da3 import confidence_trust, da3_depth
from egox_core.depth.moge import moge_depth
from egox_core.depth.resample import fit_depth_size, fit_host_mask, mask_share
from egox_core.depth.roles import NO_MASK, align_sources
from egox_core.depth.sources import (
    DepthSource,
    clean_depth,
    guessed_camera,
    image_depth,
)
from egox_core.frames import Frames
from egox_core.page.maps import depth_preview
from egox_core.remarks import RemarkKind
from egox_core.types import DepthVideo
from tests.refusals import refuses

W, H, T = 84, 56, 3


def moge_payload(normal: bool = True, hidden: float = math.inf) -> dict:
    depth = torch.rand(T, H, W) * 4 + 1
    mask = torch.ones(T, H, W, dtype=torch.bool)
    mask[:, :10] = False
    depth[~mask] = hidden
    k = torch.tensor([[1.2, 0, 0.5], [0, 1.8, 0.5], [0, 0, 1]]).expand(T, 3, 3).clone()
    payload = {"depth": depth, "mask": mask, "intrinsics": k, "image": torch.rand(T, H, W, 3)}
    if normal:
        payload["normal"] = torch.rand(T, H, W, 3)
    return payload


@pytest.mark.parametrize("hidden", [math.inf, 2.0])  # 2.0: apply_mask off
def test_moge_gives_metres_intrinsics_in_pixels_and_a_sky(hidden):
    payload = moge_payload(hidden=hidden)
    source = moge_depth(payload)
    depth, camera = source.depth, source.depth.exo.camera
    assert (camera.fx, camera.cx) == pytest.approx((1.2 * W, (W - 1) / 2))
    assert depth.kind == "metric z" and not source.depth.exo.lens_guessed
    assert torch.isnan(depth.depth_m[:, :10]).all() and torch.isfinite(depth.depth_m[:, 10:]).all()
    assert torch.equal(depth.sky, ~payload["mask"])
    assert (payload["depth"][:, :10] == hidden).all(), "the host's payload must not be changed"


def test_moge_v1_has_no_scale():
    source = moge_depth(moge_payload(normal=False))
    assert source.depth.kind == "relative z" and "MoGe v1" in " ".join(map(str, source.notes))


def test_moge_focal_lengths_that_disagree_are_told():
    payload = moge_payload()
    payload["intrinsics"][:, 0, 0] = torch.tensor([0.8, 1.2, 1.6])
    source = moge_depth(payload)
    assert source.depth.exo.camera.fx == pytest.approx(1.2 * W) and "differ" in " ".join(
        map(str, source.notes)
    )


def test_moge_refusals():
    panorama = {k: v for k, v in moge_payload().items() if k not in ("intrinsics", "normal")}
    with refuses("panorama"):
        moge_depth(panorama)
    with refuses("keys"):
        moge_depth({"points": torch.zeros(1, 2, 2, 3)})
    dark = moge_payload()
    dark["mask"][1] = False
    with refuses("frame 1"):
        moge_depth(dark)


def da3_payload(mode: str = "multiview") -> dict:
    payload = {
        "depth": torch.rand(T, H, W) + 0.5,
        "image": torch.rand(T, H, W, 3),
        "mode": mode,
        "confidence": 1 + torch.rand(T, H, W),
    }
    if mode == "multiview":
        k = torch.eye(3).repeat(1, T, 1, 1)
        k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2] = (
            40.0,
            41.0,
            21.0,
            14.0,
        )
        payload["intrinsics"] = k
    return payload


def test_da3_multiview_intrinsics_are_scaled_from_the_models_picture_to_the_depth():
    source = da3_depth(da3_payload())
    camera = source.depth.exo.camera
    assert (camera.fx, camera.fy) == pytest.approx((80.0, 82.0))
    assert (camera.cx, camera.cy) == pytest.approx(((W - 1) / 2, (H - 1) / 2))
    assert (
        source.depth.kind == "relative z"
        and not source.depth.exo.lens_guessed
        and source.depth.exo.pose is None
    )
    assert 0 <= float(source.depth.trust.min()) <= float(source.depth.trust.max()) == 1


def test_da3_identity_intrinsics_mean_that_none_were_estimated():
    payload = da3_payload()
    payload["intrinsics"] = torch.eye(3)[None, None].expand(1, T, 3, 3)
    source = da3_depth(payload)
    assert source.depth.exo.lens_guessed and source.depth.exo.camera == guessed_camera(W, H)


def test_da3_mono_scales_every_frame_on_its_own_and_says_so():
    source = da3_depth(da3_payload("mono"))
    assert "mono mode" in " ".join(map(str, source.notes)) and source.depth.kind == "relative z"


def test_da3_with_a_sky_is_of_unknown_scale():
    sky = torch.zeros(T, H, W)
    sky[:, :5] = 0.9
    payload = {"depth": torch.full((T, H, W), 2.0), "mode": "mono", "sky": sky}
    depth = da3_depth(payload).depth
    assert depth.kind == "relative z" and depth.sky[:, :5].all() and not depth.sky[:, 5:].any()


def test_da3_refusals():
    with refuses("keys"):
        da3_depth({"mode": "mono"})


def test_confidence_one_is_no_trust():
    confidence = torch.ones(1, 16, 16)
    confidence[:, :, 2:] = 3.0
    trust = confidence_trust(confidence)
    assert float(trust[0, 0, 0]) == 0 and float(trust[0, 0, 7]) == 1


def test_pictures_are_disparity():
    grey = torch.linspace(0, 1, W).expand(T, H, W)[..., None].expand(T, H, W, 3)
    depth = image_depth(grey).depth
    assert depth.kind == "disparity"
    torch.testing.assert_close(depth.depth_m, grey[..., 0])
    with refuses("colour"):
        image_depth(torch.rand(T, H, W, 3))
    with refuses("flat"):
        image_depth(torch.full((T, H, W, 3), 0.5))


def test_invalid_pixels_become_nan_and_are_told():
    values = torch.ones(2, 10, 10)
    values[0, 0, :4] = torch.tensor([0.0, -1.0, float("inf"), float("nan")])
    depth, notes = clean_depth(values, "test")
    assert torch.isnan(depth[0, 0, :4]).all() and "2.00 %" in notes[0].text
    with refuses("frame 1"):
        clean_depth(torch.stack([values[1], torch.zeros(10, 10)]), "test")
    with refuses("shape"):
        clean_depth(values[0], "test")


def test_depth_is_cropped_or_resampled_with_its_camera():
    depth = moge_depth(moge_payload()).depth
    narrow = fit_depth_size(depth, W - 12, H)[0]
    assert (
        torch.equal(narrow.depth_m[:, 12], depth.depth_m[:, 12, 6:-6])
        and narrow.exo.camera.cx == depth.exo.camera.cx - 6
    )
    half = fit_depth_size(depth, W // 2, H // 2)[0]
    assert half.depth_m.shape == (T, H // 2, W // 2) and half.exo.camera.fx == pytest.approx(
        depth.exo.camera.fx / 2
    )
    # The payload is random, so no two neighbours are one surface and nothing may be mixed.
    assert bool(
        torch.isin(half.depth_m.nan_to_num(0), depth.depth_m.nan_to_num(0)).float().mean() > 0.99
    )
    with refuses("aspect"):
        fit_depth_size(depth, W, H - 8)


FRAMES = Frames.of_count(T)


def test_masks_follow_the_rules():
    assert fit_host_mask(torch.zeros(1, 64, 64), FRAMES, H, W, "sky mask") == (None, ())
    one = torch.zeros(1, 2 * H, 2 * W)
    one[:, :H] = 1
    fitted, _ = fit_host_mask(one, FRAMES, H, W, "sky mask")
    assert (
        fitted.shape == (T, H, W)
        and bool(fitted[:, : H // 2].all())
        and not bool(fitted[:, H // 2 + 1 :].any())
    )
    assert mask_share(fitted) == pytest.approx(0.5, abs=0.02) and mask_share(None) == 0
    wide = torch.zeros(T + 1, H, W + 12)
    wide[:, :, 6] = 1
    fitted, (remark,) = fit_host_mask(wide, FRAMES, H, W, "dynamic mask")
    assert bool(fitted[:, :, 0].all()) and remark.kind == RemarkKind.FRAMES
    for mask, match in (
        (torch.ones(T, H, W), "masked all over"),
        (one.expand(2, -1, -1), "2 frames"),
        (torch.eye(60)[None], "aspect"),
    ):
        with refuses(match):
            fit_host_mask(mask, FRAMES, H, W, "dynamic mask")


def test_a_given_mask_changes_the_fit_and_takes_the_place_of_a_files_own():
    """Moving things that are wrong in one depth are left out with their mask, and fitted without
    it. A file's own mask is replaced."""
    true = torch.linspace(1, 6, H)[None, :, None].expand(T, H, W).clone()
    metric_m, block = true.clone(), torch.zeros(T, H, W, dtype=torch.bool)
    block[:, 14:42, 20:60] = True
    metric_m[block] *= 1.5
    camera = CameraModel.pinhole(W, H, 60)
    elsewhere = torch.zeros_like(block)
    elsewhere[:, :4, :4] = True
    video = DepthSource(
        name="video",
        depth=DepthVideo(depth_m=0.5 * true, kind="relative z", exo=CameraPath.of_exo(camera)),
    )

    def fit(own: torch.Tensor | None, given: torch.Tensor | None):
        metric = DepthSource(
            name="file",
            depth=DepthVideo(depth_m=metric_m, dynamic=own, exo=CameraPath.of_exo(camera)),
        )
        return align_sources([metric, video], dynamic_mask=None if given is None else given.float())

    aligned, _, notes = fit(elsewhere, block)
    torch.testing.assert_close(aligned.depth_m, true, rtol=1e-3, atol=0)
    assert torch.equal(aligned.dynamic, block) and NO_MASK not in notes
    assert torch.equal(fit(block, None)[0].depth_m, aligned.depth_m)
    bent, _, notes = fit(None, None)
    assert bent.dynamic is None and NO_MASK in notes
    assert float((bent.depth_m / true - 1).abs().mean()) > 0.01


def test_preview_is_black_where_depth_is_invalid_and_steady_in_time():
    depth = torch.linspace(1, 9, W).expand(T, H, W).clone()
    depth[:, 0] = float("nan")
    picture, _ = depth_preview(depth)
    assert picture.shape == (T, H, W, 3) and not picture[:, 0].any()
    assert torch.equal(picture[0], picture[2]) and picture[0, 1, 2, 0] > picture[0, 1, -3, 0]
    nothing, legend = depth_preview(torch.full((1, 4, 4), float("nan")))
    assert legend is None and not nothing.any()
