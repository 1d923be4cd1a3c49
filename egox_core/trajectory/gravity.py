"""Up in a clip's world: one direction, weighed from all that tells it, with its uncertainty.

Each source rates every direction: right-hand axes of exo cameras are level, as are those of the wearer's
head while people stand or sit; floor and tables face up, and walls stand. A source's rating says how
sure it is: errors of a posture or of a network's depth are part of it. A world axis is taken only
where the file's form allows it and it is near the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from ..cameras import CameraPath
from ..frame_store import sample_frames
from ..frozen import frozen
from ..types import DepthVideo, PointCloud

DIRECTIONS = 6000
"""Directions of the first look at the whole sphere: one each 2.6 degrees."""
STEP = math.radians(2.6)
NEAR_DEG, FINE, PEAKS = 6.0, 31, 5
"""Radius around the best of them that is looked at again, directions across it, and how many best."""
SHARE = 0.9
"""Share of the errors that are smaller than :attr:`Up.within_deg`."""
KNOWN_DEG = 30.0
"""An answer that is less sure than this is none: it doesn't tell a head that stands from one that
lies on its side."""
AXIS_DEG = 10.0
"""Most that a world axis is off the answer of all else where it is likelier than not; farther off it takes nine
tenths. By chance 4.6 % of directions are so near to one."""
EXO_LEVEL = ((0.6, math.radians(1.5)), (0.4, math.radians(8.0)))
"""Share and standard deviation of exo cameras' roll: on a tripod, as drawn takes have it, and in a hand or
wedged (judged)."""
EXO_PITCH = math.radians(-15.0), math.radians(35.0)
"""Mean and spread of exo cameras' pitch: judged, wide enough for a low phone and a high corner."""
NO_EXO = 1e-4
"""Share of exo cameras that are rolled by anything, or whose poses are wrong."""
OVERHEAD = 0.1
"""Share of exo cameras of any pitch: over a table, under a ceiling."""
HEAD_ROLL = math.radians(6.0), math.radians(4.0)
"""Spread of a head's mean roll over people and tasks, and of its roll within a clip: judged, as
``head_search.LEAN_SIGMAS_DEG``."""
HEAD_PITCH = math.radians(-25.0), math.radians(25.0)
"""Mean and spread of the gaze's pitch: hands are looked at from above."""
LYING = 0.05
"""Share of heads that say nothing: who lies, bends, climbs."""
GAZE_S = 1.0
"""Seconds after which a head's roll is another one."""
PATCH_PX, PATCHES = 4, 40
"""Side of a patch in px of the thinned depth, and patches across a picture."""
FLAT = 0.01
"""Relative residual of inverse depth over a patch of one surface; a network's outlines bleed more."""
SURFACES = 25.0
"""Independent surfaces of a picture: as many as the errors of planes in drawn takes have, whose depth errors
stay alike over a quarter of the height (``lab/drawn/depth_errors.py``)."""
SLANT, SLANTS = ((0.8, 0.06), (0.2, 0.3)), 61
"""Share and standard deviation (a tangent) of the slant that a network's shift of inverse depth, or a wrong
lens, gives all surfaces alike; and how many are tried. The first is what a shift by a tenth of the median does
to the drawn takes' floors, the second is judged: depth by whose surfaces nothing can be told."""
FLOOR, CEILING = 0.45, 0.1
"""Share of the planes of a picture that face up, and down; the others stand."""
SURE, SMALL = 0.9, 0.04
"""Share of large planes that are level or standing, and the share of all surface at which it is half of
that: small ones are slopes, backs of chairs, a network's blobs."""
LEAST_SHARE = 0.03
SAME_DEG = 8.0
"""Spread of normals that are taken for one plane's; a network's are that far off."""
LEAST_DEG = 0.3
"""Error of a plane's direction however exact its depth is."""
DEPTH_FRAMES = 3
GRAVITY_WORLDS = 2 / 3
"""Share of worlds with an axis along gravity, where the form doesn't tell: judged, as in the drawn takes."""
AXIS_SURE = 0.99
"""Chance from which on an axis is claimed to a degree: in 48 drawn worlds that are off gravity by 15
degrees cameras alone gave .985 at most (seeds 5000 to 5023), in 24 along gravity .25 to .993."""
SAME_POSE = 1e-3
"""Difference of a turn from the identity, in any number, of a camera whose axes are its world's: files
round to three digits."""
AXIS_ERROR_DEG = 1.0
"""Error of such an axis: trackers find gravity to tenths of a degree."""


