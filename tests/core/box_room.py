"""Compute views of an empty box room in closed form, as truth for several exo cameras."""

from dataclasses import dataclass

import torch
from torch import Tensor

from egox_core.cameras.model import CameraModel
from egox_core.cameras.poses import camera_centre, invert, transform

LOW_CORNER, HIGH = (
    torch.tensor([-3.0, -1.5, -2.5]).double(),
    torch.tensor([3.0, 1.2, 2.5]).double(),
)  # x right, y down, z


@dataclass(frozen=True)
class RoomView:
    depth_m: Tensor  # [H, W] float32 z depth, NaN where the lens sees nothing
    points: Tensor  # [H, W, 3] float64, world
    rgb: Tensor  # [H, W, 3] uint8, a smooth colour of the place


def view_room(camera: CameraModel, w2c: Tensor) -> RoomView:
    rays, valid_mask = camera.pixel_rays(torch.float64)
    origin = camera_centre(w2c)
    world_rays = rays @ invert(w2c)[:, :3].T
    wall_limits = torch.where(world_rays > 0, HIGH, LOW_CORNER)
    wall_distance = (
        (wall_limits - origin) / torch.where(world_rays.abs() < 1e-12, 1e-12, world_rays)
    ).amin(-1)
    points = origin + world_rays * wall_distance[..., None]
    depth = torch.where(
        valid_mask & (rays[..., 2] > 1e-3), wall_distance * rays[..., 2], torch.nan
    ).float()
    rgb = ((points - LOW_CORNER) / (HIGH - LOW_CORNER) * 200 + 20).round().to(torch.uint8)
    return RoomView(depth_m=depth, points=points, rgb=rgb)


def true_coverage(ego: CameraModel, ego_w2c: Tensor, exo: CameraModel, exo_w2c: Tensor) -> float:
    """Measure the share of the ego picture's surfaces that the exo picture shows, too."""
    lens_mask = ego.pixel_rays(torch.float64)[1]
    points = view_room(ego, ego_w2c).points
    uv, valid_mask = exo.project(transform(exo_w2c, points.flatten(0, 1)).view_as(points))
    return float((lens_mask & valid_mask & exo.inside(uv)).double().mean())
