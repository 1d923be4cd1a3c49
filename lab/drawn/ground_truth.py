"""Compute which pixels both cameras of a synthetic take see, by ray casting."""

import math

import torch
from torch import Tensor

from egox_core.cameras import camera_centre, transform
from egox_core.frozen import frozen
from egox_train.parallel import single_threaded

from .casting import RayBundle, first_hits
from .solids import MOVING_GROUPS, normals
from .take import SyntheticTake
from .views import ViewRays

MAX_INCIDENCE_DEG = 75.0
"""There a pixel covers 3.9 times as much of the surface as when seen from straight ahead."""
SAME_HIT = 1e-3
"""Largest distance of the exo ray's first hit before the point, as a share of its distance
(``benchmarks/results/constants.md``)."""


@frozen
class Covisible:
    """Masks of the ego picture's pixels that the exo camera sees too, static or moving."""

    # [S, S] bool, co-visible (both incidence angles under the bar), standing surface
    static: Tensor
    moving: Tensor  # [S, S] bool, co-visible, moving surface
    # [S, S] bool, inside the exo picture and its first hit there, at any incidence angle
    visible: Tensor
    # [S, S, 2] exo pixel of each ego ray's first hit (meaningless where not visible)
    exo_uv: Tensor


def covisible(take: SyntheticTake, frame: int) -> Covisible:
    """Compute which pixels of the ego picture the exo camera sees too.

    A pixel stands for its centre ray. Incidence angles are those between a ray and the surface
    normal, at both cameras. The head counts as a blocker for exo, as it does in the exo picture,
    though the ego camera looks through it."""
    with single_threaded():
        return _covisible(take, frame)


def _covisible(take: SyntheticTake, frame: int) -> Covisible:
    scene = take.scene
    view_rays = ViewRays.of(take.ego.camera)
    w2c = take.ego.at(frame)
    ego_rays = view_rays.rays @ w2c[:, :3].float()
    index = take.ego_index[frame].reshape(-1).long()
    hit_mask = (index >= 0) & view_rays.valid
    points = (
        camera_centre(w2c).float()
        + ego_rays * take.ego_ray_depth_m[frame].reshape(-1, 1).nan_to_num()
    )
    exo_camera, exo_w2c = take.exo.camera, take.exo.at(frame)
    exo_uv, in_lens_mask = exo_camera.project(transform(exo_w2c, points.double()))
    pixels = (hit_mask & in_lens_mask & exo_camera.inside(exo_uv)).nonzero().squeeze(1)

    exo_centre = camera_centre(exo_w2c).float()
    point_offsets = points[pixels] - exo_centre
    point_distance = point_offsets.norm(dim=-1)
    exo_rays = point_offsets / point_distance[:, None]
    ray_bundle = RayBundle(
        rays=exo_rays, origin=exo_centre[None], frame=None, poses=scene.world_from_solid[[frame]]
    )
    first_hit_depth, _ = first_hits(scene.solids, scene.indices(), ray_bundle)
    unhidden_mask = first_hit_depth >= point_distance * (1 - SAME_HIT)
    pixels, exo_rays = pixels[unhidden_mask], exo_rays[unhidden_mask]

    incidence_cosines = _incidence(
        take, frame, points[pixels], index[pixels], ego_rays[pixels], exo_rays
    )
    facing_mask = incidence_cosines > math.cos(math.radians(MAX_INCIDENCE_DEG))
    moving_mask = scene.group_table(*MOVING_GROUPS)[index]
    visible_mask = torch.zeros_like(hit_mask)
    visible_mask[pixels] = True
    covisible_mask = torch.zeros_like(hit_mask)
    covisible_mask[pixels[facing_mask]] = True
    size = take.ego_index.shape[1:]
    return Covisible(
        static=(covisible_mask & ~moving_mask).reshape(size),
        moving=(covisible_mask & moving_mask).reshape(size),
        visible=visible_mask.reshape(size),
        exo_uv=exo_uv.float().reshape(*size, 2),
    )


def _incidence(
    take: SyntheticTake, frame: int, points: Tensor, index: Tensor, *rays: Tensor
) -> Tensor:
    """Compute the cosine of the angle between rays and surface normals."""
    smallest_cosines = torch.zeros_like(points[:, 0])
    for solid_index in index.unique().tolist():
        solid_rows = (index == solid_index).nonzero().squeeze(1)
        solid, pose = (
            take.scene.solids[solid_index],
            take.scene.world_from_solid[frame, solid_index],
        )
        surface_normals = (
            normals(solid.kind, solid.size, (points[solid_rows] - pose[:, 3]) @ pose[:, :3])
            @ pose[:, :3].T
        )
        smallest_cosines[solid_rows] = torch.stack(
            [-(ray[solid_rows] * surface_normals).sum(-1) for ray in rays]
        ).amin(0)
    return smallest_cosines
