"""What a clip's cache holds for training on several exo views: rays of its tokens, and the exo view as a tile.

Each clip tells the rays of its own exo camera and of the ego camera, both in the frame of the ego camera in its first
picture (:mod:`..wan.token_rays`): clips of several exo cameras fit together without a common world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..cameras.model import CameraModel, crop, rescale
from ..errors import EgoXInputError
from ..sizes import FRAMES_PER_LATENT, PIXEL_STEP, RAY_CHANNELS, centre_crop_left
from ..trajectory.poses import compose, invert
from ..types import CameraTrajectory
from ..wan.token_rays import token_rays
from .cache_store import stored
from .clip_files import Clip

DTYPE = torch.float16
"""All values lie in -1...1: no direction is off by more than 0.03 degrees."""


def clip_rays(clip: Clip, tiles: bool) -> dict[str, Tensor]:  # as view_rays
    """The rays of a prepared clip.

    Raises:
        EgoXInputError: see :func:`view_rays`.
    """
    depth, trajectory, record = clip.take.depth, clip.take.trajectory, clip.record
    exo_w2c = depth.exo_w2c if depth.exo_w2c is not None else trajectory.exo_w2c
    if exo_w2c is None:  # the world is the exo camera
        exo_w2c = torch.eye(3, 4, dtype=torch.float64)
    camera = picture_camera(depth.camera, record.exo_size)
    ego = replace(trajectory, camera=rescale(trajectory.camera, *record.ego_size))
    return view_rays(camera, exo_w2c, ego, record.frames, tiles)


def view_rays(
    camera: CameraModel,  # of the exo picture in the canvas
    exo_w2c: Tensor,  # [3, 4] or [T, 3, 4]
    ego: CameraTrajectory,  # in the same world; its camera has the ego half's size
    frames: int,
    tiles: bool,
) -> dict[str, Tensor]:  # [t, h, w, RAY_CHANNELS] float16 each
    """``exo_rays`` and ``ego_rays`` of a clip, with ``tiles`` also ``tile_rays``: parts of what ``canvas_rays`` gives.

    Raises:
        EgoXInputError: see :func:`..wan.token_rays.token_rays` and :func:`tile_size`.
    """
    world_from_frame = invert(ego.w2c[0].double())

    def rays_of(camera: CameraModel, w2c: Tensor, of_ego: float) -> Tensor:
        lines = token_rays(camera, compose(w2c.double(), world_from_frame), frames)
        return stored(torch.cat((lines, lines.new_full((*lines.shape[:3], 1), of_ego)), dim=-1), DTYPE)

    out = {"exo_rays": rays_of(camera, exo_w2c, 0.0), "ego_rays": rays_of(ego.camera, ego.w2c, 1.0)}
    if tiles:
        out["tile_rays"] = rays_of(tile_camera(camera), exo_w2c, 0.0)
    return out


def picture_camera(camera: CameraModel, size: tuple[int, int]) -> CameraModel:
    """The exo camera of the canvas' picture, from that of a depth map, which is cut and scaled as GGA's geometry does.
    """
    width, height = camera.stored_size
    wanted = round(height * size[0] / size[1])
    left = centre_crop_left((width, height), (wanted, height)) or 0
    return rescale(crop(camera, left, 0, min(wanted, width), height), *size)


def tile_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) px of a tile from that of the exo picture: half of it, in width what whole tokens fill.

    Raises:
        EgoXInputError: a height that two rows of tiles can't have.
    """
    width, height = size
    if height % (2 * PIXEL_STEP):
        raise EgoXInputError("tiles of the mosaic", got=f"an exo picture {height} px high",
                             expected=f"a multiple of {2 * PIXEL_STEP} px",
                             fix="prepare clips of another size, or cache without tiles")
    return width // 2 // PIXEL_STEP * PIXEL_STEP, height // 2


def tile_camera(camera: CameraModel) -> CameraModel:
    """The camera of :func:`tile_pictures`, from that of the exo picture.

    Raises:
        EgoXInputError: see :func:`tile_size`.
    """
    (width, height), (full, _) = tile_size(camera.stored_size), camera.stored_size
    return crop(rescale(camera, full // 2, height), (full // 2 - width) // 2, 0, width, height)


def tile_pictures(
    frames: Tensor,  # [T, H, W, 3] uint8
) -> Tensor:  # [T, H / 2, w, 3] uint8
    """The exo pictures at half the size, sides cut off that fill no token.

    Raises:
        EgoXInputError: see :func:`tile_size`.
    """
    width, height = tile_size((frames.shape[2], frames.shape[1]))
    half = frames.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).float().mean((2, 4)).round().to(torch.uint8)
    left = (half.shape[2] - width) // 2
    return half[:, :height, left : left + width].contiguous()


def mirrored_rays(
    rays: Mapping[str, Tensor],  # [t, h, w, RAY_CHANNELS] each
    ego_quarter_turns: int,  # of the ego camera's sensor
) -> dict[str, Tensor]:
    """The rays of the clip whose pictures are mirrored: those of the scene mirrored beside the ego camera."""
    across = torch.ones(3)
    across[ego_quarter_turns % 2] = -1  # the sensor's axis along which the stored picture's columns lie
    signs = torch.cat((across, -across)).repeat(FRAMES_PER_LATENT)  # a moment is a product of two vectors
    signs = torch.cat((signs, torch.ones(RAY_CHANNELS - len(signs))))
    return {name: tensor.flip(2) * signs.to(tensor) for name, tensor in rays.items()}
