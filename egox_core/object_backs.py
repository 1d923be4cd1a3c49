"""Where the unseen backs of objects are supposed to be, so that nothing is drawn through them.

Exo sees fronts only. Seen from the other side, the background would shine through where the object's back should
be. A round body of radius R, met at the angle theta to its normal, is 2 R cos(theta) thick along the ray; R is taken
from the picture: the largest disc around the pixel that crosses no outline. Only
narrow things get a back.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

DISC_RADII_PX = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
MAX_RADIUS_M = 0.06
"""Arms, hands, bottles, legs of furniture. For wider things the guess is worth less than what it hides wrongly: bodies
are flatter than they are broad, tables and walls have nothing behind them that exo sees."""
MAX_THICKNESS_M = 0.2
CERTAIN_SHARE = 0.7
"""Of the supposed thickness: a mug is flatter on top than a ball, and what a back hides wrongly (a black hole in a
table that exo shows) costs more than what it leaves."""
OUTLINE_STEP = 0.02
"""Relative depth step to what lies behind that makes an outline, unless the surface itself is as steep."""


def supposed_thickness(depth_m: Tensor, steps: Tensor, rays: Tensor) -> Tensor:
    """How far behind its visible front an object ends, along the exo ray.

    Args:
        depth_m: [H, W] z depth, NaN invalid.
        steps: [H, W, 3, 2] metres, the surface's steps to the right and down, exo frame.
        rays: [H, W, 3] exo rays with z = 1.

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
    radius_m = torch.from_numpy(radius_px) * metres
    rim_m = (torch.from_numpy(to_outline) + 0.5) * metres
    normal = torch.linalg.cross(steps[..., 0], steps[..., 1])
    length = rays.norm(dim=-1)
    cosine = ((normal * rays).sum(-1) / (normal.norm(dim=-1) * length).clamp_min(1e-12)).clamp(0, 1)
    chord = 2 * (rim_m * (2 * radius_m - rim_m)).clamp_min(0).sqrt()
    thick = CERTAIN_SHARE * torch.minimum(2 * radius_m * cosine, chord).clamp_max(MAX_THICKNESS_M) / length
    return torch.where((radius_m > 0) & (radius_m < MAX_RADIUS_M), thick, 0.0).nan_to_num(0.0)


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
