"""What the ego camera would see of objects but exo does not: their backs. Nothing is drawn through them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from .cameras import inside_picture, project
from .poses import camera_centre, transform
from .scene_points import join, select
from .splat import SplatImage
from .types import CameraModel, PointSet

FACING_AWAY = -0.1
"""Cosine of normal and viewing ray below which a patch is seen from behind; near 0 the depth's noise decides."""
MAX_SPREAD = 5e-4
"""Relative depth noise above which normals are too rough to tell a front from a back."""
MARGIN = 0.02
"""Relative depth by which an unseen side must lie in front of a drawn surface to hide it."""
THICKER = 1.35
"""Moving things may be so much thicker than supposed: what exo doesn't see just then is not drawn through that either.
It is known from other frames only, and nothing that exo shows of this moment is lost with it."""
SMALLEST_PX = 1.0
"""Half the size of the least patch that is hidden, px of a picture 448 high: smaller ones are noise."""
CRACK_PX, WIDE_CRACK_PX = 1.0, 2.0
"""Half the widest crack between the patches of unseen sides that is closed, px of a picture 448 high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExoSight:
    """The exo camera of one frame, for asking what it sees then."""

    camera: CameraModel
    exo_from_frame: Tensor  # [3, 4] float64, from the scene's frame

    def behind(self, points: Tensor, blockers: Tensor) -> Tensor:
        """[N] bool: points [N, 3] that one of the ``blockers`` [M, 3] hides from the exo camera, pixel by pixel."""
        nearest = torch.full((self.camera.stored_size[0] * self.camera.stored_size[1],), float("inf"),
                             device=points.device)
        cell, z, inside = self._cells(blockers)
        nearest.scatter_reduce_(0, cell[inside], z[inside], "amin")
        cell, z, inside = self._cells(points)
        return inside & (z > nearest[cell] + 0.5 * MARGIN * z)

    def _cells(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(pixel number, z depth, whether it is in the picture), [N] each."""
        xyz = transform(self.exo_from_frame.to(points.device), points.double()).float()
        uv, valid = project(self.camera, xyz)
        width, height = self.camera.stored_size
        inside = valid & inside_picture(self.camera, uv) & (xyz[:, 2] > 0)
        col, row = (uv[:, axis].nan_to_num(0.0).round().long().clamp(0, size - 1)
                    for axis, size in ((0, width), (1, height)))
        return row * width + col, xyz[:, 2], inside


def split_sides(points: PointSet, ego_from_frame: Tensor) -> tuple[PointSet, PointSet]:
    """(points that the ego camera sees from the side that exo saw; sides that exo did not see).

    The latter are supposed backs of objects, and patches that the ego camera sees from behind.

    Args:
        ego_from_frame: [3, 4] float64, from the points' frame to the ego camera's.
    """
    sure = points.spread < MAX_SPREAD
    view = points.xyz - camera_centre(ego_from_frame).float()
    # Rightwards x downwards points away from the exo camera; where exo and ego see one side, from the ego camera too.
    normal = torch.linalg.cross(points.steps[..., 0], points.steps[..., 1])
    facing = (normal * view).sum(-1) / (normal.norm(dim=-1) * view.norm(dim=-1)).clamp_min(1e-12)
    away = (facing < FACING_AWAY) & sure
    return select(points, ~away), join(supposed_backs(points), select(points, away))


def supposed_backs(points: PointSet, thicker: float = 1.0) -> PointSet:
    """The backs of the points that have one, ``thicker`` times as far behind their fronts as they are supposed."""
    backs = select(points, (points.back != 0).any(-1) & (points.spread < MAX_SPREAD))
    return replace(backs, xyz=backs.xyz + thicker * backs.back,
                   steps=backs.steps + thicker * (backs.back_steps - backs.steps))


def hidden_by(image: SplatImage, unseen_depth: Tensor, crack_px: float) -> Tensor:
    """[H, W] bool: covered pixels in front of which an unseen side lies; single such pixels are taken for noise.

    Args:
        unseen_depth: [H, W] of the unseen sides, drawn by the same camera; NaN where there is none.
        crack_px: half the widest crack between their patches that is closed, px of a picture 448 high.
    """
    hidden = image.coverage & (unseen_depth < image.depth * (1 - MARGIN))
    if not bool(hidden.any()):
        return hidden
    mask = cv2.morphologyEx(hidden.cpu().numpy().astype(np.uint8), cv2.MORPH_CLOSE, _disc(image, crack_px))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(image, SMALLEST_PX))
    return torch.from_numpy(mask).bool().to(hidden.device) & image.coverage


def _disc(image: SplatImage, half_px: float) -> np.ndarray:
    size = max(3, 2 * round(image.coverage.shape[0] / 448 * half_px) + 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def without(image: SplatImage, hidden: Tensor) -> SplatImage:
    """The picture with nothing where ``hidden`` [H, W] bool says."""
    coverage = image.coverage & ~hidden
    return SplatImage(rgb=torch.where(coverage[..., None], image.rgb, 0.0), coverage=coverage,
                      depth=torch.where(coverage, image.depth, float("nan")))
