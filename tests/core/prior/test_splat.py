"""Test the point splatter: the plain form, known pictures, gaps, and large pictures."""

from dataclasses import replace

import pytest
import torch

from egox_core.prior import splat_points
from egox_core.prior.drawing import fill_gaps
from egox_core.prior.splat_points import ScreenPoints, SplatOptions, empty_image
from egox_core.prior.splat_torch import splat_torch
from tests.twins.splat import splat_reference

COMPOSITE = SplatOptions(style="composite", radius_px=40.0)  # 5 px at a height of 56
SURFACE = SplatOptions(style="surface")


@pytest.fixture(autouse=True)
def _large_patches(monkeypatch) -> None:
    """Make drawn points 20 px large in pictures 56 px high, as large as at the released size."""
    monkeypatch.setattr(splat_points, "MAX_SIZE_PX", 160.0)


@pytest.fixture
def splat(device):
    """Provide the fast point splatter on the test device, with inputs and pictures on the CPU."""

    def copy_to(value, device_name):
        return type(value)(
            **{name: getattr(value, name).to(device_name) for name in value.__slots__}
        )

    return lambda points, *how: copy_to(splat_torch(copy_to(points, device), *how), "cpu")


def points_on_two_planes(count: int = 3000) -> ScreenPoints:
    """Draw the points of a slanted plane and of a nearer patch on its left."""
    generator = torch.Generator().manual_seed(3)
    uv = torch.rand(count, 2, generator=generator) * torch.tensor([84.0, 76.0]) - 10
    near_mask = uv[:, 0] < 24
    depth = torch.where(near_mask, torch.full((count,), 1.5), 3 + 0.02 * uv[:, 1])
    patch_axes = torch.randn(count, 2, 2, generator=generator) * 1.5
    return ScreenPoints(
        uv=uv,
        depth=depth + 0.001 * torch.rand(count, generator=generator),
        rgb=torch.rand(count, 3, generator=generator),
        axes=patch_axes,
        extent=torch.full((count,), 0.02),
    )


@pytest.mark.parametrize(
    "options",
    [
        COMPOSITE,
        replace(COMPOSITE, points_per_pixel=3),
        SURFACE,
        replace(SURFACE, reach=0.9),
    ],
)
@pytest.mark.parametrize("count", [40, 3000])
def test_fast_splatter_equals_the_plain_implementation(options, count, splat):
    points = points_on_two_planes(count)
    fast_image, plain_image = (
        splat(points, 64, 56, options),
        splat_reference(points, 64, 56, options),
    )
    # Both decide by the same float32 comparisons; a pixel exactly on a rim may fall either way by
    # one rounding.
    assert (
        float(((fast_image.rgb - plain_image.rgb).abs().amax(-1) > 2 / 255).float().mean()) <= 0.005
    )
    common_pixels, all_pixels = (
        (fast_image.coverage & plain_image.coverage).sum(),
        (fast_image.coverage | plain_image.coverage).sum(),
    )
    assert common_pixels / all_pixels >= 0.999
    common_mask = fast_image.coverage & plain_image.coverage
    assert torch.allclose(fast_image.depth[common_mask], plain_image.depth[common_mask], atol=1e-3)
    # Which side most of the samples show, and which of two discs is nearer, may hang on a rounding.
    assert float((fast_image.back == plain_image.back)[common_mask].float().mean()) >= 0.999
    assert (
        float(((fast_image.off - plain_image.off).abs() < 1e-3)[common_mask].float().mean())
        >= 0.999
    )
    assert torch.equal(torch.isnan(fast_image.depth), ~fast_image.coverage)
    assert not fast_image.rgb[~fast_image.coverage].any()


def test_gaps_are_filled_without_growing_outlines():
    depth = torch.full((20, 20), 4.0)
    depth[5:15, 5:15] = 2.0
    depth[:, 10] = 4.0  # a crack of one column
    full_mask = torch.ones(20, 20, dtype=torch.bool)
    narrow_image = replace(
        empty_image(20, 20),
        rgb=depth[..., None].expand(-1, -1, 3) / 4,
        coverage=full_mask,
        depth=depth,
    )
    wide_depth = torch.full((20, 20), 4.0)
    wide_depth[3:17, 3:17] = 2.0
    wide_image = replace(
        narrow_image,
        rgb=wide_depth[..., None].expand(-1, -1, 3) / 4,
        depth=wide_depth,
        back=full_mask,
    )
    filled_image = fill_gaps(narrow_image, wide_image, 2)
    expected_depth = torch.full((20, 20), 4.0)
    expected_depth[5:15, 5:15] = 2.0
    assert torch.equal(filled_image.depth, expected_depth)
    assert torch.equal(filled_image.rgb[..., 0], expected_depth / 4)
    assert torch.equal(filled_image.back, depth != expected_depth)
