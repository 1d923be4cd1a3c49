"""Stand-in depth where a take has none: the floor under the wearer, found from the poses alone.

Good for proving layout, poses and undistortion; not a substitute for depth. Whatever is made with
it is marked ``stand-in depth``."""

import math

import torch
from torch import Tensor

from egox_core.cameras import CameraModel, camera_centre, pose_of_frame
from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.trajectory import down_axis

from .raw_take import RawTake

FAR_M = 30.0  # the plane beyond is left out: it would be a sliver of the picture at the horizon


@frozen
class GroundPlane:
    """Points p with up . p = height, world axes, metres."""

    up: Tensor  # [3] float64, unit
    height: float


def ground_plane(take: RawTake, eye_height_m: float) -> GroundPlane:
    """The plane ``eye_height_m`` under the wearer's median camera height; up is the opposite of
    what cameras say."""
    ego_w2c = take.ego_w2c[take.pose_known]
    exo = torch.stack([pose_of_frame(e.w2c, 0) for e in take.exos])
    up = -down_axis(exo, ego_w2c, take.ego_camera.quarter_turns)
    heights = camera_centre(ego_w2c) @ up
    return GroundPlane(up=up, height=float(heights.median()) - eye_height_m)


def plane_depth(
    plane: GroundPlane,
    camera: CameraModel,
    w2c: Tensor,  # [3, 4] camera_from_world
) -> Tensor:  # [H, W] float32 z depth, metres
    """The plane as that camera sees it; NaN above the horizon.

    Raises:
        EgoXInputError: the camera sees nothing of it.
    """
    rays, seen = camera.pixel_rays(dtype=torch.float64)
    world = rays @ w2c[:, :3].double()  # row vectors: R^T ray
    centre_height = float(camera_centre(w2c.double()) @ plane.up) - plane.height
    slope = -(world @ plane.up)
    distance = centre_height / slope.clamp_min(1e-9)
    depth = distance * rays[..., 2]
    ok = seen & (slope > 0) & (depth > 0) & (depth < FAR_M) & (centre_height > 0)
    if not bool(ok.any()):
        raise EgoXInputError(
            "--depth plane",
            got="an exo camera that doesn't see the floor",
            expected="some of it",
            fix="leave the camera out, or give depth files",
        )
    return torch.where(ok, depth, torch.full_like(depth, math.nan)).float()
