"""Both eyes side by side, as a flat screen or as the half sphere of a VR180 video."""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import CameraModel
from ..errors import EgoXInputError, check_choice
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..trajectory import down_axis
from ..types import CameraTrajectory
from .warp import sample_at

EYES_M = 0.063
"""Metres between a grown-up's eyes."""
MAX_EYE_PX = 2048
FEATHER_RAD = 0.05
"""Width of the half sphere's soft border."""


@frozen
class StereoForm:
    """Form of the pictures that a headset reads.

    Raises:
        EgoXInputError: an unknown choice, a side that is odd, under 64 px or over 2048.
    """

    layout: Literal["VR180", "flat"] = "VR180"
    eye_px: int = 1024  # side of each eye's square picture
    stabilise: Literal["full", "horizon", "off"] = "full"  # of VR180
    fov_deg: float = 90.0  # of the flat picture, across
    screen_m: float = 0.0  # where the flat screen lies, metres; 0: as far as can be

    def __post_init__(self) -> None:
        check_choice("stereo layout", self.layout, ("VR180", "flat"))
        check_choice("stabilisation", self.stabilise, ("full", "horizon", "off"))
        if self.eye_px % 2 or not 64 <= self.eye_px <= MAX_EYE_PX:
            raise EgoXInputError(
                "side of an eye's picture",
                got=f"{self.eye_px} px",
                expected=f"an even number, 64 to {MAX_EYE_PX}",
                fix="headsets decode no more than two eyes of that size",
            )

    def axes(
        self, trajectory: CameraTrajectory
    ) -> Tensor | None:  # [T, 3, 3] float64; None: the same
        """Axes of the written picture in those of the upright one, for each frame.

        ``horizon`` turns the picture until the horizon is level; ``full`` also holds it at the clip's
        mean direction, from where it wanders as the head turns.
        """
        if self.layout == "flat" or self.stabilise == "off":
            return None
        w2c, camera, exo_w2c = trajectory.w2c, trajectory.camera, trajectory.exo_w2c
        exo_w2c = torch.eye(3, 4) if exo_w2c is None else exo_w2c.view(-1, 3, 4)[0]
        down = down_axis(exo_w2c[None], w2c, camera.quarter_turns)
        upright = camera.upright_poses(w2c)[..., :3]
        mean = upright.mean(0, keepdim=True) if self.stabilise == "full" else upright
        z = F.normalize(mean[:, 2], dim=-1)
        # Straight down, where no direction is level, the picture's own is taken.
        x = torch.linalg.cross(down.expand_as(z), z) + 1e-3 * mean[:, 0]
        x = F.normalize(x - (x * z).sum(-1, keepdim=True) * z, dim=-1)
        return upright @ torch.stack((x, torch.linalg.cross(z, x), z), -1)

    def rays(self, camera: CameraModel, eyes_m: float) -> Tensor:  # [2, S, S, 3] float64
        """Rays of the written picture, for each eye."""
        if self.layout == "VR180":
            side = torch.arange(self.eye_px, dtype=torch.float64)
            angle = ((side + 0.5) / self.eye_px - 0.5) * torch.pi
            down, across = torch.meshgrid(angle, angle, indexing="ij")
            x, z = down.cos() * across.sin(), down.cos() * across.cos()
            return torch.stack((x, down.sin(), z), -1).expand(2, -1, -1, -1)
        flat = camera.rescale(self.eye_px, self.eye_px).as_pinhole(self.fov_deg).upright()
        rays, _ = flat.pixel_rays(torch.float64)
        shift = torch.zeros(2, 1, 1, 3)
        if self.screen_m:
            shift[..., 0] = torch.tensor([1.0, -1.0]).view(2, 1, 1) * eyes_m / 2 / self.screen_m
        return rays / rays[..., 2:] + shift


def stereo_pictures(
    left: Tensor,  # [T, H, W, 3] float 0...1, stored orientation
    right: Tensor,  # [T, H, W, 3]
    camera: CameraModel,  # of both
    form: StereoForm,
    *,
    eyes_m: float = EYES_M,
    axes: Tensor | None = None,  # of :meth:`StereoForm.axes`, as the right eye was made with
    progress: Progress = no_progress,
) -> Iterator[Tensor]:  # of [S, 2 S, 3] float32
    """Both eyes side by side, the left one first; black where the lens saw nothing."""
    _, height, width, _ = left.shape
    lens = camera.rescale(width, height).upright()
    rays, places = form.rays(camera, eyes_m), []
    for index, pair in enumerate(zip(left, right, strict=True)):
        progress(index, len(left), "both eyes as a headset reads them")
        if axes is not None or not places:
            turned = rays if axes is None else rays @ axes[index].T
            # Half spheres of both eyes have one direction at each pixel.
            places = [_places(lens, each, form) for each in turned[: 1 + (form.layout == "flat")]]
        shown = zip(pair, (places[0], places[-1]), strict=True)
        yield torch.cat([sample_at(eye.float().cpu(), at) * fade for eye, (at, fade) in shown], 1)
    progress(len(left), len(left), "both eyes as a headset reads them")


def _places(
    lens: CameraModel, rays: Tensor, form: StereoForm
) -> tuple[Tensor, Tensor]:  # [S, S, 2] float32 px, NaN outside; [S, S, 1] share of the picture
    """Find the places of rays in the lens, and how much of each is shown."""
    place, valid = lens.project(rays)
    valid &= lens.inside(place)
    place = place.where(valid[..., None], torch.nan).float()
    if form.layout == "flat":
        return place, torch.ones(())
    size = place.new_tensor(lens.stored_size)
    axis, _ = lens.project(rays.new_tensor((0.0, 0.0, 1.0)))
    rim = torch.minimum(place, size - 1 - place).amin(-1)
    rim = torch.minimum(rim, size.min() / 2 - (place - axis.float()).norm(dim=-1))
    return place, (rim / (FEATHER_RAD * lens.fx)).clamp(0, 1).nan_to_num(0.0)[..., None]
