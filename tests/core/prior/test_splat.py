"""The splatter: equal to its plain twin, exact where the answer is known, refused where it makes no sense."""

from dataclasses import replace

import pytest
import torch

from egox_core.prior import splat_points
from egox_core.prior.drawing import fill_gaps
from egox_core.prior.splat_points import ScreenPoints, SplatOptions, blank
from egox_core.prior.splat_torch import splat_torch
from tests.twins.splat import splat_reference

COMPOSITE = SplatOptions(style="composite", radius_px=40.0)  # 5 px at a height of 56
SURFACE = SplatOptions(style="surface")


@pytest.fixture(autouse=True)
def _large_patches(monkeypatch) -> None:
    """Make patches 20 px large at a height of 56, as at the released size."""
    monkeypatch.setattr(splat_points, "MAX_SIZE_PX", 160.0)


@pytest.fixture
def splat(device):
    """Run the fast splatter on the device, with points and pictures on the CPU."""

    def moved(of, where):
        return type(of)(**{name: getattr(of, name).to(where) for name in of.__slots__})

    return lambda points, *how: moved(splat_torch(moved(points, device), *how), "cpu")


def points_on_two_planes(count: int = 3000) -> ScreenPoints:
    """Draw points of a near patch on the left and a slanted plane behind, with patches of many
    shapes."""
    generator = torch.Generator().manual_seed(3)
    uv = torch.rand(count, 2, generator=generator) * torch.tensor([84.0, 76.0]) - 10
    near = uv[:, 0] < 24
    depth = torch.where(near, torch.full((count,), 1.5), 3 + 0.02 * uv[:, 1])
    axes = torch.randn(count, 2, 2, generator=generator) * 1.5
    return ScreenPoints(
        uv=uv,
        depth=depth + 0.001 * torch.rand(count, generator=generator),
        rgb=torch.rand(count, 3, generator=generator),
        axes=axes,
        extent=torch.full((count,), 0.02),
    )


def one_point(u: float, v: float, depth: float = 2.0, size: float = 4.0) -> ScreenPoints:
    return ScreenPoints(
        uv=torch.tensor([[float(u), float(v)]]),
        depth=torch.tensor([depth]),
        rgb=torch.tensor([[1.0, 0.5, 0.25]]),
        axes=size * torch.eye(2)[None],
        extent=torch.zeros(1),
    )


