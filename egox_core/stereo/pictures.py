"""Both eyes side by side, as a flat screen or as the half sphere of a VR180 video."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ..cameras import CameraModel
from ..errors import EgoXInputError, check_choice
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..trajectory import down_axis
from ..types import CameraTrajectory
from .warp import sample_at

MAX_EYE_PX = 2048
EYES_M = 0.063
"""Metres between a grown-up's eyes."""
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
    stabilise: Literal["full", "horizon", "off"] = "full"  # of the half sphere
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
        exo_w2c = trajectory.exo_w2c
        still = torch.eye(3, 4, dtype=torch.float64)[None] if exo_w2c is None else exo_w2c
        down = down_axis(
            still.reshape(-1, 3, 4)[:1], trajectory.w2c, trajectory.camera.quarter_turns
        )
        upright = trajectory.camera.upright_poses(trajectory.w2c)[..., :3]
        right, _, ahead = upright.unbind(-2)
        if self.stabilise == "full":
            right, ahead = (axis.mean(0).expand_as(axis) for axis in (right, ahead))
        z = torch.nn.functional.normalize(ahead, dim=-1)
        # Straight down, where no direction is level, the picture's own is taken.
        x = torch.linalg.cross(down.expand_as(z), z) + 1e-3 * right
        x = torch.nn.functional.normalize(x - (x * z).sum(-1, keepdim=True) * z, dim=-1)
        return upright @ torch.stack((x, torch.linalg.cross(z, x), z), -1)

    def rays(self, camera: CameraModel, eyes_m: float) -> Tensor:  # [1 or 2, S, S, 3]
        """Rays of the written picture, for both eyes or each."""
        side = torch.arange(self.eye_px, dtype=torch.float64)
        if self.layout == "VR180":
            angle = ((side + 0.5) / self.eye_px - 0.5) * torch.pi
            down, across = torch.meshgrid(angle, angle, indexing="ij")
            x, z = down.cos() * across.sin(), down.cos() * across.cos()
            return torch.stack((x, down.sin(), z), -1)[None]
        flat = camera.rescale(self.eye_px, self.eye_px).as_pinhole(self.fov_deg).upright()
        rays = flat.unproject(flat.pixel_grid(torch.float64))[0]
        rays = rays / rays[..., 2:]
        if not self.screen_m:
            return rays[None]
        shift = rays.new_tensor((eyes_m / 2 / self.screen_m, 0.0, 0.0))
        return torch.stack((rays + shift, rays - shift))


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
    height, width = left.shape[1:3]
    lens = camera.rescale(width, height).upright()
    rays = form.rays(camera, eyes_m)
    places = []
    for index, pair in enumerate(zip(left, right, strict=True)):
        progress(index, len(left), "both eyes as a headset reads them")
        if axes is not None or not places:
            turned = rays if axes is None else rays @ axes[index].T
            places = [_places(lens, each, form.layout == "VR180") for each in turned]
        eyes = [
            sample_at(picture.float().cpu(), place) * fade
            for picture, (place, fade) in zip(pair, places * (3 - len(places)), strict=True)
        ]
        yield torch.cat(eyes, 1)
    progress(len(left), len(left), "both eyes as a headset reads them")


def _places(
    lens: CameraModel, rays: Tensor, feathered: bool
) -> tuple[Tensor, Tensor]:  # [S, S, 2] float32 px, NaN outside; [S, S, 1] share of the picture
    """Where the lens has some rays, and how much of them is shown."""
    place, valid = lens.project(rays)
    valid &= lens.inside(place)
    place = torch.where(valid[..., None], place, torch.nan).float()
    if not feathered:
        return place, valid[..., None].float()
    size = place.new_tensor(lens.stored_size)
    axis = lens.project(rays.new_tensor((0.0, 0.0, 1.0)))[0].float()
    rim = torch.minimum(place, size - 1 - place).amin(-1)
    rim = torch.minimum(rim, size.min() / 2 - (place - axis).norm(dim=-1))
    return place, (rim / (FEATHER_RAD * lens.fx)).clamp(0, 1).nan_to_num(0.0)[..., None]