@frozen
class Up:
    """The upward direction of a world, and what is known of it."""

    direction: Tensor  # [3] float64, unit, world
    within_deg: float  # nine of ten errors are smaller
    evidence: tuple[str, ...]  # sources without which it would be less sure

    @property
    def known(self) -> bool:
        """False where it may be anything."""
        return self.within_deg <= KNOWN_DEG

    def text(self) -> str:
        """Write one remark for people."""
        sources = " and ".join(self.evidence) or "nothing"
        if not self.known:
            return f"where up is isn't known: by {sources} within {self.within_deg:.0f} degrees"
        return f"up from {sources}, within {max(1.0, self.within_deg):.0f} degrees"


def find_up(
    # Exo cameras of one world.
    exos: Sequence[CameraPath],
    # The wearer's camera in it.
    ego: CameraPath | None = None,
    # Depth of exo cameras in it.
    depths: Sequence[DepthVideo] = (),
) -> Up:
    """Find the upward direction of a world by cameras and surfaces in it."""
    surfaces = [(_planes(depth), depth.exo.w2c[0, 2, :3]) for depth in depths]

    def rate(at: Tensor, step: float) -> dict[str, Tensor]:  # [N, 3], their distance -> [N] each
        ratings_there = {"the exo camera's level": _by_exos(at, exos, step)} if exos else {}
        if ego is not None:
            ratings_there["the head's path"] = _by_head(at, ego)
        if any(planes for planes, _ in surfaces):
            by_depth = [
                _by_surfaces(at, planes, camera_forward, step)
                for planes, camera_forward in surfaces
            ]
            ratings_there["floor, tables and walls"] = torch.stack(by_depth).sum(0)
        return ratings_there

    directions, areas = _sphere()
    ratings = rate(directions, STEP)
    left = sum(ratings.values(), torch.zeros(len(directions), dtype=torch.float64))
    parts, outside = [], torch.ones(len(directions), dtype=torch.bool)
    for _ in range(PEAKS):
        peak = directions[int(left.argmax())]
        close_mask = (directions @ peak) > math.cos(math.radians(NEAR_DEG))
        left, disc, disc_areas, step = left.masked_fill(close_mask, -math.inf), *_disc(peak)
        own_mask = torch.stack(
            [disc @ other_peak < math.cos(math.radians(NEAR_DEG)) for other_peak, _ in parts]
            or [disc[:, 0] < 2]
        ).all(0)
        outside &= ~close_mask
        parts.append((peak, (disc[own_mask], disc_areas[own_mask], rate(disc[own_mask], step))))
    directions = torch.cat((directions[outside], *(part[0] for _, part in parts)))
    areas = torch.cat((areas[outside], *(part[1] for _, part in parts)))
    ratings = {
        name: torch.cat((rating[outside], *(part[2][name] for _, part in parts)))
        for name, rating in ratings.items()
    }
    direction, within = _answer(directions, areas, ratings)
    evidence = []
    for name in ratings:
        other_ratings = {other: rating for other, rating in ratings.items() if other != name}
        if _answer(directions, areas, other_ratings, direction)[1] > 1.2 * within:
            evidence.append(name)
    if _may_have_axis(exos, ego):
        axis, chance = _axis(rate, areas, ratings)
        angle_deg = math.degrees(math.acos(float((axis @ direction).clamp(-1, 1))))
        if chance > (0.5 if angle_deg <= AXIS_DEG else SHARE):
            name = "-+"[int(axis.sum() > 0)] + "xyz"[int(axis.abs().argmax())]
            direction, evidence = axis, [*evidence, f"the world's axis {name}"]
            within = AXIS_ERROR_DEG
            if chance < AXIS_SURE:
                rest_share = (AXIS_SURE - chance) / (1 - chance)
                within = _answer(directions, areas, ratings, axis, rest_share)[1]
    return Up(direction=direction, within_deg=within, evidence=tuple(evidence or ratings))


def up_of_scene(
    scene: PointCloud,
    # The wearer's camera in its world.
    ego: CameraPath | None = None,
) -> Up:
    """Find the upward direction of a scene's world."""
    parts = scene.parts or (scene,)
    depths = [
        replace(part.sight.depth, exo=replace(part.exo, lens=part.sight.depth.exo.lens))
        for part in parts
        if part.sight is not None
    ]
    return find_up([part.exo for part in parts], ego, depths)


