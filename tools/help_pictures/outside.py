"""The scene's points from a place where no camera of the take stands, with cameras and paths drawn in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.cameras.model import CameraModel, project, unproject
from egox_core.prior.drawing import draw_points
from egox_core.prior.options import PriorOptions, prior_preset
from egox_core.scene.points import select
from egox_core.trajectory.poses import camera_centre, invert, look_at, transform
from egox_core.types import PointSet

from .sheet import as_bytes

GROUND = (0.10, 0.10, 0.12)
EXO_INK, EGO_INK = (255, 190, 60), (90, 220, 255)  # RGB
MORE = 2  # drawn so many times larger, for thin lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A pinhole camera somewhere in the room's world (z up)."""

    w2c: Tensor
    size: tuple[int, int]  # px
    camera: CameraModel = field(init=False)
    view_deg: float = 55.0

    def __post_init__(self) -> None:
        width, height = (MORE * n for n in self.size)
        focal = width / 2 / float(np.tan(np.radians(self.view_deg) / 2))
        object.__setattr__(self, "camera", CameraModel(lens="pinhole", width=width, height=height, fx=focal, fy=focal,
                                                       cx=(width - 1) / 2, cy=(height - 1) / 2))

    @staticmethod
    def at(position: Tensor, target: Tensor, size: tuple[int, int], *, up: Tensor | tuple = (0.0, 0.0, 1.0),
           view_deg: float = 55.0) -> Outlook:
        return Outlook(w2c=look_at(position, target, up=up), size=size, view_deg=view_deg)

    def points(self, points: PointSet, below_m: float | None = None) -> np.ndarray:
        """The picture of the points, those higher than ``below_m`` left out: [H, W, 3] uint8, larger than ``size``."""
        if below_m is not None:
            points = select(points, points.xyz[:, 2] < below_m)
        clean = prior_preset("clean")
        options: PriorOptions = replace(clean, supersample=1, max_stray=0.05, gap_reach=1.5, gap_px=6.0,
                                        device="cpu")
        drawn = draw_points(points, self.camera, self.w2c, options)
        ground = torch.tensor(GROUND).expand_as(drawn.rgb)
        return as_bytes(torch.where(drawn.coverage[..., None], drawn.rgb, ground))

    def line(self, picture: np.ndarray, world: Tensor, ink: tuple[int, int, int], thickness: int = 3) -> None:
        """A way [N, 3] through the world; left out where it passes behind this camera."""
        uv, valid = project(self.camera, transform(self.w2c, world.double()))
        if not bool(valid.all()):
            return
        corners = uv.round().int().numpy()
        for colour, width in (((0, 0, 0), MORE * thickness + 3), (ink, MORE * thickness)):
            cv2.polylines(picture, [corners], False, colour, width, cv2.LINE_AA)

    def frustum(self, picture: np.ndarray, w2c: Tensor, camera: CameraModel, ink: tuple[int, int, int],
                length_m: float = 0.4, thickness: int = 2) -> None:
        """A camera: its picture's corners at a distance, joined with its place."""
        width, height = camera.stored_size
        corners = torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=torch.float64)
        rays, _ = unproject(camera, corners)
        there = transform(invert(w2c), length_m * rays / rays[:, 2:])
        centre = camera_centre(w2c)
        self.line(picture, torch.cat((there, there[:1])), ink, thickness)
        for corner in there:
            self.line(picture, torch.stack((centre, corner)), ink, thickness)

    def gaze(self, picture: np.ndarray, w2c: Tensor, ink: tuple[int, int, int], length_m: float = 0.35,
             thickness: int = 2) -> None:
        """Where a camera stands (a dot) and which way it looks (a stroke): a fisheye's rim would say little."""
        centre = camera_centre(w2c)
        self.line(picture, torch.stack((centre, centre + length_m * w2c[2, :3])), ink, thickness)
        uv, valid = project(self.camera, transform(self.w2c, centre[None]))
        if bool(valid.all()):
            place = tuple(uv[0].round().int().tolist())
            cv2.circle(picture, place, MORE * 5, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(picture, place, MORE * 4, ink, -1, cv2.LINE_AA)
