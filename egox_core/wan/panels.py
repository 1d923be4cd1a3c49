"""Several exo views in the exo half of a canvas: where each lies, its tokens' positions, the views' joined geometry.

In the style of Exo2EgoSyn's conditioning on several views; the paper gives no code. Which view is which is told by the
rays of its tokens alone (:mod:`.token_rays`), never by its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import EgoXInputError
from ..gga.geometry import pool_tokens
from ..types import MOSAIC_VIEWS, GgaGeometry, Panels

TILE_STEP, TILE_START = 2.0, 0.5
"""A tile's patch covers two by two of the whole panel's, and its position is their middle."""


def panel_width(panels: Panels, h: int, w_exo: int) -> int:
    """Columns of one panel of an exo half of h x w_exo tokens.

    Raises:
        EgoXInputError: an exo half that isn't so many panels, or panels that aren't 2 x 2 tiles.
    """
    width, left_over = divmod(w_exo, panels.count)
    if left_over or (panels.layout == "mosaic" and (h % 2 or width % 2)):
        raise EgoXInputError("exo half of the canvas", got=f"{h}x{w_exo} tokens",
                             expected=f"{panels.count} panels of one width"
                             + (", of even height and width" if panels.layout == "mosaic" else ""),
                             fix="place the views with place_views; in a mosaic sides are multiples of 32 px")
    return width


def place_views(
    views: Sequence[Tensor],  # one [..., h, w] each, all of one size; in a mosaic half the panel's
    panels: Panels,
    blank: Tensor | None = None,  # [..., h, w] for the tiles of a mosaic that no view fills
) -> Tensor:  # [..., h, w_exo]
    """The exo half: latents, masks or maps of all views, in their order.

    Raises:
        EgoXInputError: other views than the panels hold, views of several sizes, an unfilled tile without ``blank``.
    """
    if len(views) != panels.views or len({view.shape for view in views}) > 1:
        raise EgoXInputError("exo views", got=f"{[tuple(view.shape) for view in views]}",
                             expected=f"{panels.views} of one size", fix="load the same frames and size of each view")
    if panels.layout == "full":
        return torch.cat(list(views), dim=-1)
    empty = panels.count * MOSAIC_VIEWS - len(views)
    if empty and blank is None:
        raise EgoXInputError("tiles of the mosaic", got=f"{empty} without a view", expected="something to fill them",
                             fix="give the latent of a grey video of a tile's size as blank")
    tiles = [*views, *[blank] * empty]
    rows = [torch.cat(tiles[first:first + 2], dim=-1) for first in range(0, len(tiles), 2)]
    return torch.cat([torch.cat((above, below), dim=-2) for above, below in zip(rows[::2], rows[1::2], strict=True)],
                     dim=-1)


def token_positions(panels: Panels, h: int, w_exo: int, w_ego: int) -> Tensor:  # [h, w_exo + w_ego, 2] float64
    """Row and column of every token of a frame; all panels have the same ones, the ego half the columns after a
    panel's. Sizes in tokens.

    Raises:
        EgoXInputError: see :func:`panel_width`.
    """
    width = panel_width(panels, h, w_exo)
    row, column = torch.meshgrid(torch.arange(h).double(), torch.arange(width + w_ego).double(), indexing="ij")
    panel, ego = torch.stack((row, column), dim=-1).split((width, w_ego), dim=1)
    if panels.layout == "mosaic":
        panel = (TILE_START + TILE_STEP * panel[: h // 2, : width // 2]).repeat(2, 2, 1)
    return torch.cat((panel.repeat(1, panels.count, 1), ego), dim=1)


def join_geometries(geometries: Sequence[GgaGeometry], panels: Panels) -> GgaGeometry:
    """The geometry of a canvas of several views, from each view's own with the same ego path at a whole panel's size.

    Raises:
        EgoXInputError: other views than the panels hold, or of several sizes.
    """
    first = geometries[0]
    if panels == Panels():
        return first
    t, h, w_view, w_ego = first.grid
    if len({geometry.grid for geometry in geometries}) > 1:
        raise EgoXInputError("geometry of the views", got=f"{[geometry.grid for geometry in geometries]}",
                             expected="one size", fix="make each view's at the size of a whole panel")
    keys, trusts = [], []
    for geometry in geometries:
        trust = geometry.key_trust.view(t, h, -1)[..., :w_view]
        of_frames = [frame[..., :w_view, :] for frame in geometry.key_dirs.view(t, t, h, -1, 3)]
        if panels.layout == "mosaic":
            pooled = [pool_tokens(frame, trust) for frame in of_frames]
            of_frames, trust = [directions for directions, _ in pooled], pooled[0][1]
        keys.append(torch.stack(of_frames).movedim(-1, 0))
        trusts.append(trust)
    key_dirs = place_views(keys, panels, torch.zeros_like(keys[0])).movedim(0, -1)
    key_trust = place_views(trusts, panels, torch.zeros_like(trusts[0]))
    return replace(first, key_dirs=pad(key_dirs, (0, 0, 0, w_ego)).flatten(1, 3),
                   key_trust=pad(key_trust, (0, w_ego)).flatten(), grid=(t, h, key_trust.shape[-1], w_ego))
