"""Where every token of a canvas looks from and to: direction and moment of its rays, true to the lens, in metres.

In the style of Exo2EgoSyn's pose injection with Plücker rays; the paper gives no code. All rays of a clip are told in
one frame, that of the ego camera in its first picture: ego tokens carry the head's motion, exo tokens the relative
pose.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..cameras.model import CameraModel, unproject
from ..errors import EgoXInputError
from ..sizes import FRAMES_PER_LATENT, LINE_NUMBERS, PATCH, PIXEL_STEP, RAY_CHANNELS, latent_frames
from ..trajectory.poses import camera_centre, compose, invert
from ..types import CameraTrajectory, Canvas, Panels
from .panels import panel_width, place_views


def lines_at(
    camera: CameraModel,
    camera_from_frame: Tensor,  # [..., 3, 4]
    uv: Tensor,  # [..., 2] stored pixels
) -> tuple[Tensor, Tensor]:  # directions, moments [..., 3], in the frame; metres
    """The lines that pixels see: unit direction d, and moment p x d of any point p on the line.

    Both are zero where the lens sees nothing.
    """
    rays, seen = unproject(camera, uv)
    directions = torch.einsum("...ij,...i->...j", camera_from_frame[..., :3], rays * seen[..., None])
    return directions, torch.linalg.cross(camera_centre(camera_from_frame).expand_as(directions), directions)


def token_rays(
    camera: CameraModel,  # of the picture in the canvas, sides multiples of 16 px
    camera_from_frame: Tensor,  # [T, 3, 4], or [3, 4] of a camera that stands; T = 4n+1
    frames: int,  # T
) -> Tensor:  # [t, h, w, FRAMES_PER_LATENT * LINE_NUMBERS] float32
    """Directions and moments of the middle of every token, for each of the pictures that its latent stands for.

    A moment m is told as m / (1 + |m|), which a camera far away can't blow up.

    Raises:
        EgoXInputError: sides or frame count that no canvas has, fewer poses than frames.
    """
    t, (width, height) = latent_frames(frames), camera.stored_size
    if width % PIXEL_STEP or height % PIXEL_STEP:
        raise EgoXInputError("picture of the rays", got=f"{width}x{height} px",
                             expected=f"sides that are multiples of {PIXEL_STEP} px",
                             fix="rescale the camera to the picture in the canvas")
    if camera_from_frame.ndim == 3 and len(camera_from_frame) < frames:
        raise EgoXInputError("poses of the rays", got=f"{len(camera_from_frame)} frames", expected=f"{frames} frames",
                             fix="use fewer frames, or a path that covers the clip")
    row, column = torch.meshgrid(*(PIXEL_STEP * torch.arange(side // PIXEL_STEP).double() + (PIXEL_STEP - 1) / 2
                                   for side in (height, width)), indexing="ij")
    poses = camera_from_frame.double()
    poses = poses[:frames] if poses.ndim == 3 else poses.expand(frames, 3, 4)
    poses = torch.cat((poses[:1].expand(FRAMES_PER_LATENT - 1, 3, 4), poses))[:, None]
    directions, moments = lines_at(camera, poses, torch.stack((column, row), dim=-1).flatten(0, 1))
    moments = moments / (1 + moments.norm(dim=-1, keepdim=True))
    lines = torch.cat((directions, moments), dim=-1).view(t, FRAMES_PER_LATENT, *row.shape, LINE_NUMBERS)
    return lines.permute(0, 2, 3, 1, 4).flatten(3).float()


def canvas_rays(
    exo: Sequence[tuple[CameraModel, Tensor]],  # lens of each view's picture in the canvas; w2c [3, 4] or [T, 3, 4]
    ego: CameraTrajectory,  # in the same world; its camera has the ego half's size
    panels: Panels,
    frames: int,
) -> Tensor:  # [t, h, w_exo + w_ego, RAY_CHANNELS] float32
    """The rays of all tokens of a canvas. A tile that no view fills has none.

    Raises:
        EgoXInputError: see :func:`token_rays` and :func:`~.panels.place_views`; views that don't fit the ego half.
    """
    world_from_frame = invert(ego.w2c[0].double())
    views = [token_rays(camera, compose(w2c.double(), world_from_frame), frames).movedim(-1, 0) for camera, w2c in exo]
    exo_half = place_views(views, panels, torch.zeros_like(views[0])).movedim(0, -1)
    ego_half = token_rays(ego.camera, compose(ego.w2c.double(), world_from_frame), frames)
    if exo_half.shape[1] != ego_half.shape[1]:
        raise EgoXInputError("exo pictures of the rays", got=f"an exo half {exo_half.shape[1]} tokens high",
                             expected=f"{ego_half.shape[1]}, as the ego half",
                             fix="rescale each view's camera to its panel, in a mosaic to half of it")
    panel_width(panels, exo_half.shape[1], exo_half.shape[2])
    flagged = [torch.cat((half, half.new_full((*half.shape[:3], 1), flag)), dim=-1)
               for half, flag in ((exo_half, 0.0), (ego_half, 1.0))]
    return torch.cat(flagged, dim=2)


def check_rays(rays: Tensor | None, canvas: Canvas) -> Tensor:
    """Returns the rays if they are those of this canvas' tokens.

    Raises:
        EgoXInputError: none, or of another size.
    """
    t, h, w_exo, w_ego = canvas.latent_grid
    expected = (t, h // PATCH, (w_exo + w_ego) // PATCH, RAY_CHANNELS)
    if rays is None or tuple(rays.shape) != expected:
        raise EgoXInputError("rays of the canvas", got="none" if rays is None else f"shape {tuple(rays.shape)}",
                             expected=f"{list(expected)}", fix="make them with canvas_rays for this canvas")
    return rays
