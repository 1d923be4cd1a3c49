"""Where the unseen backs of objects are supposed to be, so that nothing is drawn through them.

Exo sees fronts only. Seen from the other side, the background would shine through where the object's back should
be. A round body of radius R, met x away from its axis, is 2 sqrt(R^2 - x^2) thick along the ray. R is taken from the
picture: the largest disc around the pixel that crosses no outline; R - x is the way to the next outline. The supposed
back meets the front at the outline, so that both together close around the object whichever way it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

DISC_RADII_PX = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 21, 24, 28, 32, 40, 48, 64, 96)
OUTLINE_STEP = 0.02
"""Relative depth step to what lies behind that makes an outline, unless the surface itself is as steep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackShape:
    """How thick a kind of thing is for its breadth."""

    roundness: float  # thickness as a share of that of a round body
    doubt_m: float  # this much less, metres: a ray that would only graze the supposed body may as well pass it
    max_radius_m: float  # wider things get no back


LIMB = BackShape(roundness=1.2, doubt_m=0.02, max_radius_m=0.25)
"""What moves is mostly the wearer: arms and legs, which point along the exo ray as often as across it and are thicker
along it than they look broad."""
THING = BackShape(roundness=1.3, doubt_m=0.03, max_radius_m=0.08)
"""Bottles, balls, boxes, legs of furniture. What a back hides wrongly (a black hole in a table that exo shows) costs
more than what it leaves; the backs of wide things are anyone's guess."""


def supposed_thickness(depth_m: Tensor, steps: Tensor, rays: Tensor, shape: BackShape = THING,
                       flat: Tensor | None = None) -> Tensor:
    """How far behind its visible front an object ends, along the exo ray.

    Args:
        depth_m: [H, W] z depth, NaN invalid.
        steps: [H, W, 3, 2] metres, the surface's steps to the right and down, exo frame.
        rays: [H, W, 3] exo rays with z = 1.
        shape: what kind of object it is.
        flat: [H, W] bool, parts of large planes, which have no back; None: none.

    Returns:
        [H, W] float32 as a z depth difference in metres; 0 where no back is supposed.
    """
    outline = _outline(depth_m)
    if not bool(outline.any()):
        return torch.zeros_like(depth_m)
    to_outline = cv2.distanceTransform((~outline).numpy().astype(np.uint8), cv2.DIST_L2, 5)
    radius_px = np.zeros_like(to_outline)
    for radius in DISC_RADII_PX:
        centres = to_outline >= radius
        if not centres.any():
            break
        reach = cv2.distanceTransform((~centres).astype(np.uint8), cv2.DIST_L2, 5)
        radius_px[reach < radius] = radius  # radii ascend
    # Metres a pixel: the ray's own spacing at this depth.
    spacing = 0.5 * (rays[:, 2:] - rays[:, :-2]).norm(dim=-1)
    spacing = torch.cat((spacing[:, :1], spacing, spacing[:, -1:]), dim=1)
    metres = depth_m * spacing
    # The outline's pixels are the object's own and half a pixel wide themselves.
    radius_m = torch.from_numpy(np.where(radius_px > 0, radius_px + 0.5, 0)) * metres
    rim_m = (torch.from_numpy(to_outline) + 0.5) * metres
    chord = 2 * (rim_m * (2 * radius_m - rim_m)).clamp_min(0).sqrt()
    thick = (shape.roundness * chord - shape.doubt_m).clamp_min(0) / rays.norm(dim=-1)
    known = (radius_m > 0) & (radius_m < shape.max_radius_m)
    if flat is not None:
        known &= ~flat
    return torch.where(known, thick, 0.0).nan_to_num(0.0)


def _outline(depth_m: Tensor) -> Tensor:
    """[H, W] bool: pixels whose neighbour on some side lies behind, farther than the surface's own slope explains."""
    outline = torch.zeros(depth_m.shape, dtype=torch.bool)
    disparity = 1 / depth_m
    for axis in (0, 1):
        size = depth_m.shape[axis]
        drop = disparity.narrow(axis, 0, size - 1) - disparity.narrow(axis, 1, size - 1)  # > 0: the next is farther
        for sign in (1, -1):
            # Seen from the nearer pixel: the step away, and the step on its other side.
            near = disparity.narrow(axis, 0 if sign > 0 else 1, size - 1)
            away = sign * drop
            gap = torch.zeros_like(disparity.narrow(axis, 0, 1))
            inner = (torch.cat((gap, away.narrow(axis, 0, size - 2)), axis) if sign > 0
                     else torch.cat((away.narrow(axis, 1, size - 2), gap), axis))
            found = (away > OUTLINE_STEP * near) & (away > 3 * inner.abs().nan_to_num(0.0))
            outline.narrow(axis, 0 if sign > 0 else 1, size - 1).logical_or_(found)
    return outline
