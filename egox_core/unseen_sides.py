"""What the ego camera would see of objects but exo does not: their backs. Nothing is drawn through them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from .poses import camera_centre
from .scene_points import join, select
from .splat import SplatImage
from .types import PointSet

FACING_AWAY = -0.1
"""Cosine of normal and viewing ray below which a patch is seen from behind; near 0 the depth's noise decides."""
MAX_SPREAD = 5e-4
"""Relative depth noise above which normals are too rough to tell a front from a back."""
MARGIN = 0.02
"""Relative depth by which an unseen side must lie in front of a drawn surface to hide it."""


def split_sides(points: PointSet, ego_from_frame: Tensor) -> tuple[PointSet, PointSet]:
    """(points that the ego camera sees from the side that exo saw; sides that exo did not see).

    The latter are supposed backs of objects, and patches that the ego camera sees from behind.

    Args:
        ego_from_frame: [3, 4] float64, from the points' frame to the ego camera's.
    """
    sure = points.spread < MAX_SPREAD
    supposed = select(points, (points.back != 0).any(-1) & sure)
    supposed = replace(supposed, xyz=supposed.xyz + supposed.back)
    view = points.xyz - camera_centre(ego_from_frame).float()
    # Rightwards x downwards points away from the exo camera; where exo and ego see one side, from the ego camera too.
    normal = torch.linalg.cross(points.steps[..., 0], points.steps[..., 1])
    facing = (normal * view).sum(-1) / (normal.norm(dim=-1) * view.norm(dim=-1)).clamp_min(1e-12)
    away = (facing < FACING_AWAY) & sure
    return select(points, ~away), join(supposed, select(points, away))


def hide(image: SplatImage, unseen_depth: Tensor) -> SplatImage:
    """The picture without the pixels in front of which an unseen side lies; single such pixels are taken for noise.

    Args:
        unseen_depth: [H, W] of the unseen sides, drawn by the same camera; NaN where there is none.
    """
    hidden = image.coverage & (unseen_depth < image.depth * (1 - MARGIN))
    size = max(3, 2 * round(image.coverage.shape[0] / 448 * 1.5) + 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    hidden = torch.from_numpy(cv2.morphologyEx(hidden.cpu().numpy().astype(np.uint8), cv2.MORPH_OPEN, kernel)).bool()
    coverage = image.coverage & ~hidden.to(image.coverage.device)
    return SplatImage(rgb=torch.where(coverage[..., None], image.rgb, 0.0), coverage=coverage,
                      depth=torch.where(coverage, image.depth, float("nan")))
