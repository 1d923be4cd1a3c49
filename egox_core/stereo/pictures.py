"""Draw both eyes' views side by side, as a flat screen or a VR180 half sphere."""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import CameraModel
from ..choices import Stabilise
from ..errors import EgoXInputError, check_choice
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..trajectory import Up, find_up
from ..types import CameraTrajectory
from .warp import sample_at

MAX_EYE_PX = 2048
FEATHER_RAD = 0.05
"""Width of the half sphere's soft border."""


@frozen
class StereoForm:
    """Distance between the eyes, and format of the pictures for a headset.

    Raises:
        EgoXInputError: an unknown choice, a side that is odd, under 64 px or over 2048, eyes not 1
            to 200 mm apart.
    """

    layout: Literal["VR180", "flat"] = "VR180"
    eye_px: int = 1024  # side of each eye's square picture
    stabilise: Stabilise = "full"  # of VR180
    eyes_m: float = 0.063  # from eye to eye, as grown-ups have them
    screen_m: float = 0.0  # where the flat screen lies, metres; 0: as far as can be
    fov_deg: float = 90.0  # of the flat picture, across

    def __post_init__(self) -> None:
        check_choice("stereo layout", self.layout, ("VR180", "flat"))
        check_choice("stabilisation", self.stabilise, get_args(Stabilise))
        side, eye_distance_m = self.eye_px, self.eyes_m
        if side % 2 or not 64 <= side <= MAX_EYE_PX or not 0.001 <= eye_distance_m <= 0.2:
            raise EgoXInputError(
                "pair of eyes",
                got=f"{side} px each, {1000 * eye_distance_m:g} mm apart",
                expected=f"an even number, 64 to {MAX_EYE_PX}, and 1 to 200 mm",
                fix="headsets decode no larger pair; a grown-up's eyes are 63 mm apart",
            )

    def axes(
        self,
        trajectory: CameraTrajectory,
        up: Up | None = None,  # None: as the cameras tell it
    ) -> Tensor:  # [T, 3, 3] float64
        """Compute each frame's rotation from the stereo picture's axes to the upright picture's.

        ``horizon`` turns the picture until the horizon is level; ``full`` also holds it at the
        clip's mean direction, from where it wanders as the head turns; ``upright`` does the same
        and sets it level, so that the world's vertical is the viewer's (see :meth:`word`).
        """
        if self.layout == "flat" or self.stabilise == "off":
            return torch.eye(3).double().expand(len(trajectory.ego.w2c), 3, 3)
        up = up or _up_of_cameras(trajectory)
        down = -up.direction
        upright_rotations = trajectory.ego.upright_w2c[..., :3]
        mean_rotations = (
            upright_rotations
            if self.stabilise == "horizon"
            else upright_rotations.mean(0, keepdim=True)
        )
        forward = F.normalize(mean_rotations[:, 2], dim=-1)
        # Straight down, where no direction is level, the picture's own is taken.
        right = torch.linalg.cross(down.expand_as(forward), forward) + 1e-3 * mean_rotations[:, 0]
        if self.stabilise == "upright" and up.known:
            right = F.normalize(right - (right * down).sum(-1, keepdim=True) * down, dim=-1)
            forward = torch.linalg.cross(right, down.expand_as(right))
        right = F.normalize(right - (right * forward).sum(-1, keepdim=True) * forward, dim=-1)
        return upright_rotations @ torch.stack(
            (right, torch.linalg.cross(forward, right), forward), -1
        )

    def word(self, up: Up) -> str:
        """Describe how the pictures were levelled by the setting ``upright``, or return ""."""
        if self.layout == "flat" or self.stabilise != "upright":
            return ""
        pitch_words = "" if up.known else ": the head's mean pitch is kept, as with stabilise full"
        return f"Level: {up.text()}{pitch_words}"

    def rays(self, camera: CameraModel) -> Tensor:  # [1, S, S, 3] of both eyes, or [2, S, S, 3]
        """Compute the viewing ray of each pixel of the stereo picture, float64."""
        if self.layout == "VR180":
            columns = torch.arange(self.eye_px, dtype=torch.float64)
            pixel_angles = ((columns + 0.5) / self.eye_px - 0.5) * torch.pi
            latitude, longitude = torch.meshgrid(pixel_angles, pixel_angles, indexing="ij")
            x, z = latitude.cos() * longitude.sin(), latitude.cos() * longitude.cos()
            return torch.stack((x, latitude.sin(), z), -1)[None]
        flat_lens = camera.rescale(self.eye_px, self.eye_px).as_pinhole(self.fov_deg).upright()
        rays, _ = flat_lens.pixel_rays(torch.float64)
        eye_shifts = torch.zeros(2, 1, 1, 3)
        if self.screen_m:
            eye_shifts[..., 0] = (
                torch.tensor([1, -1]).view(2, 1, 1) * self.eyes_m / 2 / self.screen_m
            )
        return rays / rays[..., 2:] + eye_shifts


def _up_of_cameras(trajectory: CameraTrajectory) -> Up:
    exos = () if trajectory.exo is None else (trajectory.exo,)
    return find_up(exos, trajectory.ego)


def stereo_pictures(
    left: Tensor,  # [T, H, W, 3] float 0...1, stored orientation
    right: Tensor,  # [T, H, W, 3] of :func:`.right_eye.second_eye` for the same path and form
    trajectory: CameraTrajectory,
    form: StereoForm,
    *,
    # As SecondEye has it.
    up: Up | None = None,
    progress: Progress = no_progress,
) -> Iterator[Tensor]:  # of [S, 2 S, 3] float32
    """Draw both eyes side by side, left eye first, black where the lens saw nothing."""
    _, height, width, _ = left.shape
    lens = trajectory.ego.camera.rescale(width, height).upright()
    rays = form.rays(lens)
    for index, (axes, *eyes) in enumerate(zip(form.axes(trajectory, up), left, right, strict=True)):
        progress(index, len(left), "both eyes as a headset reads them")
        places, shares = _lens_positions(lens, rays @ axes.T, form)
        yield torch.cat(
            [
                sample_at(eye.float().cpu(), places_of_eye) * share
                for eye, places_of_eye, share in zip(
                    eyes, places.expand(2, -1, -1, -1), shares.expand(2, -1, -1, -1), strict=True
                )
            ],
            1,
        )
    progress(len(left), len(left), "both eyes as a headset reads them")


def _lens_positions(
    lens: CameraModel, rays: Tensor, form: StereoForm
) -> tuple[Tensor, Tensor]:  # [N, S, S, 2] float32 px, NaN outside; [N, S, S, 1]
    """Find the lens pixels of rays, and how opaque each is shown, 0...1."""
    positions, valid = lens.project(rays)
    valid &= lens.inside(positions)
    positions = positions.where(valid[..., None], torch.nan).float()
    if form.layout == "flat":
        return positions, torch.ones_like(positions[..., :1])
    size = positions.new_tensor(lens.stored_size)
    axis, _ = lens.project(rays.new_tensor((0.0, 0.0, 1.0)))
    rim_distance = torch.minimum(positions, size - 1 - positions).amin(-1)
    rim_distance = torch.minimum(
        rim_distance, size.min() / 2 - (positions - axis.float()).norm(dim=-1)
    )
    return positions, (rim_distance / (FEATHER_RAD * lens.fx)).clamp(0, 1).nan_to_num(0.0)[
        ..., None
    ]
