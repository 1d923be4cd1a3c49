"""Panels of several exo views: where they lie, which positions their tokens have."""

from __future__ import annotations

import pytest
import torch

from egox_core.errors import EgoXInputError
from egox_core.gga.geometry import tokens_from_latents
from egox_core.types import Panels
from egox_core.wan.panels import join_geometries, panel_width, place_views, token_positions

FOUR, MOSAIC = Panels(views=4), Panels(views=4, layout="mosaic")


def test_one_view_has_the_positions_of_the_plain_canvas() -> None:
    row, column = torch.meshgrid(torch.arange(4), torch.arange(11), indexing="ij")
    assert torch.equal(token_positions(Panels(), 4, 7, 4), torch.stack((row, column), dim=-1).double())
    assert Panels().count == 1


def test_all_panels_have_the_same_positions_and_ego_stands_beside_them() -> None:
    one, four = token_positions(Panels(), 4, 7, 4), token_positions(FOUR, 4, 28, 4)
    for panel in four[:, :28].split(7, dim=1):
        assert torch.equal(panel, one[:, :7])
    assert torch.equal(four[:, 28:], one[:, 7:])


@pytest.mark.parametrize("views", [3, 4, 6])
def test_a_mosaics_tile_spans_a_whole_panel(views: int) -> None:
    """A patch of a tile lies in the middle of the four of the whole panel that it stands for."""
    panels = Panels(views=views, layout="mosaic")
    whole = token_positions(Panels(), 4, 6, 4)
    places = token_positions(panels, 4, 6 * panels.count, 4)
    middles = whole[:, :6].unflatten(0, (2, 2)).unflatten(2, (3, 2)).mean((1, 3))
    for panel in places[:, :-4].split(6, dim=1):
        for tile in (panel[:2, :3], panel[:2, 3:], panel[2:, :3], panel[2:, 3:]):
            assert torch.equal(tile, middles)
    assert torch.equal(places[:, -4:], whole[:, 6:])
    order = place_views([torch.full((2, 3), float(view)) for view in range(views)], panels, torch.full((2, 3), -1.0))
    assert order.shape == (4, 6 * panels.count) and order[[0, 0, 2, 2], [0, 3, 0, 3]].tolist()[:3] == [0, 1, 2]
    assert int((order == -1).sum()) == 6 * (4 * panels.count - views)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(EgoXInputError, match="3 or more"):
        Panels(views=2, layout="mosaic")
    with pytest.raises(EgoXInputError, match="panel layout"):
        Panels(views=2, layout="heap")
    for panels, h, w_exo in ((FOUR, 4, 27), (MOSAIC, 4, 7), (MOSAIC, 3, 6)):
        with pytest.raises(EgoXInputError, match="exo half"):
            panel_width(panels, h, w_exo)
    views = [torch.zeros(2, 3)] * 3
    with pytest.raises(EgoXInputError, match="4 of one size"):
        place_views(views, FOUR)
    with pytest.raises(EgoXInputError, match="1 without a view"):
        place_views(views, Panels(views=3, layout="mosaic"))


def test_each_views_directions_lie_where_its_tokens_do() -> None:
    generator = torch.Generator().manual_seed(0)
    t, h, w_exo, w_ego = 2, 4, 6, 4
    rays = torch.nn.functional.normalize(torch.randn(t, 2 * h, 2 * w_ego, 3, generator=generator), dim=-1)
    geometries = []
    for _ in range(4):
        points = torch.nn.functional.normalize(torch.randn(t, t, 2 * h, 2 * w_exo, 3, generator=generator), dim=-1)
        trust = (torch.rand(t, 2 * h, 2 * w_exo, generator=generator) > 0.3).float()
        geometries.append(tokens_from_latents(points * trust[..., None], rays, trust))
    assert join_geometries(geometries[:1], Panels()) is geometries[0]
    full = join_geometries(geometries, FOUR)
    assert full.grid == (t, h, 4 * w_exo, w_ego) and full.tokens == len(full.key_trust)
    keys = full.key_dirs.view(t, t, h, 4 * w_exo + w_ego, 3)
    for view, geometry in enumerate(geometries):
        own = geometry.key_dirs.view(t, t, h, w_exo + w_ego, 3)[..., :w_exo, :]
        assert torch.equal(keys[..., view * w_exo:(view + 1) * w_exo, :], own)
    assert not keys[..., 4 * w_exo:, :].any() and torch.equal(full.query_dirs, geometries[0].query_dirs)
    mosaic = join_geometries(geometries, MOSAIC)
    assert mosaic.grid == (t, h, w_exo, w_ego)
    tile = mosaic.key_dirs.view(t, t, h, w_exo + w_ego, 3)[1, 0, 2:4, 0:3]  # of the third view
    own = geometries[2].key_dirs.view(t, t, h, w_exo + w_ego, 3)[1, 0, :, :w_exo]
    trust = geometries[2].key_trust.view(t, h, w_exo + w_ego)[0, :, :w_exo]
    known = (trust[:2, :2] > 0)[..., None]
    assert torch.allclose(tile[0, 0], (own[:2, :2] * known).sum((0, 1)) / known.sum())
    shares = mosaic.key_trust.view(t, h, w_exo + w_ego)
    assert float(shares[0, 2, 0]) == pytest.approx(float(trust[:2, :2].mean()))
    with pytest.raises(EgoXInputError, match="one size"):
        join_geometries([full, geometries[0]], Panels(views=2))
