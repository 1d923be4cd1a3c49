"""Where a lens ends: the rays of the picture's rim, for drawing a camera's frustum."""

from __future__ import annotations

import torch
from torch import Tensor

from .cameras.model import CameraModel, unproject, upright_camera


def lens_outline(camera: CameraModel, samples: int = 64) -> Tensor:
    """[samples, 3] unit rays, upright camera axes, around the part of the picture that the lens fills.

    The rim is walked clockwise from the middle of the upper edge, from the centre outwards to the picture's edge or,
    where the lens ends before it (a fisheye's circle), to there.
    """
    upright = upright_camera(camera)
    width, height = upright.stored_size
    angle = torch.arange(samples, dtype=torch.float64) * (2 * torch.pi / samples) - torch.pi / 2
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    # To the edge of the rectangle along each direction; then back until the lens knows a ray.
    to_edge = (half / direction.abs().clamp_min(1e-9)).amin(-1)
    share = torch.linspace(1.0, 0.05, 96, dtype=torch.float64)
    pixels = centre + direction[:, None] * (to_edge[:, None] * share)[..., None]
    rays, valid = unproject(upright, pixels)
    first = valid.int().argmax(-1)
    return rays[torch.arange(samples), first]
