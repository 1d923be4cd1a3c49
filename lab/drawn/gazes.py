"""Other gazes of the wearer at one instant of a drawn take: the same room from the same head,
turned otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras.model import CameraModel
from egox_core.trajectory.poses import camera_centre

from .rig import UP
from .shading import crease_neighbours
from .take import SyntheticTake
from .views import Renderer


def draw_gazes(
    rng: np.random.Generator,
    own: Tensor,  # [3, 4] float64, ego_from_world
    count: int,
    *,
    yaw_deg: tuple[float, float] = (5, 75),  # to either side
    pitch_deg: float = 35,  # at most, up or down
    away_m: float = 0.06,
) -> Tensor:  # [count, 3, 4] float64
    """Poses of heads turned about the world's vertical, then nodded about the eyes' line, a
    little aside."""
    right = (
        own[0, :3].numpy() if abs(own[0, 2]) < abs(own[1, 2]) else own[1, :3].numpy()
    )  # a sensor may lie turned
    poses = []
    for _ in range(count):
        yaw = np.radians(rng.choice((-1.0, 1.0)) * rng.uniform(*yaw_deg))
        pitch = np.radians(rng.uniform(-pitch_deg, pitch_deg))
        turn = torch.from_numpy(
            _rotation(np.array(UP), yaw) @ _rotation(right, pitch)
        )  # of the head, in the world
        rotation = own[:, :3] @ turn.T
        centre = camera_centre(own) + torch.from_numpy(rng.normal(size=3)) * away_m / np.sqrt(3)
        poses.append(torch.cat((rotation, -(rotation @ centre)[:, None]), dim=1))
    return torch.stack(poses)


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:  # [3] unit, radians -> [3, 3]
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def ego_pictures(
    take: SyntheticTake,
    frames: Sequence[int],  # N, the instant of each picture
    w2c: Tensor,  # [N, 3, 4] float64, ego_from_world
    camera: CameraModel | None = None,  # None: the take's ego camera
) -> Tensor:  # [N, h, w, 3] uint8, stored orientation
    """Pictures of the take's ego camera from other poses, without the wearer's head."""
    at, scene = list(frames), take.scene
    light = replace(
        scene.light, position=scene.light.position[at], strength=scene.light.strength[at]
    )
    scene = replace(scene, world_from_solid=scene.world_from_solid[at], light=light, ego_w2c=w2c)
    renderer = Renderer(
        scene, camera or scene.ego_camera, w2c, crease_neighbours(scene), take.spec.edge_samples
    )
    view = renderer.full(list(range(len(at))), scene.indices(head=False))
    rgb = (view.rgb * 255).round().clamp(0, 255).to(torch.uint8)
    return rgb.reshape(-1, renderer.height, renderer.width, 3)
