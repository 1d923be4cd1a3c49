"""What exo and ego both see, by exact ray casting: the ground truth for priors and their coverage.

The things of a synthetic take, each tracked by name through the ego picture: masks, and what exo sees of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cameras.model import inside_picture, project
from ..parallel import single_threaded
from ..trajectory.poses import camera_centre
from .casting import RayBundle, first_hits
from .solids import normals
from .take import SyntheticTake
from .views import ViewRays

MAX_INCIDENCE_DEG = 75.0
SAME_HIT = 1e-3
"""How far the exo ray's first hit may lie before the point, as a share of its distance: float32 casting is exact to
about 1e-5 at a slant of 75 degrees, the thinnest solid (a rug) is 12 mm."""
GROUPS = ("object", "held")
"""What lies about and what the hands hold. Furniture and body are no objects: they fill the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covisible:
    """Masks [S, S] over one frame of the stored ego picture."""

    static: Tensor  # co-visible (both incidence angles under the bar), standing surface
    moving: Tensor  # co-visible, moving surface
    visible: Tensor  # inside the exo picture and its first hit there, at any incidence angle
    visible_static: Tensor
    exo_uv: Tensor  # [S, S, 2] exo pixel of each ego ray's first hit (meaningless where not visible)


def covisible(take: SyntheticTake, frame: int, max_incidence_deg: float = MAX_INCIDENCE_DEG) -> Covisible:
    """Which ego pixels' first hit projects inside the exo picture and is the exo ray's first hit there.

    A pixel stands for its centre ray. Incidence angles are those between a ray and the surface normal, at both cameras.
    The head counts as a blocker for exo, as it does in the exo picture, though the ego camera looks through it.
    """
    with single_threaded():
        return _covisible(take, frame, max_incidence_deg)


def _covisible(take: SyntheticTake, frame: int, max_incidence_deg: float) -> Covisible:
    scene = take.scene
    view = ViewRays.of(take.ego_camera)
    w2c = take.ego_w2c[frame]
    ego_rays = view.rays @ w2c[:, :3].float()
    index = take.ego_index[frame].reshape(-1).long()
    hit = (index >= 0) & view.valid
    points = camera_centre(w2c).float() + ego_rays * take.ego_ray_depth_m[frame].reshape(-1, 1).nan_to_num()
    exo_w2c = take.exo_w2c if take.exo_w2c.ndim == 2 else take.exo_w2c[frame]
    exo_uv, in_lens = project(take.exo_camera, (points.double() @ exo_w2c[:, :3].T + exo_w2c[:, 3]))
    chosen = (hit & in_lens & inside_picture(take.exo_camera, exo_uv)).nonzero().squeeze(1)

    exo_centre = camera_centre(exo_w2c).float()
    away = points[chosen] - exo_centre
    far = away.norm(dim=-1)
    exo_rays = away / far[:, None]
    bundle = RayBundle(rays=exo_rays, origin=exo_centre[None], frame=None, poses=scene.world_from_solid[[frame]])
    first, _ = first_hits(scene.solids, scene.indices(), bundle)
    seen = first >= far * (1 - SAME_HIT)
    chosen, exo_rays = chosen[seen], exo_rays[seen]

    cosines = _incidence(take, frame, points[chosen], index[chosen], ego_rays[chosen], exo_rays)
    steep = cosines > math.cos(math.radians(max_incidence_deg))
    moving = scene.group_table("body", "head", "held")[index]
    visible = torch.zeros_like(hit)
    visible[chosen] = True
    both = torch.zeros_like(hit)
    both[chosen[steep]] = True
    size = take.ego_index.shape[1:]
    return Covisible(static=(both & ~moving).reshape(size), moving=(both & moving).reshape(size),
                     visible=visible.reshape(size), visible_static=(visible & ~moving).reshape(size),
                     exo_uv=exo_uv.float().reshape(*size, 2))


def _incidence(take: SyntheticTake, frame: int, points: Tensor, index: Tensor, *rays: Tensor) -> Tensor:
    """Smallest cosine [N] of the incidence angles of the given rays at surface points [N, 3] of solids [N]."""
    cosine = torch.zeros_like(points[:, 0])
    for number in index.unique().tolist():
        chosen = (index == number).nonzero().squeeze(1)
        solid, pose = take.scene.solids[number], take.scene.world_from_solid[frame, number]
        normal = normals(solid.kind, solid.size, (points[chosen] - pose[:, 3]) @ pose[:, :3]) @ pose[:, :3].T
        cosine[chosen] = torch.stack([-(ray[chosen] * normal).sum(-1) for ray in rays]).amin(0)
    return cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeObjects:
    """Objects of one take, in the order in which the scene has them; those that ego never sees are left out."""

    ids: tuple[str, ...]  # N names, as "mug 2"
    masks: Tensor  # [N, T, S, S] bool, in the stored ego picture
    exo_pixels: Tensor  # [N, T] int64, px of the exo picture that show it
    seen_share: Tensor  # [N, T] float32, share of its ego pixels whose surface exo sees too; 0 where not asked for


def take_objects(take: SyntheticTake, least_share: float = 0.0) -> TakeObjects:
    """Masks of all objects.

    Args:
        least_share: what exo sees is only cast for objects that cover at least this share of the ego picture; the
            others keep 0 (casting is most of the work).
    """
    groups = solids_of_objects(take)
    size = take.ego_index.shape[1:]
    if not groups:
        none = torch.zeros(0, len(take.ego_index))
        return TakeObjects(ids=(), masks=torch.zeros(0, *take.ego_index.shape, dtype=torch.bool),
                           exo_pixels=none.long(), seen_share=none)
    table = torch.full((len(take.scene.solids) + 1,), -1, dtype=torch.int64)  # the last entry: a miss
    for number, solids in enumerate(groups.values()):
        table[list(solids)] = number
    ego, exo = table[take.ego_index.long()], table[take.exo_index.long()]
    masks = torch.stack([ego == number for number in range(len(groups))])
    exo_pixels = torch.stack([(exo == number).flatten(1).sum(1) for number in range(len(groups))])
    there = masks.flatten(2).sum(2)
    seen = torch.zeros(there.shape)
    wanted = (there > 0) & (there >= least_share * size[0] * size[1])
    for frame in wanted.any(0).nonzero().flatten().tolist():
        visible = covisible(take, frame).visible
        for number in wanted[:, frame].nonzero().flatten().tolist():
            seen[number, frame] = visible[masks[number, frame]].float().mean()
    kept = there.any(1)
    ids = tuple(name for name, keep in zip(groups, kept.tolist(), strict=True) if keep)
    return TakeObjects(ids=ids, masks=masks[kept], exo_pixels=exo_pixels[kept], seen_share=seen[kept])


def solids_of_objects(take: SyntheticTake) -> dict[str, tuple[int, ...]]:
    """Solids by object: a mug's handle belongs to the mug that it follows; equal things are numbered."""
    found: list[tuple[str, list[int]]] = []
    for index, solid in enumerate(take.scene.solids):
        if solid.group not in GROUPS:
            continue
        if found and found[-1][1][-1] == index - 1 and solid.name.startswith(found[-1][0] + " "):
            found[-1][1].append(index)
        else:
            found.append((solid.name, [index]))
    counts: dict[str, int] = {}
    named = {}
    for name, solids in found:
        counts[name] = counts.get(name, 0) + 1
        named[f"{name} {counts[name]}"] = tuple(solids)
    return named
