"""Where ego rays run through exo pictures, by the cameras' own lenses, and what each exo pixel is
told of its place.

Picture places are normalised as ``grid_sample`` has them: -1 and 1 are the outlines, whatever the
size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..cameras.model import CameraModel, inside_picture, pixel_rays, project, rescale
from ..trajectory.poses import camera_centre, compose, invert, sensor_from_upright
from .moment import ViewMoment

EXO_HEIGHT = 128  # px, of the pictures that are read; sides are multiples of EXO_STEP
EXO_STEP = 16
COARSE_SIDE, COARSE_STEP = 32, 4  # rays along the longer side of the ego picture
NEAREST_M, FARTHEST_M = 0.15, 6.0  # of the samples along an ego ray
EXO_NEAREST_M, EXO_FARTHEST_M = 0.5, 9.0  # of the depths that an exo pixel may be thought to have
EXO_CHANNELS = 14  # see exo_maps


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewBatch:
    """Moments with equally many views and ego cameras, as the network takes them; metres,
    float32."""

    exo: Tensor  # [B, V, 3, H, W] 0...1
    cameras: tuple[tuple[CameraModel, ...], ...]  # B of V, of those pictures
    exo_from_ego: Tensor  # [B, N, V, 3, 4]
    ego_cameras: tuple[CameraModel, ...]  # B
    head: Tensor  # [B, V, 3] where the wearer's head is, in each exo camera's frame
    up: Tensor  # [B, V, 3] against gravity in each exo camera's frame; zeros: unknown
    ego_up: Tensor  # [B, N, 3] the same in the ego cameras' frames

    def to(self, device: torch.device | str) -> ViewBatch:
        """The same on another device."""
        return replace(
            self,
            **{
                f.name: getattr(self, f.name).to(device)
                for f in fields(self)
                if isinstance(getattr(self, f.name), Tensor)
            },
        )


def round_to(value: float, step: int) -> int:
    """The nearest multiple of ``step``, at least one."""
    return max(1, round(value / step)) * step


def coarse_size(
    width: int, height: int
) -> tuple[int, int]:  # of the ego picture -> (columns, rows) of coarse rays
    """How many rays are followed through the room."""
    scale = COARSE_SIDE / max(width, height)
    return round_to(width * scale, COARSE_STEP), round_to(height * scale, COARSE_STEP)


def batch_views(
    moments: Sequence[ViewMoment],
    views: Sequence[Sequence[int]],  # B of V: which exo pictures, in which order
    w2c: Sequence[Tensor],  # B of [N, 3, 4] float64, ego_from_world
    heads: Sequence[Tensor] | None = None,  # B of [3], world; None: the first ego camera's centre
) -> ViewBatch:
    """Pictures scaled to the height that the network reads, and poses between the cameras."""
    exo, cameras, poses, head, up, ego_up = [], [], [], [], [], []
    for number, (moment, chosen, ego) in enumerate(zip(moments, views, w2c, strict=True)):
        chosen = list(chosen)
        pictures = moment.exo[chosen].movedim(3, 1).float() / 255
        height, width = pictures.shape[2:]
        size = (EXO_HEIGHT, round_to(EXO_HEIGHT * width / height, EXO_STEP))
        if size != (height, width):
            pictures = interpolate(pictures, size, mode="area")
        exo_w2c = moment.exo_w2c[chosen]
        centre = camera_centre(ego[0]) if heads is None else heads[number]
        world_up = torch.zeros(3, dtype=torch.float64) if moment.up is None else moment.up.double()
        exo.append(pictures)
        cameras.append(
            tuple(rescale(moment.exo_cameras[view], size[1], size[0]) for view in chosen)
        )
        poses.append(compose(exo_w2c[None], invert(ego)[:, None]))
        head.append(exo_w2c[..., :3] @ centre + exo_w2c[..., 3])
        up.append(exo_w2c[..., :3] @ world_up)
        ego_up.append(ego[..., :3] @ world_up)
    return ViewBatch(
        exo=torch.stack(exo),
        cameras=tuple(cameras),
        exo_from_ego=torch.stack(poses).float(),
        ego_cameras=tuple(m.ego_camera for m in moments),
        head=torch.stack(head).float(),
        up=torch.stack(up).float(),
        ego_up=torch.stack(ego_up).float(),
    )


@lru_cache(maxsize=256)
def camera_rays(
    camera: CameraModel,
    width: int,
    height: int,
    device: torch.device,
) -> Tensor:  # [height, width, 3]
    """Unit rays of the picture at this size, in sensor axes."""
    return pixel_rays(rescale(camera, width, height), dtype=torch.float64)[0].float().to(device)


def upright(
    vectors: Tensor, camera: CameraModel
) -> Tensor:  # [..., 3] in sensor axes -> in the stored picture's
    """Vectors in axes that don't depend on how the sensor lies."""
    return vectors @ sensor_from_upright(camera.quarter_turns).to(vectors)


