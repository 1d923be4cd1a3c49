"""Put a second person into the depth and the mask of a drawn take."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras import camera_centre, transform

from .take import SyntheticTake

BESIDE_M, ABOVE_M = (0.5, 0.7), (0.25, 0.6)
"""Metres beside and above the wearer's eyes, as of one who stands next to a child or to a seated
wearer."""
NECK_M, FEET_M = 0.3, 1.5  # below the head's middle
HEAD_RADIUS_M, TRUNK_RADIUS_M = 0.11, (0.15, 0.2)


def add_bystander(take: SyntheticTake) -> SyntheticTake:
    """Add a person who stands still next to the wearer, drawn by the take's seed.

    Pictures and the ego camera's depth stay as they are.
    """
    generator = np.random.default_rng(take.spec.seed)
    eyes = camera_centre(take.ego.w2c)[0]
    sight = (eyes - camera_centre(take.exo.at(0)))[:2]
    turn = generator.choice((-1, 1)) * math.radians(generator.uniform(40, 140))
    cosine, sine = math.cos(turn), math.sin(turn)
    direction = torch.tensor([[cosine, -sine], [sine, cosine]]).double() @ (sight / sight.norm())
    head = eyes + torch.cat((direction * generator.uniform(*BESIDE_M), torch.zeros(1)))
    head[2] += generator.uniform(*ABOVE_M)
    heights = torch.tensor([0.0, NECK_M, FEET_M], dtype=torch.float64)
    below_head = heights[:, None] * head.new_tensor([0.0, 0.0, -1.0])
    rays = take.exo.camera.depth_rays().double()
    trunk_radius_m = generator.uniform(*TRUNK_RADIUS_M)
    depths = []
    for frame in range(len(take.exo_depth_m)):
        skull, neck, feet = transform(take.exo.at(frame), head + below_head)
        skull_depth = _capsule_depth(rays, neck, skull, HEAD_RADIUS_M)
        depths.append(skull_depth.minimum(_capsule_depth(rays, feet, neck, trunk_radius_m)))
    body_depth = torch.stack(depths).float()
    is_nearer = body_depth < take.exo_depth_m
    return replace(
        take,
        exo_depth_m=body_depth.where(is_nearer, take.exo_depth_m),
        exo_dynamic=take.exo_dynamic | is_nearer,
    )


def _capsule_depth(
    rays: Tensor,  # [H, W, 3] scaled to z = 1
    start: Tensor,  # [3] metres, camera frame
    end: Tensor,  # [3]
    radius_m: float,
) -> Tensor:  # [H, W] z depth, inf beside it
    """Intersect camera rays with all points within a radius of a line segment."""
    axis = (end - start) / (end - start).norm()
    depths = [_nearer_root(rays, centre, radius_m) for centre in (start, end)]
    across_rays, across_start = (v - (v @ axis)[..., None] * axis for v in (rays, start))
    side_depth = _nearer_root(across_rays, across_start, radius_m)
    along_m = (rays * side_depth.nan_to_num(posinf=0.0)[..., None] - start) @ axis
    is_on_side = (along_m > 0) & (along_m < (end - start).norm())
    return torch.stack((*depths, side_depth.where(is_on_side, math.inf))).amin(0)


def _nearer_root(rays: Tensor, centre: Tensor, radius_m: float) -> Tensor:
    """Find where rays first come within a radius of a point: inf where they never do."""
    squared, middle = (rays * rays).sum(-1), rays @ centre
    root = middle * middle - squared * (centre @ centre - radius_m**2)
    depth_m = (middle - root.clamp_min(0).sqrt()) / squared
    return depth_m.where((root > 0) & (depth_m > 0), math.inf)
