"""Lay out drawn wearers' heads with exact poses, key points and depth around the points."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from egox_core.cameras.model import CameraModel
from egox_core.cameras.poses import camera_centre, transform
from egox_core.trajectory import HeadPoints
from egox_core.trajectory.head_pose import HeadPath
from egox_core.trajectory.head_template import POINTS
from lab.drawn import SyntheticSpec
from lab.drawn.layout import Layout, draw_layout


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnHeads:
    """Store the true head poses of one drawn clip, and its key points without any occlusion."""

    layout: Layout
    truth: np.ndarray  # [T, 3, 4] world_from_head
    camera: CameraModel
    exo_w2c: Tensor  # [3, 4]
    uv: np.ndarray  # [T, 8, 2]
    metres: np.ndarray  # [T, 8, 3]
    times_s: Tensor

    def points(self, **changes) -> HeadPoints:
        """Build head key points as a detector returns them, with optional other scores, pixels or
        metres."""
        uv = changes.get("uv", self.uv)
        points_m = changes.get("metres")
        scores = changes.get("scores", np.ones(uv.shape[:2]))
        return HeadPoints(
            uv=torch.from_numpy(uv),
            scores=torch.from_numpy(np.asarray(scores, dtype=float)),
            picture=self.camera.stored_size,
            metres=None if points_m is None else torch.from_numpy(points_m),
        )

    def face(self, count: int = 238) -> np.ndarray:  # [T, count, 3] metres
        """Compute points on the drawn face in the exo camera's axes, like vertices of a body
        model's mesh."""
        rng = np.random.default_rng(0)
        face_points = rng.uniform([-0.07, -0.07, -0.05], [0.07, 0.11, 0.02], (count, 3))
        exo_from_head = self.exo_w2c.numpy()[:, :3] @ self.truth[..., :3]
        eye_middle = self.metres[:, :2].mean(1, keepdims=True)
        return face_points @ exo_from_head.transpose(0, 2, 1) + eye_middle

    def depth(self) -> Tensor:  # [T, H, W]
        """Draw depth maps in which only small patches around the head's key points are known."""
        width, height = self.camera.stored_size
        depth_maps = torch.full((len(self.uv), height, width), torch.nan)
        for t in range(len(self.uv)):
            for i in reversed(range(len(POINTS))):
                column, row = (int(round(x)) for x in self.uv[t, i])
                skin_depth = self.metres[t, i, 2] - (0.06 if i > 4 else 0.0)
                depth_maps[t, max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = float(
                    skin_depth
                )
        return depth_maps

    def errors(self, path: HeadPath, frames: slice = slice(None)) -> tuple[float, float, float]:
        """Measure median head errors: metres across the viewing ray, relative distance along it,
        and angle."""
        estimated_pose, exo_centre = (
            path.world_from_head.numpy(),
            camera_centre(self.exo_w2c).numpy(),
        )
        head_offset = self.truth[..., 3] - exo_centre
        head_distance = np.linalg.norm(head_offset, axis=-1)
        ray_direction, position_error = (
            head_offset / head_distance[:, None],
            estimated_pose[..., 3] - self.truth[..., 3],
        )
        error_along = (position_error * ray_direction).sum(-1)
        error_across = np.linalg.norm(
            position_error - error_along[:, None] * ray_direction, axis=-1
        )
        rotation_errors = Rotation.from_matrix(
            self.truth[..., :3].transpose(0, 2, 1) @ estimated_pose[..., :3]
        ).magnitude()
        return (
            float(np.median(error_across[frames])),
            float(np.median(np.abs(error_along[frames]) / head_distance[frames])),
            float(np.degrees(np.median(rotation_errors[frames]))),
        )


def lay_out_heads(
    seed: int = 500, frames: int = 25, height: int = 224, fps: float = 10.0, **options
) -> DrawnHeads:
    """Compute the head poses and key points of a drawn take without rendering its pictures."""
    spec = SyntheticSpec(
        seed=seed,
        frames=frames,
        fps=fps,
        exo_height=height,
        exo_width=height * 7 // 4,
        ego_size=height,
        wearer="drawn",
        **options,
    )
    layout = draw_layout(spec)
    head = layout.head
    camera = layout.scene.exo.camera
    w2c = layout.scene.exo.pose
    points_in_exo = transform(
        w2c, torch.from_numpy(np.stack([head.marks[name] for name in POINTS], axis=1))
    )
    uv, _ = camera.project(points_in_exo)
    return DrawnHeads(
        layout=layout,
        truth=head.world_from_eyes,
        camera=camera,
        exo_w2c=w2c,
        uv=uv.numpy(),
        metres=points_in_exo.numpy(),
        times_s=torch.arange(frames, dtype=torch.float64) / fps,
    )
