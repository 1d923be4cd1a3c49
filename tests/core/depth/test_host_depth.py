"""Test the conversion of depth payloads, built as ComfyUI's nodes build them, into depth videos."""

import math

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.depth.da3 import confidence_trust, da3_depth
from egox_core.depth.moge import moge_depth
from egox_core.depth.resample import fit_host_mask, mask_share
from egox_core.depth.roles import NO_MASK, align_sources
from egox_core.depth.sources import (
    DepthSource,
    guessed_camera,
    image_depth,
)
from egox_core.frames import Frames
from egox_core.page.maps import depth_preview
from egox_core.remarks import RemarkKind
from egox_core.types import DepthVideo
from tests.refusals import refuses

WIDTH, HEIGHT, FRAME_COUNT = 84, 56, 3


def moge_payload(has_normals: bool = True, hidden_depth: float = math.inf) -> dict:
    depth = torch.rand(FRAME_COUNT, HEIGHT, WIDTH) * 4 + 1
    mask = torch.ones(FRAME_COUNT, HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, :10] = False
    depth[~mask] = hidden_depth
    intrinsics = (
        torch.tensor([[1.2, 0, 0.5], [0, 1.8, 0.5], [0, 0, 1]]).expand(FRAME_COUNT, 3, 3).clone()
    )
    payload = {
        "depth": depth,
        "mask": mask,
        "intrinsics": intrinsics,
        "image": torch.rand(FRAME_COUNT, HEIGHT, WIDTH, 3),
    }
    if has_normals:
        payload["normal"] = torch.rand(FRAME_COUNT, HEIGHT, WIDTH, 3)
    return payload


@pytest.mark.parametrize("hidden_depth", [math.inf, 2.0])  # 2.0: apply_mask off
def test_moge_payload_gives_metric_depth_camera_and_sky(hidden_depth):
    payload = moge_payload(hidden_depth=hidden_depth)
    depth_source = moge_depth(payload)
    depth = depth_source.depth
    camera = depth_source.depth.exo.camera
    assert (camera.fx, camera.cx) == pytest.approx((1.2 * WIDTH, (WIDTH - 1) / 2))
    assert depth.kind == "metric z"
    assert not depth_source.depth.exo.lens_guessed
    assert torch.isnan(depth.depth_m[:, :10]).all()
    assert torch.isfinite(depth.depth_m[:, 10:]).all()
    assert torch.equal(depth.sky, ~payload["mask"])
    assert (payload["depth"][:, :10] == hidden_depth).all(), (
        "the host's payload must not be changed"
    )


def test_moge_v1_payload_has_no_scale():
    depth_source = moge_depth(moge_payload(has_normals=False))
    assert depth_source.depth.kind == "relative z" and "MoGe v1" in str(depth_source.notes)


def test_disagreeing_moge_focal_lengths_are_remarked():
    payload = moge_payload()
    payload["intrinsics"][:, 0, 0] = torch.tensor([0.8, 1.2, 1.6])
    depth_source = moge_depth(payload)
    assert depth_source.depth.exo.camera.fx == pytest.approx(1.2 * WIDTH)
    assert "differ" in str(depth_source.notes)


def test_invalid_moge_payloads_are_refused():
    panorama_payload = {
        k: v for k, v in moge_payload().items() if k not in ("intrinsics", "normal")
    }
    with refuses("panorama"):
        moge_depth(panorama_payload)
    for read_payload in (moge_depth, da3_depth):
        with refuses("keys"):
            read_payload({"points": torch.zeros(1, 2, 2, 3), "mode": "mono"})
    masked_payload = moge_payload()
    masked_payload["mask"][1] = False
    with refuses("frame 1"):
        moge_depth(masked_payload)


