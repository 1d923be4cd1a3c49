"""Compute substitute depth for a take without depth: the floor under the wearer.

Good for proving layout, poses and undistortion; not a substitute for depth. Whatever is made with
it is marked ``stand-in depth``."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from egox_core.cameras import CameraPath, camera_centre
from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.trajectory import find_up

from .raw_take import RawTake

FAR_M = 30.0  # the plane beyond is left out: it would be a sliver of the picture at the horizon


@frozen
class GroundPlane:
    """Ground plane in world coordinates, in metres: the points p with up · p = height."""

    up: Tensor  # [3] float64, unit
    height: float


def ground_plane(take: RawTake, eye_height_m: float) -> GroundPlane:
    """Place a ground plane ``eye_height_m`` below the wearer's camera."""
    known_ego_path = replace(take.ego, w2c=take.ego.w2c[take.pose_known])
    up_direction = find_up([exo_view.exo for exo_view in take.exos], known_ego_path).direction
    camera_heights = camera_centre(known_ego_path.w2c) @ up_direction
    return GroundPlane(up=up_direction, height=float(camera_heights.median()) - eye_height_m)


def plane_depth(
    plane: GroundPlane,
    # The exo camera in frame 0.
    exo: CameraPath,
) -> Tensor:  # [H, W] float32 z depth, metres
    """Compute the z depth of a plane in a camera, NaN above the horizon.

    Raises:
        EgoXInputError: the camera sees nothing of it.
    """
    rays, lens_mask = exo.camera.pixel_rays(dtype=torch.float64)
    w2c = exo.at(0)
    world_rays = rays @ w2c[:, :3]  # row vectors: R^T ray
    centre_height = float(camera_centre(w2c) @ plane.up) - plane.height
    ray_slope = -(world_rays @ plane.up)
    plane_distance = centre_height / ray_slope.clamp_min(1e-9)
    depth_map = plane_distance * rays[..., 2]
    is_visible = (
        lens_mask & (ray_slope > 0) & (depth_map > 0) & (depth_map < FAR_M) & (centre_height > 0)
    )
    if not bool(is_visible.any()):
        raise EgoXInputError(
            "--depth plane",
            got="an exo camera that doesn't see the floor",
            expected="some of it",
            fix="leave the camera out, or give depth files",
        )
    return torch.where(is_visible, depth_map, torch.full_like(depth_map, math.nan)).float()