def _may_have_axis(exos: Sequence[CameraPath], ego: CameraPath | None) -> bool:
    """Check whether an axis of the world may be up, because its cameras' form allows it and no
    camera's own axes are the world's."""
    cameras = [*exos, *([] if ego is None else [ego])]
    identity = torch.eye(3, dtype=torch.float64)
    return all(
        camera.gravity
        and camera.world == "take"
        and float((camera.w2c[:, :, :3] - identity).abs().amax((1, 2)).min()) > SAME_POSE
        for camera in cameras
    )


def _axis(
    rate: Callable[[Tensor, float], dict[str, Tensor]], areas: Tensor, ratings: dict[str, Tensor]
) -> tuple[Tensor, float]:
    """Find the likeliest world axis [3], and its chance among all axes and all other directions."""
    identity = torch.eye(3, dtype=torch.float64)
    axes = torch.cat((identity, -identity))
    axis_ratings = sum(rate(axes, 0.0).values(), torch.zeros(6, dtype=torch.float64))
    other_rating = sum(ratings.values(), areas.log()).logsumexp(0) - math.log(4 * math.pi)
    axis_ratings = axis_ratings + math.log(GRAVITY_WORLDS / 6)
    total = torch.cat((axis_ratings, other_rating[None] + math.log(1 - GRAVITY_WORLDS))).logsumexp(
        0
    )
    best_axis = int(axis_ratings.argmax())
    return axes[best_axis], float((axis_ratings[best_axis] - total).exp())


def _answer(
    directions: Tensor,
    areas: Tensor,
    ratings: dict[str, Tensor],
    direction: Tensor | None = None,
    share: float = SHARE,
) -> tuple[Tensor, float]:
    """Find the likeliest direction, or take the given one, and the degrees around it that hold that
    share."""
    total = sum(ratings.values(), areas.log())
    chance = (total - total.max()).exp()
    chance = chance / chance.sum()
    if direction is None:
        near_mask = directions @ directions[int((total - areas.log()).argmax())] > math.cos(
            math.radians(NEAR_DEG)
        )
        mean = (chance[near_mask, None] * directions[near_mask]).sum(0)
        direction = mean / mean.norm()
    angles = (directions @ direction).clamp(-1, 1).acos()
    order = angles.argsort()
    place = int((chance[order].cumsum(0) >= share).int().argmax())
    return direction, math.degrees(float(angles[order][place]))


@cache
def _sphere() -> tuple[Tensor, Tensor]:  # [N, 3] unit, [N] areas
    """List directions that cover the sphere evenly."""
    count = torch.arange(DIRECTIONS, dtype=torch.float64) + 0.5
    z = 1 - 2 * count / DIRECTIONS
    turn = math.pi * (1 + math.sqrt(5)) * count
    flat = (1 - z.square()).sqrt()
    areas = torch.full_like(z, 4 * math.pi / DIRECTIONS)
    return torch.stack((flat * turn.cos(), flat * turn.sin(), z), -1), areas


def _disc(middle: Tensor) -> tuple[Tensor, Tensor, float]:  # [N, 3] unit, [N] areas, their distance
    """List directions within NEAR_DEG of one."""
    radius = math.tan(math.radians(NEAR_DEG))
    side = torch.linspace(-radius, radius, FINE, dtype=torch.float64)
    x, y = torch.meshgrid(side, side, indexing="ij")
    inside = x.square() + y.square() <= radius**2
    helper = torch.eye(3, dtype=torch.float64)[int(middle.abs().argmin())]
    side_x = torch.linalg.cross(middle, helper)
    side_x = side_x / side_x.norm()
    side_y = torch.linalg.cross(middle, side_x)
    at = middle + x[inside][:, None] * side_x + y[inside][:, None] * side_y
    lengths = at.norm(dim=-1, keepdim=True)
    step = float(side[1] - side[0])
    return at / lengths, step**2 / lengths[:, 0] ** 3, step


def _normal(off: Tensor, sigma: float) -> Tensor:
    """Compute the density of an angle, against that of any direction."""
    return (-0.5 * (off / sigma).square()).exp() * (2 / (sigma * math.sqrt(2 * math.pi)))


