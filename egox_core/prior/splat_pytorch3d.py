"""PyTorch3D's point rasteriser and alpha compositor, with the settings of the released renderer.

Points are projected before: the rasteriser gets pixel positions as normalised coordinates, and z, so that any lens can
be drawn and not only the cameras that it knows.
"""

from __future__ import annotations

import torch

from ..errors import EgoXInputError
from ..sizes import REFERENCE_SIZE
from .splat_points import ScreenPoints, SplatImage, SplatOptions, blank


def splat_pytorch3d(
    points: ScreenPoints, width: int, height: int, options: SplatOptions
) -> SplatImage:
    """See :func:`splatter.splat`.

    Raises:
        EgoXInputError: style surface, which PyTorch3D lacks; its extension doesn't load.
    """
    if options.style != "composite":
        raise EgoXInputError(
            "splat backend pytorch3d",
            got="style surface",
            expected="style composite",
            fix="choose preset released, or backend torch",
        )
    try:
        from pytorch3d.renderer.compositing import alpha_composite
        from pytorch3d.renderer.points.rasterize_points import rasterize_points
        from pytorch3d.structures import Pointclouds
    except ImportError as error:
        raise EgoXInputError(
            "splat backend pytorch3d",
            got=f"a package that doesn't load ({error})",
            expected="one built for this torch",
            fix="choose backend torch, or install the easypytorch3d that fits your torch",
        ) from error
    if len(points) == 0:
        return blank(width, height, points.uv.device)
    # Its axes point left and up; the shorter side of the picture spans -1 ... 1, outline to outline.
    short = min(width, height)
    x = (width - 1 - 2 * points.uv[:, 0]) / short
    y = (height - 1 - 2 * points.uv[:, 1]) / short
    cloud = Pointclouds([torch.stack((x, y, points.depth), dim=-1)])
    radius = 2 * options.radius_px * height / REFERENCE_SIZE / short
    # bin_size 0: the plain algorithm, the only one on the CPU.
    index, depth, squared = rasterize_points(
        cloud,
        image_size=(height, width),
        radius=radius,
        points_per_pixel=options.points_per_pixel,
        bin_size=0 if points.uv.device.type == "cpu" else None,
    )
    alpha = 1 - squared / (radius * radius)
    rgb = alpha_composite(index.permute(0, 3, 1, 2).long(), alpha.permute(0, 3, 1, 2), points.rgb.T)
    coverage = index[0, ..., 0] >= 0
    return SplatImage(
        rgb=torch.where(coverage[..., None], rgb[0].permute(1, 2, 0), 0.0).clamp(0, 1),
        coverage=coverage,
        depth=torch.where(coverage, depth[0, ..., 0], float("nan")),
    )