def da3_payload(mode: str = "multiview") -> dict:
    payload = {
        "depth": torch.rand(FRAME_COUNT, HEIGHT, WIDTH) + 0.5,
        "image": torch.rand(FRAME_COUNT, HEIGHT, WIDTH, 3),
        "mode": mode,
        "confidence": 1 + torch.rand(FRAME_COUNT, HEIGHT, WIDTH),
    }
    if mode == "multiview":
        intrinsics = torch.tensor([[40.0, 0, 21], [0, 41, 14], [0, 0, 1]])
        payload["intrinsics"] = intrinsics.repeat(1, FRAME_COUNT, 1, 1)
    return payload


def test_da3_multiview_intrinsics_are_scaled_from_the_models_picture_to_the_depth():
    depth_source = da3_depth(da3_payload())
    camera = depth_source.depth.exo.camera
    assert (camera.fx, camera.fy) == pytest.approx((80.0, 82.0))
    assert (camera.cx, camera.cy) == pytest.approx(((WIDTH - 1) / 2, (HEIGHT - 1) / 2))
    assert (
        depth_source.depth.kind == "relative z"
        and not depth_source.depth.exo.lens_guessed
        and depth_source.depth.exo.pose is None
    )
    assert 0 <= float(depth_source.depth.trust.min()) <= float(depth_source.depth.trust.max()) == 1


def test_da3_identity_intrinsics_mean_that_none_were_estimated():
    payload = da3_payload()
    payload["intrinsics"] = torch.eye(3)[None, None].expand(1, FRAME_COUNT, 3, 3)
    depth_source = da3_depth(payload)
    assert depth_source.depth.exo.lens_guessed and depth_source.depth.exo.camera == guessed_camera(
        WIDTH, HEIGHT
    )


def test_da3_mono_depth_is_remarked_as_scaled_per_frame():
    depth_source = da3_depth(da3_payload("mono"))
    assert depth_source.depth.kind == "relative z" and "mono mode" in str(depth_source.notes)


def test_da3_with_a_sky_is_of_unknown_scale():
    sky_mask = torch.zeros(FRAME_COUNT, HEIGHT, WIDTH)
    sky_mask[:, :5] = 0.9
    payload = {
        "depth": torch.full((FRAME_COUNT, HEIGHT, WIDTH), 2.0),
        "mode": "mono",
        "sky": sky_mask,
    }
    depth = da3_depth(payload).depth
    assert depth.kind == "relative z"
    assert depth.sky[:, :5].all()
    assert not depth.sky[:, 5:].any()


def test_confidence_of_one_gives_zero_trust():
    confidence = torch.ones(1, 16, 16)
    confidence[:, :, 2:] = 3.0
    trust = confidence_trust(confidence)
    assert float(trust[0, 0, 0]) == 0
    assert float(trust[0, 0, 7]) == 1


def test_grey_images_are_read_as_disparity():
    grey_images = (
        torch.linspace(0, 1, WIDTH)
        .expand(FRAME_COUNT, HEIGHT, WIDTH)[..., None]
        .expand(FRAME_COUNT, HEIGHT, WIDTH, 3)
    )
    depth = image_depth(grey_images).depth
    assert depth.kind == "disparity"
    torch.testing.assert_close(depth.depth_m, grey_images[..., 0])
    with refuses("colour"):
        image_depth(torch.rand(FRAME_COUNT, HEIGHT, WIDTH, 3))
    with refuses("flat"):
        image_depth(torch.full((FRAME_COUNT, HEIGHT, WIDTH, 3), 0.5))


FRAMES = Frames.of_count(FRAME_COUNT)