def _by_exos(at: Tensor, exos: Sequence[CameraPath], step: float) -> Tensor:  # [N, 3] -> [N]
    rating = at.new_zeros(len(at))
    for right, down, forward, weight in _axes_of(exos):
        level = sum(
            share * _normal((at @ right).asin(), math.hypot(sigma, step / 2))
            for share, sigma in EXO_LEVEL
        )
        pitch = (at @ forward).clamp(-1, 1).asin()
        above_mask = at @ down < 0
        pitch_rating = (1 - OVERHEAD) * _normal(pitch - EXO_PITCH[0], EXO_PITCH[1]) + OVERHEAD
        rating = rating + weight * (level * pitch_rating * above_mask + NO_EXO).log()
    return rating


def _axes_of(exos: Sequence[CameraPath]) -> Iterator[tuple[Tensor, Tensor, Tensor, float]]:
    """Yield the axes [3] of each picture in the world, and how much each counts: a camera of many
    frames as one."""
    for exo in exos:
        w2c = exo.w2c if exo.lens is None else exo.upright_w2c
        frames = sample_frames(len(w2c), DEPTH_FRAMES)
        for right, down, forward in w2c[frames, :, :3]:
            yield right, down, forward, 1 / len(frames)


def _by_head(at: Tensor, ego: CameraPath) -> Tensor:  # [N, 3] -> [N]
    poses = ego.upright_w2c[sample_frames(len(ego.w2c), 24), :, :3]
    times_s = ego.frames.times_s
    seconds = float(times_s[-1] - times_s[0])
    count = 1 + min(seconds / GAZE_S, len(poses) - 1)
    roll = (at @ poses[:, 0].T).clamp(-1, 1).asin()
    pitch = (at @ poses[:, 2].T).clamp(-1, 1).asin().mean(-1)
    mean, spread = roll.mean(-1), roll.var(-1, correction=0)
    steadiness = (-0.5 * (count - 1) * (spread / HEAD_ROLL[1] ** 2 - 1).clamp_min(0)).exp()
    level = _normal(mean, math.hypot(HEAD_ROLL[0], HEAD_ROLL[1] / math.sqrt(count)))
    above_mask = at @ poses[:, 1].mean(0) < 0
    upright_rating = level * steadiness * _normal(pitch - HEAD_PITCH[0], HEAD_PITCH[1]) * above_mask
    return ((1 - LYING) * upright_rating + LYING).log()


def _by_surfaces(
    at: Tensor,  # [N, 3]
    planes: Sequence[Plane],
    ahead: Tensor,  # [3] of the camera that saw them
    step: float,
) -> Tensor:  # [N]
    """Rate planes that stand or are level, under each slant that a wrong depth may have given all
    of them."""
    ratings = []
    for share, slant, gap in _slants():
        of_planes = at.new_full((len(at),), math.log(share))
        for plane in planes:
            straight = plane.normal - slant * ahead
            cosine = (at @ (straight / straight.norm())).clamp(-1, 1)
            sigma = math.hypot(plane.sigma, step / 2, gap / 2)
            level = (-(1 - cosine.abs()) / sigma**2).exp() * (2 / sigma**2)
            standing = _normal(cosine.asin(), sigma) * (1 - FLOOR - CEILING)
            certainty = SURE * plane.share / (plane.share + SMALL)
            facing = torch.where(cosine > 0, FLOOR, CEILING)
            of_planes = of_planes + (certainty * (facing * level + standing) + 1 - certainty).log()
        ratings.append(of_planes)
    return torch.stack(ratings).logsumexp(0)


@cache
def _slants() -> tuple[tuple[float, float, float], ...]:
    """List slants of all surfaces of a depth towards its camera (a tangent), closer around none:
    (share, slant, distance to the next)."""
    run = torch.linspace(-5, 5, SLANTS, dtype=torch.float64)
    scale = 3 * max(sigma for _, sigma in SLANT) / math.sinh(5)
    slants, gaps = scale * run.sinh(), scale * run.cosh() * (10 / (SLANTS - 1))
    density = sum(part / sigma * (-0.5 * (slants / sigma).square()).exp() for part, sigma in SLANT)
    shares = density * gaps / (density * gaps).sum()
    return tuple(zip(shares.tolist(), slants.tolist(), gaps.tolist(), strict=True))


@frozen
class Plane:
    """Surfaces of one direction."""

    normal: Tensor  # [3] unit, world, towards the camera
    sigma: float  # of that direction along each axis, radians
    share: float  # of all surface


