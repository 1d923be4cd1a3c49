"""The released trainer's rays, which are not its inference's (quirks 36); only for LoRAs trained its way."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..gga_geometry import pool_tokens
from ..ray_geometry import released_k_picture_px
from ..sizes import PATCH
from ..types import CameraTrajectory, GgaGeometry


def trainer_rays(trajectory: CameraTrajectory, w2c: Tensor, h: int, w: int) -> Tensor:  # [t, h, w, 3] float64
    """Plain pinhole rays of K at latent size, integer latent pixels, turned by R instead of its inverse; then (x, y) of
    the result turned to (-y, x). No lens, no turn of the picture.

    Raises:
        EgoXInputError: no K in the trajectory.
    """
    if trajectory.meta_intrinsics is None:
        raise EgoXInputError("ego intrinsics for the trainer's rays", got="a trajectory without ego_intrinsics",
                             expected="K of meta.json", fix="use the ray geometry exact")
    k = trajectory.meta_intrinsics.double() * (w / released_k_picture_px(trajectory))
    row, col = torch.meshgrid(torch.arange(h, dtype=torch.float64), torch.arange(w, dtype=torch.float64), indexing="ij")
    rays = torch.stack(((col - k[0, 2]) / k[0, 0], (row - k[1, 2]) / k[1, 1], torch.ones_like(row)), dim=-1)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    x, y, z = torch.einsum("tij,hwj->thwi", w2c[:, :, :3].double(), rays).unbind(-1)
    return torch.stack((-y, x, z), dim=-1)


def with_trainer_rays(geometry: GgaGeometry, trajectory: CameraTrajectory, picked: Tensor) -> GgaGeometry:
    """The geometry with its queries replaced; ``picked``: [t] int64 frame of each latent frame."""
    _, h, _, w_ego = geometry.grid
    rays = trainer_rays(trajectory, trajectory.w2c[picked], h * PATCH, w_ego * PATCH)
    queries, _ = pool_tokens(rays, torch.ones(rays.shape[:-1], dtype=rays.dtype))
    return replace(geometry, query_dirs=queries.float().flatten(1, 2), rays="trainer")
