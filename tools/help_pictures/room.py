"""The room that most pictures are of: the shipped sample take, and the same drawn scene from further exo cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras.model import CameraModel, project, rescale
from egox_core.file_names import TRUTH
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from egox_core.takes.take import Take, load_take
from egox_core.trajectory import HeadPoints
from egox_core.trajectory.head_template import POINTS
from egox_core.trajectory.poses import camera_centre, look_at, transform
from egox_core.types import CameraTrajectory, DepthVideo, EgoPrior, PointCloud
from egox_core.video.reader import probe_video, read_frames
from egox_core.video.selection import select_frames
from lab.drawn.layout import Layout, draw_layout
from lab.drawn.scene import Scene
from lab.drawn.shading import crease_neighbours
from lab.drawn.views import Renderer
from tools.sample import samples

SAMPLE = "synthetic_room"
FRAMES, FPS = 13, 5.0
NOW = 6
"""The frame that single pictures show."""
UP = (0.0, 0.0, 1.0)
IN_SIGHT_M = 0.04
"""How far behind the visible surface a point of the head may lie and still be seen."""
SMALL = (448, 256)
"""Size of what a further camera sees: drawn here, ray by ray, which takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneFrame:
    """What one camera sees of the moment ``NOW``, with exact depth."""

    rgb: Tensor  # [H, W, 3] float32 0...1
    depth: DepthVideo  # one frame
    scene: PointCloud


class Room:
    """Everything is made when it is first asked for, since ``--only`` may need little of it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "sample" / SAMPLE

    @cached_property
    def take(self) -> Take:
        return load_take(self.folder, frame_count=FRAMES, target_fps=FPS)

    @cached_property
    def exo(self) -> Tensor:  # [T, H, W, 3] float32 0...1
        return self.take.read_exo().float() / 255

    @cached_property
    def truth(self) -> Tensor:  # [T, S, S, 3] float32 0...1
        file = self.folder / TRUTH
        info = probe_video(file)
        return read_frames(file, info, select_frames(info, frame_count=FRAMES, target_fps=FPS)).float() / 255

    @property
    def trajectory(self) -> CameraTrajectory:
        return self.take.trajectory

    @cached_property
    def scene(self) -> PointCloud:
        return build_scene(self.exo, self.take.depth)

    @property
    def head(self) -> Tensor:  # [T, 3] float64, where the ego camera is
        return camera_centre(self.trajectory.w2c)

    def trajectory_now(self) -> CameraTrajectory:
        """The ego camera at ``NOW`` alone."""
        return self.trajectory_at(NOW)

    def trajectory_at(self, frame: int) -> CameraTrajectory:
        """The ego camera at one frame alone."""
        path, when = self.trajectory, slice(frame, frame + 1)
        return replace(path, w2c=path.w2c[when], times_s=path.times_s[when])

    def scene_at(self, frame: int) -> PointCloud:
        """The whole clip's background with the moving points of one frame alone."""
        return replace(self.scene, moving=[self.scene.moving[frame]], frame_count=1, times_s=None)

    def prior(self, preset: str) -> EgoPrior:
        """The prior of ``NOW``: a clip of one frame."""
        return self.prior_of(self.scene_now, preset)

    def prior_of(self, scene: PointCloud, preset: str = "clean", path: CameraTrajectory | None = None) -> EgoPrior:
        """A one-frame scene from the wearer's eyes."""
        return render_ego_prior(scene, path or self.trajectory_now(), prior_preset(preset))

    @cached_property
    def scene_now(self) -> PointCloud:
        """:meth:`scene_at` of ``NOW``, made once."""
        return self.scene_at(NOW)

    # -- further cameras

    @cached_property
    def layout(self) -> Layout:
        return draw_layout(samples()[SAMPLE].spec)

    @property
    def drawn(self) -> Scene:
        return self.layout.scene

    def head_points(self, error_px: float) -> HeadPoints:
        """What a detector would see of the wearer's head, off by so many pixels."""
        depth, frames = self.take.depth, self.take.frames.source_indices.numpy()
        marks = self.layout.heads[0].marks
        local = transform(depth.exo_w2c, torch.from_numpy(np.stack([marks[name][frames] for name in POINTS], axis=1)))
        uv, _ = project(depth.camera, local)
        width, height = depth.camera.stored_size
        column, row = uv[..., 0].round().long().clamp(0, width - 1), uv[..., 1].round().long().clamp(0, height - 1)
        surface = depth.depth_m[torch.arange(len(frames))[:, None], row, column]
        seen = local[..., 2] - surface < IN_SIGHT_M
        seen[:, POINTS.index("neck"):] = True  # joints lie inside
        noise = torch.randn(uv.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        return HeadPoints(uv=uv + error_px * noise, scores=0.9 * seen.double(), picture=(width, height))

    @property
    def drawn_frame(self) -> int:
        """``NOW`` as a frame of the drawn scene."""
        return int(self.take.frames.source_indices[NOW])

    def exo_pose(self, turn_deg: float, away: float = 1.0, higher_m: float = 0.0) -> Tensor:  # [3, 4]
        """The exo camera carried around the wearer's table, still looking at it."""
        target = self.table
        arm = camera_centre(self.take.depth.exo_w2c) - target
        angle = torch.deg2rad(torch.tensor(turn_deg, dtype=torch.float64))
        x, y, z = arm
        turned = torch.stack((angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y, z))
        return look_at(target + away * turned + higher_m * torch.tensor(UP), target, up=UP)

    @property
    def table(self) -> Tensor:  # [3] float64
        """What the wearer works on: 0.6 m along the ego camera's axis."""
        w2c = self.trajectory.w2c[NOW]
        return camera_centre(w2c) + 0.6 * w2c[2, :3]

    def seen_from(self, w2c: Tensor, camera: CameraModel | None = None) -> OneFrame:
        """The drawn scene from another exo camera (None: the sample's own, smaller)."""
        camera = camera or rescale(self.take.depth.camera, *SMALL)
        scene, frame = self.drawn, self.drawn_frame
        view = Renderer(scene, camera, w2c, crease_neighbours(scene), 2)
        seen = view.full([frame], scene.indices())
        size = (1, *camera.stored_size[::-1])
        depth_m = torch.where(seen.index >= 0, seen.ray_depth, torch.nan) * view.view_rays.rays[:, 2]
        moves = scene.group_table("body", "head", "held")[seen.index]
        depth = DepthVideo(depth_m=depth_m.reshape(size), camera=camera, dynamic=moves.reshape(size), exo_w2c=w2c)
        rgb = seen.rgb.reshape(*size, 3)
        return OneFrame(rgb=rgb[0], depth=depth, scene=build_scene(rgb, depth))