def _planes(depth: DepthVideo) -> list[Plane]:
    """Find the directions that most of the surface faces: floor and tables, each wall."""
    normals, areas = [torch.zeros(0, 3, dtype=torch.float64)], [torch.zeros(0, dtype=torch.float64)]
    width, height = depth.exo.camera.stored_size
    step = max(1, width // (PATCHES * PATCH_PX))
    columns = torch.arange(step // 2, width, step)
    rows = torch.arange(step // 2, height, step)
    rays = depth.exo.camera.depth_rays()[rows][:, columns].double()
    for frame in sample_frames(len(depth.depth_m), DEPTH_FRAMES):
        z = depth.depth_m[frame][rows][:, columns].double()
        if depth.dynamic is not None:
            z = z.masked_fill(depth.dynamic[frame][rows][:, columns], math.nan)
        normal, area = _patches(rays, z)
        if len(normal) < LEAST_SHARE * z.numel() / PATCH_PX**2:
            continue
        normals.append(normal @ depth.exo.at(frame)[:, :3])
        areas.append(area / area.sum().clamp_min(1e-9))
    normal, area = torch.cat(normals), torch.cat(areas)
    area, planes = area / area.sum().clamp_min(1e-9), []
    while float(area.sum()) > LEAST_SHARE:
        candidates = normal[area.argsort(descending=True)[:: max(1, len(area) // 64)]]
        votes = (-(1 - candidates @ normal.T) / math.radians(SAME_DEG) ** 2).exp() @ area
        middle, width = candidates[int(votes.argmax())], math.radians(SAME_DEG)
        for _ in range(6):
            square_angles = 2 * (1 - normal @ middle).clamp_min(0)
            weight = area * (-0.5 * square_angles / width**2).exp()
            middle = (weight[:, None] * normal).sum(0)
            middle = middle / middle.norm()
            spread = float((weight * square_angles).sum() / weight.sum()) ** 0.5
            width = min(max(1.5 * spread, math.radians(1.0)), math.radians(SAME_DEG))
        taken_mask = normal @ middle > math.cos(max(3 * width, math.radians(SAME_DEG)))
        share = float((area * taken_mask).sum())
        if share < LEAST_SHARE:
            break
        surface_count = max(1.0, SURFACES * share)
        sigma = math.sqrt(spread**2 / surface_count + math.radians(LEAST_DEG) ** 2)
        planes.append(Plane(normal=middle, sigma=sigma, share=share))
        area = area.masked_fill(taken_mask, 0.0)
    return planes


def _patches(rays: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:  # [H, W, 3], [H, W]
    """Fit planes to patches: normals [P, 3] in the camera's axes and areas [P] of those that a
    plane explains.

    Inverse depth of a plane is linear in the rays to z = 1.
    """
    count = PATCH_PX**2

    def blocks(values: Tensor) -> Tensor:  # [H, W, C] -> [P, 16, C]
        height, width = (side // PATCH_PX * PATCH_PX for side in values.shape[:2])
        cut = values[:height, :width].reshape(
            height // PATCH_PX, PATCH_PX, width // PATCH_PX, PATCH_PX, -1
        )
        return cut.transpose(1, 2).reshape(-1, count, values.shape[-1])

    ray, inverse = blocks(rays), blocks(1 / z[..., None])
    whole_mask = (inverse.isfinite() & (inverse > 0)).all(1)[:, 0] & ray.isfinite().all(-1).all(-1)
    ray, inverse = ray[whole_mask], inverse[whole_mask]
    if not len(ray):
        return ray.new_zeros(0, 3), ray.new_zeros(0)
    plane = torch.linalg.lstsq(ray, inverse, driver="gelsd").solution
    residuals = (ray @ plane - inverse).norm(dim=1) / inverse.norm(dim=1)
    normal = -plane[..., 0] / plane[..., 0].norm(dim=-1, keepdim=True)
    facing = -(normal * ray.mean(1)).sum(-1) / ray.mean(1).norm(dim=-1)
    flat = (residuals[:, 0] < FLAT) & (facing > 0.1)
    area = (1 / inverse.mean(1)[:, 0]).square() / facing.clamp_min(0.1)
    normal, area = normal[flat], area[flat]
    if len(area):
        area = area.clamp(max=float(area.quantile(0.8)))
    return normal, area