def test_masks_are_resized_and_checked():
    assert fit_host_mask(torch.zeros(1, 64, 64), FRAMES, HEIGHT, WIDTH, "sky mask") == (None, ())
    single_mask = torch.zeros(1, 2 * HEIGHT, 2 * WIDTH)
    single_mask[:, :HEIGHT] = 1
    fitted_mask, _ = fit_host_mask(single_mask, FRAMES, HEIGHT, WIDTH, "sky mask")
    assert (
        fitted_mask.shape == (FRAME_COUNT, HEIGHT, WIDTH)
        and bool(fitted_mask[:, : HEIGHT // 2].all())
        and not bool(fitted_mask[:, HEIGHT // 2 + 1 :].any())
    )
    assert mask_share(fitted_mask) == pytest.approx(0.5, abs=0.02)
    assert mask_share(None) == 0
    wide_masks = torch.zeros(FRAME_COUNT, HEIGHT, WIDTH + 12)
    wide_masks[:, :, 6] = 1
    fitted_mask, (remark,) = fit_host_mask(wide_masks, FRAMES, HEIGHT, WIDTH, "dynamic mask")
    assert bool(fitted_mask[:, :, 0].all())
    assert remark.kind == RemarkKind.FRAMES
    for mask, message_pattern in (
        (torch.ones(FRAME_COUNT, HEIGHT, WIDTH), "masked all over"),
        (single_mask.expand(2, -1, -1), "2 frames"),
        (torch.eye(60)[None], "aspect"),
    ):
        with refuses(message_pattern):
            fit_host_mask(mask, FRAMES, HEIGHT, WIDTH, "dynamic mask")


def test_given_dynamic_mask_replaces_a_files_mask_in_the_fit():
    """Check that a given mask of moving objects, not the file's mask, decides which depth is
    fitted."""
    true_depth = (
        torch.linspace(1, 6, HEIGHT)[None, :, None].expand(FRAME_COUNT, HEIGHT, WIDTH).clone()
    )
    metric_depth_m = true_depth.clone()
    block_mask = torch.zeros(FRAME_COUNT, HEIGHT, WIDTH, dtype=torch.bool)
    block_mask[:, 14:42, 20:60] = True
    metric_depth_m[block_mask] *= 1.5
    exo = CameraPath.of_exo(CameraModel.pinhole(WIDTH, HEIGHT, 60))
    other_mask = torch.zeros_like(block_mask)
    other_mask[:, :4, :4] = True
    video_depth = DepthVideo(depth_m=0.5 * true_depth, kind="relative z", exo=exo)

    def fit(file_mask: torch.Tensor | None, given_mask: torch.Tensor | None):
        metric_depth = DepthVideo(depth_m=metric_depth_m, dynamic=file_mask, exo=exo)
        sources = [
            DepthSource(name=depth.kind, depth=depth) for depth in (metric_depth, video_depth)
        ]
        return align_sources(sources, frames=metric_depth.frames, dynamic_mask=given_mask)

    aligned_depth, _, notes = fit(other_mask, block_mask)
    torch.testing.assert_close(aligned_depth.depth_m, true_depth, rtol=1e-3, atol=0)
    assert torch.equal(aligned_depth.dynamic, block_mask)
    assert NO_MASK not in notes
    assert torch.equal(fit(block_mask, None)[0].depth_m, aligned_depth.depth_m)
    unmasked_depth, _, notes = fit(None, None)
    assert unmasked_depth.dynamic is None
    assert NO_MASK in notes
    assert float((unmasked_depth.depth_m / true_depth - 1).abs().mean()) > 0.01


def test_depth_preview_is_black_for_invalid_depth_and_constant_in_time():
    depth = torch.linspace(1, 9, WIDTH).expand(FRAME_COUNT, HEIGHT, WIDTH).clone()
    depth[:, 0] = float("nan")
    picture, _ = depth_preview(depth)
    assert picture.shape == (FRAME_COUNT, HEIGHT, WIDTH, 3)
    assert not picture[:, 0].any()
    assert torch.equal(picture[0], picture[2])
    assert picture[0, 1, 2, 0] > picture[0, 1, -3, 0]
    empty_picture, legend = depth_preview(torch.full((1, 4, 4), float("nan")))
    assert legend is None
    assert not empty_picture.any()
