"""Draw a set of points: project and splat them, fill gaps, and smooth outlines."""

import torch
import torch.nn.functional as F

from ..cameras import CameraPath
from ..sizes import REFERENCE_SIZE
from ..types import PointSet
from .options import PriorOptions
from .splat_points import ScreenPoints, SplatImage
from .splat_torch import splat_reaches, splat_torch

DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
SAME_SURFACE = 0.03
"""Relative depth within which the two sides of a gap count as one surface with what fills it."""
MARGIN_PX = 16.0
"""Points this far outside the picture can still reach into it with their patch."""
MIN_Z_M = 1e-3
"""Nearer to the plane through the lens, metres, points project to infinity."""
NEAR_M = 0.05
"""Nearer points (a hand on the lens) are left out, by their distance."""


def fill_gaps(tight: SplatImage, wide: SplatImage, size_px: int) -> SplatImage:
    """Fill the gaps of the picture ``tight`` from ``wide``, the same points with larger patches.

    A pixel is a gap if the wide picture has something there, nearer than what the tight one shows
    (the background through a crack) or where that shows nothing, and if the tight picture shows the
    same surface on two opposite sides within ``size_px``. Beyond an outline the surface is on one
    side only, so nothing grows. Filled pixels count as covered.

    Args:
        size_px: how far to look, px: half the widest gap that is filled; at least 1.
    """
    depth = tight.depth.nan_to_num(torch.inf, torch.inf)
    wide_depth = wide.depth
    open_mask = wide.coverage & (wide_depth < depth * (1 - SAME_SURFACE))
    gap_mask = torch.zeros_like(open_mask)
    if bool(open_mask.any()):
        nearest = wide_depth * (1 - 2 * SAME_SURFACE)
        farthest = wide_depth * (1 + SAME_SURFACE)
        padded = F.pad(depth, (size_px,) * 4, value=torch.inf)
        (height, width) = depth.shape
        for row_step, column_step in DIRECTIONS:
            side_masks = torch.zeros(2, height, width, dtype=torch.bool, device=depth.device)
            for side_mask, sign in zip(side_masks, (1, -1), strict=True):
                for step in range(sign, sign * (size_px + 1), sign):
                    top, left = size_px + step * row_step, size_px + step * column_step
                    shifted_depth = padded[top : top + height, left : left + width]
                    side_mask |= (shifted_depth >= nearest) & (shifted_depth <= farthest)
            gap_mask |= side_masks.all(0)
        gap_mask &= open_mask
    return SplatImage(
        rgb=torch.where(gap_mask[..., None], wide.rgb, tight.rgb),
        coverage=tight.coverage | gap_mask,
        depth=torch.where(gap_mask, wide.depth, tight.depth),
        back=torch.where(gap_mask, wide.back, tight.back),
        off=tight.off,
    )


def draw_points(
    points: PointSet,
    # The ego camera in one frame, in the points' world.
    ego: CameraPath,
    options: PriorOptions,
) -> SplatImage:
    """Draw the picture that a camera takes of the points, at its stored size.

    Depth is z or distance, as :attr:`SplatOptions.depth_is_z` says.
    """
    factor = options.supersample
    width, height = ego.camera.stored_size
    if factor > 1:
        ego = ego.resized(width * factor, height * factor)
    size = ego.camera.stored_size
    projected_points = project_visible_points(points, ego, options)
    if options.gap_reach:
        reaches = (options.splat.reach, options.gap_reach)
        tight_image, wide_image = splat_reaches(projected_points, *size, reaches)
        image = fill_gaps(
            tight_image, wide_image, max(1, round(options.gap_px * size[1] / REFERENCE_SIZE))
        )
    else:
        image = splat_torch(projected_points, *size, options.splat)
    return shrink(image, factor) if factor > 1 else image


def project_visible_points(
    points: PointSet,
    ego: CameraPath,
    options: PriorOptions,
) -> ScreenPoints:
    """Project the points that the camera can see, with their patches."""
    camera = ego.camera
    pose = ego.at(0).float().to(points.xyz.device)
    rotation = pose[:, :3]
    translation = pose[:, 3]
    xyz = points.xyz @ rotation.T + translation
    # By distance: at the edge of a fisheye the wearer's own shoulder has a z depth of centimetres.
    distance = xyz.norm(dim=-1)
    in_range = (
        (distance > NEAR_M * options.scene_scale)
        & (distance < options.far_m)
        & (xyz[:, 2] > MIN_Z_M)
    )
    in_range = in_range.nonzero()[:, 0]
    # In most poses half of the points are behind the camera: the lens is worked out without them.
    uv, valid = camera.project(xyz[in_range])
    visible = (valid & camera.inside(uv, MARGIN_PX)).nonzero()[:, 0]
    kept_points, uv = in_range[visible], uv[visible]
    xyz = xyz[kept_points]
    distance = distance[kept_points]
    rgb = points.rgb[kept_points].float() / 255
    if options.splat.depth_is_z:
        return ScreenPoints(
            uv=uv,
            depth=xyz[:, 2].contiguous(),
            rgb=rgb,
            axes=uv.new_zeros(len(uv), 2, 2),
            extent=uv.new_zeros(len(uv)),
        )
    steps = rotation @ points.steps[kept_points]
    axes = []
    extent = torch.zeros_like(distance)
    for axis in (0, 1):
        next_samples = xyz + steps[:, :, axis]
        axes.append(camera.project(next_samples)[0] - uv)
        extent = extent + (next_samples.norm(dim=-1) - distance).abs()
    return ScreenPoints(
        uv=uv, depth=distance, rgb=rgb, axes=torch.stack(axes, dim=-1), extent=extent
    )


def shrink(image: SplatImage, factor: int) -> SplatImage:
    """Shrink a picture by averaging blocks of ``factor`` x ``factor`` px, covered where half of a
    block is.

    Depth is the nearest of the block, for a mean across an outline would hang between two surfaces.
    """
    height, width = (side // factor for side in image.coverage.shape)
    block_shape = (height, factor, width, factor)
    count = image.coverage.view(block_shape).sum((1, 3))
    coverage = 2 * count >= factor * factor
    rgb = torch.where(image.coverage[..., None], image.rgb, 0.0).view(*block_shape, 3).sum((1, 3))
    rgb = torch.where(coverage[..., None], rgb / count.clamp_min(1)[..., None], 0.0)
    depth = image.depth.nan_to_num(torch.inf).view(block_shape).amin((1, 3))
    return SplatImage(
        rgb=rgb,
        coverage=coverage,
        depth=torch.where(coverage, depth, torch.nan),
        back=2 * image.back.view(block_shape).sum((1, 3)) > count,
        off=image.off[::factor, ::factor] / factor,
    )