def exo_maps(batch: ViewBatch) -> Tensor:  # [B, V, EXO_CHANNELS, H, W]
    """Each exo pixel's colour, ray, nearness to the head (how near, how far along the ray), head
    and gravity."""
    maps = []
    for pictures, cameras, heads, ups in zip(
        batch.exo, batch.cameras, batch.head, batch.up, strict=True
    ):
        for picture, camera, head, up in zip(pictures, cameras, heads, ups, strict=True):
            height, width = picture.shape[1:]
            rays = camera_rays(camera, width, height, picture.device)
            along = rays @ head
            off = (head - along[..., None] * rays).norm(dim=-1)
            near = torch.stack((along / 3, torch.exp(-off / 0.5)), dim=-1)
            constant = torch.cat((upright(head, camera) / 3, upright(up, camera))).expand(
                height, width, 6
            )
            maps.append(
                torch.cat(
                    (
                        picture * 2 - 1,
                        torch.cat((upright(rays, camera), near, constant), dim=-1).movedim(-1, 0),
                    )
                )
            )
    return torch.stack(maps).unflatten(0, batch.exo.shape[:2])


def project_points(
    camera: CameraModel,
    points: Tensor,  # [..., 3] metres in the camera's frame
) -> tuple[Tensor, Tensor]:  # places [..., 2] in -1...1, seen [...] bool
    """Normalised places in the picture; which points the lens shows inside it."""
    uv, valid = project(camera, points)
    size = uv.new_tensor(camera.stored_size)
    return ((2 * uv + 1) / size - 1).clamp(-4, 4), valid & inside_picture(camera, uv)


def exo_depth_place(
    distance_m: Tensor,
) -> Tensor:  # [...] metres from the exo camera -> [...] -1...1
    """Place of a distance among the depths that an exo pixel may have, evenly in its logarithm."""
    share = (distance_m.clamp_min(1e-3) / EXO_NEAREST_M).log() / math.log(
        EXO_FARTHEST_M / EXO_NEAREST_M
    )
    return share.clamp(0, 1) * 2 - 1


def ray_depths(count: int) -> Tensor:  # [count] metres
    """Distances of the samples along an ego ray, evenly in their logarithm."""
    return torch.logspace(math.log10(NEAREST_M), math.log10(FARTHEST_M), count)


def follow(
    batch: ViewBatch,
    rays: Sequence[Tensor],  # B of [R, 3] unit, ego sensor axes
    depth_m: Tensor,  # [B, N, R, K] along those rays
) -> tuple[
    Tensor, Tensor
]:  # places [B, V, N, R, K, 3] in -1...1 (column, row, depth), told [B, V, N, R, K, 2]
    """Each sample of each ego ray in every exo picture. Told: seen inside the picture (0 or 1),
    and the cosine between
    the rays of both cameras there. Differentiable in the depth."""
    places, told = [], []
    for number, cameras in enumerate(batch.cameras):
        for view, camera in enumerate(cameras):
            pose = batch.exo_from_ego[number, :, view]  # [N, 3, 4]
            turned = rays[number] @ pose[..., :3].mT  # [N, R, 3]
            points = turned[:, :, None] * depth_m[number][..., None] + pose[:, None, None, :, 3]
            place, seen = project_points(camera, points)
            distance = points.norm(dim=-1).clamp_min(1e-6)
            cosine = (points * turned[:, :, None]).sum(-1) / distance
            places.append(torch.cat((place, exo_depth_place(distance)[..., None]), dim=-1))
            told.append(torch.stack((seen.to(cosine), cosine), dim=-1))
    shape = batch.exo.shape[:2]
    return torch.stack(places).unflatten(0, shape), torch.stack(told).unflatten(0, shape)
