"""Model the surface of a wearer's head and trunk in the exo camera, from the pose of the tracked
glasses.

The head is an ellipsoid fixed to the glasses, the trunk an upright cylinder under it, an ordinary
adult's. ``face`` is the frame between the wearer's pupils: x left, y up, z forward. Metres
everywhere."""

import numpy as np
import torch
from torch import Tensor

from ..cameras import invert, sensor_from_upright

# hair, a cap, a bicycle helmet (liners are 25 to 40 mm thick) about the bare head
HEADGEAR_M = 0.04


# Of an ordinary adult. Places of the camera from Aria's CAD, sizes from anthropometry; what is
# judged says so.

# CAD extrinsics in projectaria_tools: the RGB camera sits 56 to 58 mm left of, 7 mm above and 12 to
# 13 mm before the point between the pupils, tilted down by 7.5 degrees.
CAMERA_IN_FACE = np.array([0.057, 0.007, 0.0125])
CAMERA_PITCH_DEG = 7.5
# Head length 190, breadth 151, vertex to chin 225 mm: usual means of both sexes, judged good to a
# few per cent.
HEAD_HALF = np.array([0.0755, 0.1125, 0.095])
# Pupils lie some 20 mm behind the foremost point of the forehead, half way between vertex and chin.
HEAD_FROM_CAMERA = np.array([0.0, 0.0, -0.075]) - CAMERA_IN_FACE
# Shoulders about 0.19 under the eyes, a seat 0.77 under them; a chest 0.25 deep and 0.29 broad.
# Judged.
TRUNK_FROM, TRUNK_TO, TRUNK_RADIUS = 0.20, 0.75, 0.135


def face_from_camera(quarter_turns: int) -> np.ndarray:  # [3, 3]
    """Compute the rotation from the glasses' unturned sensor to the wearer's face."""
    pitch = np.radians(CAMERA_PITCH_DEG)
    forward = np.array([0, -np.sin(pitch), np.cos(pitch)])
    left = np.array([1.0, 0, 0])
    face_from_upright = np.stack(
        (-left, -np.cross(forward, left), forward), axis=1
    )  # x right, y down, z forward
    return face_from_upright @ sensor_from_upright(quarter_turns).numpy().T


def head_depth(
    rays: np.ndarray,  # [H, W, 3] exo frame, scaled to z = 1
    centre: np.ndarray,  # [3] of the head, exo frame
    exo_from_face: np.ndarray,  # [3, 3]
) -> tuple[
    np.ndarray, np.ndarray
]:  # z [H, W], NaN beside the head; off the middle [H, W], 1 at the rim
    """Compute the z depth of the head's visible surface, and each ray's distance from its centre
    relative to the rim."""
    unit_from_exo = exo_from_face.T / HEAD_HALF[:, None]
    scaled_rays = rays @ unit_from_exo.T
    scaled_centre = unit_from_exo @ centre
    ray_squared = (scaled_rays * scaled_rays).sum(-1)
    ray_dot_centre = scaled_rays @ scaled_centre
    squared_distance = (
        scaled_centre @ scaled_centre - ray_dot_centre * ray_dot_centre / ray_squared
    )  # squared distance of the ray from the centre
    z = (
        ray_dot_centre - np.sqrt(np.maximum(ray_squared * (1 - squared_distance), 0))
    ) / ray_squared
    return np.where((squared_distance < 1) & (z > 0), z, np.nan), np.sqrt(
        np.maximum(squared_distance, 0)
    )


def meets_head(
    points: Tensor,  # [N, 3] metres
    exo_centre: Tensor,  # [3] float64, of the camera that saw them, their frame
    ego_from_frame: Tensor,  # [3, 4] float64, pose of the glasses' unturned sensor
    quarter_turns: int,
) -> Tensor:  # [N] bool
    """Check for each point whether the exo camera's line of sight to it meets the wearer's head.

    Wherever depth puts such a point: exo saw the head there.

    What is worn on the head belongs to it.
    """
    frame_from_ego = invert(ego_from_frame.double().cpu())
    frame_from_face = frame_from_ego[:, :3] @ torch.from_numpy(face_from_camera(quarter_turns)).T
    head_from_camera = frame_from_face @ torch.from_numpy(HEAD_FROM_CAMERA)
    exo_to_head = frame_from_ego[:, 3] + head_from_camera - exo_centre.double().cpu()
    unit_from_frame = frame_from_face.T / torch.from_numpy(HEAD_HALF + HEADGEAR_M)[:, None]
    # float32 for the many points; what is subtracted first is far from small in worlds with a
    # distant origin.
    sight_rays = (
        points.double() - exo_centre.to(points.device)
    ).float() @ unit_from_frame.T.float().to(points.device)
    head_offset = (unit_from_frame @ exo_to_head).float().to(points.device)
    along_sight = (sight_rays @ head_offset).clamp_min(0)
    return (
        head_offset @ head_offset
        - along_sight * along_sight / (sight_rays * sight_rays).sum(-1).clamp_min(1e-12)
        < 1
    )


def trunk_depth(
    rays: np.ndarray,  # [H, W, 3] exo frame, scaled to z = 1
    centre: np.ndarray,  # [3] of the head, exo frame
    down: np.ndarray,  # [3] unit, exo frame
) -> tuple[
    np.ndarray, np.ndarray, np.ndarray
]:  # z [H, W], NaN beside it; off the axis, 1 at the rim; drop, metres
    """Compute the z depth of the trunk, an upright cylinder, and how far below the head each point
    is."""
    rays_flat = rays - (rays @ down)[..., None] * down
    axis_flat = centre - (centre @ down) * down
    flat_squared = np.maximum((rays_flat * rays_flat).sum(-1), 1e-9)
    axis_z = rays_flat @ axis_flat / flat_squared
    off_axis = np.linalg.norm(axis_z[..., None] * rays_flat - axis_flat, axis=-1) / TRUNK_RADIUS
    depth_m = axis_z - TRUNK_RADIUS * np.sqrt(np.maximum(1 - off_axis * off_axis, 0) / flat_squared)
    depth_m = np.where((off_axis < 1) & (depth_m > 0), depth_m, np.nan)
    return depth_m, off_axis, (depth_m[..., None] * rays - centre) @ down