def join(*parts: ScreenPoints) -> ScreenPoints:
    return ScreenPoints(
        **{name: torch.cat([getattr(p, name) for p in parts]) for name in ScreenPoints.__slots__}
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
def test_torch_equals_reference(options, count, splat):
    points = points_on_two_planes(count)
    fast, plain = (
        splat(points, 64, 56, options),
        splat_reference(points, 64, 56, options),
    )
    # Both decide by the same float32 comparisons; a pixel exactly on a rim may fall either way by one rounding.
    assert float(((fast.rgb - plain.rgb).abs().amax(-1) > 2 / 255).float().mean()) <= 0.005
    both, any_ = (fast.coverage & plain.coverage).sum(), (fast.coverage | plain.coverage).sum()
    assert both / any_ >= 0.999
    agree = fast.coverage & plain.coverage
    assert torch.allclose(fast.depth[agree], plain.depth[agree], atol=1e-3)
    # Which side most of the samples show, and which of two discs is nearer, may hang on a rounding.
    assert float((fast.back == plain.back)[agree].float().mean()) >= 0.999
    assert float(((fast.off - plain.off).abs() < 1e-3)[agree].float().mean()) >= 0.999
    assert torch.equal(torch.isnan(fast.depth), ~fast.coverage)
    assert not fast.rgb[~fast.coverage].any()


@pytest.mark.parametrize(
    ("options", "limit", "most"), [(SURFACE, "PAIRS_AT_ONCE", 500), (COMPOSITE, "BAND_ROWS", 13)]
)
def test_what_does_not_fit_at_once_gives_the_same_picture(options, limit, most, monkeypatch, splat):
    points = points_on_two_planes()
    at_once = splat(points, 64, 56, options)
    monkeypatch.setattr(f"egox_core.prior.splat_torch.{limit}", most)
    parts = splat(points, 64, 56, options)
    assert torch.equal(at_once.coverage, parts.coverage)
    assert torch.allclose(at_once.rgb, parts.rgb, atol=1e-5)  # sums in another order


def test_a_patch_covers_exactly_its_pixels(splat):
    image = splat(one_point(10, 20, size=4.0), 64, 56, replace(SURFACE, reach=0.5))
    assert image.coverage[18:23, 8:13].all() and image.coverage.sum() == 25
    assert torch.allclose(image.rgb[20, 10], torch.tensor([1.0, 0.5, 0.25]), atol=1e-6)
    assert float(image.depth[20, 10]) == pytest.approx(2.0)


def test_a_disc_fades_to_its_rim(splat):
    image = splat(one_point(30, 28), 64, 56, COMPOSITE)
    assert torch.allclose(
        image.rgb[28, 33], (1 - 9 / 25) * torch.tensor([1.0, 0.5, 0.25]), atol=1e-6
    )
    assert bool(image.coverage[28, 34]) and not bool(image.coverage[28, 35])


@pytest.mark.parametrize("options", [COMPOSITE, SURFACE])
def test_the_nearer_point_wins(options, splat):
    far = replace(one_point(30, 28, depth=5.0), rgb=torch.tensor([[0.0, 0.0, 1.0]]))
    image = splat(join(far, one_point(30, 28, depth=1.0)), 64, 56, options)
    assert torch.allclose(image.rgb[28, 30], torch.tensor([1.0, 0.5, 0.25]), atol=1e-6)
    assert float(image.depth[28, 30]) == pytest.approx(1.0)


def test_a_dense_surface_has_no_holes_and_a_sparse_one_keeps_them(splat):
    for spacing, holes in ((0.4, False), (1.0, False), (3.7, False), (40.0, True)):
        steps = torch.arange(-5.0, 75.0, spacing)
        count = len(steps) ** 2
        grid = ScreenPoints(
            uv=torch.cartesian_prod(steps, steps),
            depth=torch.ones(count),
            rgb=torch.ones(count, 3),
            axes=spacing * torch.eye(2).expand(count, 2, 2),
            extent=torch.zeros(count),
        )
        image = splat(grid, 64, 56, SURFACE)
        assert image.coverage.all() != holes, spacing


def test_no_points_give_black():
    nothing = ScreenPoints(
        **{name: getattr(one_point(0, 0), name)[:0] for name in ScreenPoints.__slots__}
    )
    for draw in (splat_torch, splat_reference):
        image = draw(nothing, 8, 6, COMPOSITE)
        assert image.rgb.shape == (6, 8, 3)
        assert not image.coverage.any() and image.depth.isnan().all()


def test_gaps_close_but_outlines_do_not_grow():
    depth = torch.full((20, 20), 4.0)
    depth[5:15, 5:15] = 2.0
    depth[:, 10] = 4.0  # a crack of one column
    everywhere = torch.ones(20, 20, dtype=torch.bool)
    tight = replace(
        blank(20, 20), rgb=depth[..., None].expand(-1, -1, 3) / 4, coverage=everywhere, depth=depth
    )
    grown = torch.full((20, 20), 4.0)
    grown[3:17, 3:17] = 2.0
    wide = replace(tight, rgb=grown[..., None].expand(-1, -1, 3) / 4, depth=grown, back=everywhere)
    filled = fill_gaps(tight, wide, 2)
    expected = torch.full((20, 20), 4.0)
    expected[5:15, 5:15] = 2.0
    assert torch.equal(filled.depth, expected)
    assert torch.equal(filled.rgb[..., 0], expected / 4)
    assert torch.equal(filled.back, depth != expected)


def test_pixels_of_large_pictures_are_counted_exactly():
    """Beyond 2^24 pixels, where float32 knows even numbers only."""
    from egox_core.prior.splat_torch import _point_pixel_pairs

    (_, pixel, away, _), *_ = _point_pixel_pairs(one_point(5001, 5000, size=0.5), 6000, 6000)
    assert 5000 * 6000 + 5001 in pixel[away < 0.5].tolist() and (pixel % 2 == 1).any()
