"""Find the upward direction of a clip's world, with its uncertainty, from cameras and surfaces.

Each source rates every direction: right-hand axes of exo cameras are level, as are those of the
wearer's head while people stand or sit; floor and tables face up, and walls stand. A source's
rating says how sure it is: errors of a posture or of a network's depth are part of it. Where the
file's form allows it, a world axis, the estimate that knows of none and the mean of all that is
likely are rated together, and the one that is known most closely is taken: what speaks for another
is part of its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
NEAR_DEG, FINE_COUNT, PEAK_COUNT = 6.0, 31, 5
"""Radius around the best of them that is looked at again, directions across it, and how many
best."""
SHARE = 0.9
"""Share of the errors that are smaller than :attr:`Up.within_deg`."""
KNOWN_DEG = 30.0
"""An answer that is less sure than this is none: it doesn't tell a head that stands from one that
lies on its side."""
EXO_LEVEL = ((0.6, math.radians(1.5)), (0.4, math.radians(8.0)))
"""Share and standard deviation of exo cameras' roll: on a tripod, as drawn takes have it, and in a
hand or wedged (judged)."""
EXO_PITCH = math.radians(-15.0), math.radians(35.0)
"""Mean and spread of exo cameras' pitch: judged, wide enough for a low phone and a high corner."""
ANY_ROLL_SHARE = 1e-4
"""Share of exo cameras that are rolled by anything, or whose poses are wrong."""
OVERHEAD = 0.1
"""Share of exo cameras of any pitch: over a table, under a ceiling."""
HEAD_ROLL = math.radians(6.0), math.radians(4.0)
"""Spread of a head's mean roll over people and tasks, and of its roll within a clip: judged, as
``head_search.LEAN_SIGMAS_DEG``."""
HEAD_PITCH = math.radians(-25.0), math.radians(25.0)
"""Mean and spread of the gaze's pitch: hands are looked at from above."""
LYING_SHARE = 0.05
"""Share of heads that say nothing: who lies, bends, climbs."""
GAZE_S = 1.0
"""Seconds after which a head's roll is another one."""
PATCH_PX, PATCHES = 4, 40
"""Side of a patch in px of the thinned depth, and patches across a picture."""
FLAT_RESIDUAL = 0.01
"""Relative residual of inverse depth over a patch of one surface. A network's outlines bleed
more."""
SURFACES = 25.0
"""Independent surfaces of a picture: as many as the errors of planes in drawn takes have, whose
depth errors stay alike over a quarter of the height (``lab/drawn/depth_errors.py``)."""
SLANT = ((0.8, 0.06), (0.2, 0.3))
SLANTS = 61
"""Share and standard deviation (a tangent) of the slant that a network's shift of inverse depth, or
a wrong lens, gives all surfaces alike; and how many are tried. The first is what a shift by a tenth
of the median does to the drawn takes' floors, the second is judged: depth by whose surfaces nothing
can be told."""
FLOOR, CEILING = 0.45, 0.1
"""Share of the planes of a picture that face up, and down; the others stand."""
LARGE_PLANE_CERTAINTY, SMALL_PLANE_SHARE = 0.9, 0.04
"""Share of large planes that are level or standing, and the share of all surface at which it is
half of that: small ones are slopes, backs of chairs, a network's blobs."""
MIN_SHARE = 0.03
SAME_DEG = 8.0
"""Spread of normals that are taken for one plane's; a network's are that far off."""
MIN_DEG = 0.3
"""Error of a plane's direction however exact its depth is."""
DEPTH_FRAMES = 3
GRAVITY_WORLDS = 2 / 3
"""Share of worlds with an axis along gravity, where the form doesn't tell: judged
(``benchmarks/results/constants.md``)."""
SAME_POSE = 1e-3
"""Difference of a turn from the identity, in any number, of a camera whose axes are its world's:
files round to three digits."""
AXIS_ERROR_DEG = 1.0
"""Error of such an axis: trackers find gravity to tenths of a degree."""


@frozen
class Up:
    """Upward direction of a world, with its uncertainty and the evidence for it."""

    direction: Tensor  # [3] float64, unit, world
    within_deg: float  # nine of ten errors are smaller
    evidence: tuple[str, ...]  # sources without which it would be less sure

    @property
    def known(self) -> bool:
        """True if the direction is certain enough to be used."""
        return self.within_deg <= KNOWN_DEG

    def text(self) -> str:
        """Describe the direction's evidence and uncertainty in one remark."""
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
    """Find the upward direction of a world from the cameras and surfaces in it."""
    surfaces = [(_find_planes(depth), depth.exo.w2c[0, 2, :3]) for depth in depths]

    def rate(
        candidates: Tensor, step: float
    ) -> dict[str, Tensor]:  # [N, 3], their distance -> [N] each
        named_ratings = (
            {"the exo camera's level": _rate_by_exos(candidates, exos, step)} if exos else {}
        )
        if ego is not None:
            named_ratings["the head's path"] = _rate_by_head(candidates, ego)
        if any(planes for planes, _ in surfaces):
            surface_ratings = [
                _rate_by_surfaces(candidates, planes, camera_forward, step)
                for planes, camera_forward in surfaces
            ]
            named_ratings["floor, tables and walls"] = torch.stack(surface_ratings).sum(0)
        return named_ratings

    directions, areas = _sphere_directions()
    ratings = rate(directions, STEP)
    remaining_rating = sum(ratings.values(), torch.zeros(len(directions), dtype=torch.float64))
    peaks: list[Tensor] = []
    refined_parts = []
    coarse_mask = torch.ones(len(directions), dtype=torch.bool)
    for _ in range(PEAK_COUNT):
        peak = directions[int(remaining_rating.argmax())]
        close_mask = (directions @ peak) > math.cos(math.radians(NEAR_DEG))
        remaining_rating = remaining_rating.masked_fill(close_mask, -math.inf)
        coarse_mask &= ~close_mask
        disc_directions, disc_areas, step = _disc_directions(peak)
        new_mask = torch.ones(len(disc_directions), dtype=torch.bool)
        for other_peak in peaks:
            new_mask &= disc_directions @ other_peak < math.cos(math.radians(NEAR_DEG))
        peaks.append(peak)
        new_directions = disc_directions[new_mask]
        refined_parts.append((new_directions, disc_areas[new_mask], rate(new_directions, step)))
    directions = torch.cat((directions[coarse_mask], *(part[0] for part in refined_parts)))
    areas = torch.cat((areas[coarse_mask], *(part[1] for part in refined_parts)))
    ratings = {
        axis_name: torch.cat((rating[coarse_mask], *(part[2][axis_name] for part in refined_parts)))
        for axis_name, rating in ratings.items()
    }
    direction, within_deg = _best_direction(directions, areas, ratings)
    evidence = []
    for axis_name in ratings:
        other_ratings = {
            other_name: rating for other_name, rating in ratings.items() if other_name != axis_name
        }
        if _best_direction(directions, areas, other_ratings, direction)[1] > 1.2 * within_deg:
            evidence.append(axis_name)
    if _may_have_vertical_axis(exos, ego):
        axes = torch.cat((torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)))
        axis_ratings = rate(axes, 0.0)
        # An axis counts like the part of the sphere that as many other worlds have it in.
        axis_area = 4 * math.pi * GRAVITY_WORLDS / (1 - GRAVITY_WORLDS) / len(axes)
        directions = torch.cat((directions, axes))
        areas = torch.cat((areas, areas.new_full((len(axes),), axis_area)))
        ratings = {name: torch.cat((ratings[name], axis_ratings[name])) for name in ratings}
        axis = axes[int(sum(axis_ratings.values(), torch.zeros(len(axes))).argmax())]
        mean_vector = (_probabilities(areas, ratings)[:, None] * directions).sum(0)
        answers = (axis, direction, torch.nn.functional.normalize(mean_vector, dim=0))
        within_deg, direction = min(
            ((_best_direction(directions, areas, ratings, x)[1], x) for x in answers),
            key=lambda rated: rated[0],
        )
        if direction is axis:
            axis_name = "-+"[int(axis.sum() > 0)] + "xyz"[int(axis.abs().argmax())]
            within_deg = max(within_deg, AXIS_ERROR_DEG)
            evidence = [*evidence, f"the world's axis {axis_name}"]
    return Up(direction=direction, within_deg=within_deg, evidence=tuple(evidence or ratings))


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


def _may_have_vertical_axis(exos: Sequence[CameraPath], ego: CameraPath | None) -> bool:
    """Check whether an axis of the world may be vertical, by the file formats of its cameras and
    their poses."""
    cameras = [*exos, *([] if ego is None else [ego])]
    identity = torch.eye(3, dtype=torch.float64)
    return all(
        camera.gravity
        and camera.world == "take"
        and float((camera.w2c[:, :, :3] - identity).abs().amax((1, 2)).min()) > SAME_POSE
        for camera in cameras
    )


def _best_direction(
    directions: Tensor,
    areas: Tensor,
    ratings: dict[str, Tensor],
    direction: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Find the most likely direction and its uncertainty as an angle in degrees."""
    probabilities = _probabilities(areas, ratings)
    if direction is None:
        likeliest = directions[int((probabilities / areas).argmax())]
        near_mask = directions @ likeliest > math.cos(math.radians(NEAR_DEG))
        mean_vector = (probabilities[near_mask, None] * directions[near_mask]).sum(0)
        direction = mean_vector / mean_vector.norm()
    angles = (directions @ direction).clamp(-1, 1).acos()
    sorted_indices = angles.argsort()
    share_index = int((probabilities[sorted_indices].cumsum(0) >= SHARE).int().argmax())
    return direction, math.degrees(float(angles[sorted_indices][share_index]))


def _probabilities(areas: Tensor, ratings: dict[str, Tensor]) -> Tensor:  # [N]
    """Compute the probability of each direction from its area and what the sources say."""
    log_weights = sum(ratings.values(), areas.log())
    weights = (log_weights - log_weights.max()).exp()
    return weights / weights.sum()


@cache
def _sphere_directions() -> tuple[Tensor, Tensor]:  # [N, 3] unit, [N] areas
    """Make evenly spaced directions on the unit sphere, with the area of each."""
    point_numbers = torch.arange(DIRECTIONS, dtype=torch.float64) + 0.5
    z = 1 - 2 * point_numbers / DIRECTIONS
    azimuth = math.pi * (1 + math.sqrt(5)) * point_numbers
    horizontal_radius = (1 - z.square()).sqrt()
    areas = torch.full_like(z, 4 * math.pi / DIRECTIONS)
    return torch.stack(
        (horizontal_radius * azimuth.cos(), horizontal_radius * azimuth.sin(), z), -1
    ), areas


def _disc_directions(
    middle: Tensor,
) -> tuple[Tensor, Tensor, float]:  # [N, 3] unit, [N] areas, their distance
    """Make a fine grid of directions within NEAR_DEG of one direction."""
    radius = math.tan(math.radians(NEAR_DEG))
    offsets = torch.linspace(-radius, radius, FINE_COUNT, dtype=torch.float64)
    x, y = torch.meshgrid(offsets, offsets, indexing="ij")
    inside = x.square() + y.square() <= radius**2
    least_axis = torch.eye(3, dtype=torch.float64)[int(middle.abs().argmin())]
    side_x = torch.linalg.cross(middle, least_axis)
    side_x = side_x / side_x.norm()
    side_y = torch.linalg.cross(middle, side_x)
    points = middle + x[inside][:, None] * side_x + y[inside][:, None] * side_y
    lengths = points.norm(dim=-1, keepdim=True)
    step = float(offsets[1] - offsets[0])
    return points / lengths, step**2 / lengths[:, 0] ** 3, step


def _angle_density(angle: Tensor, sigma: float | Tensor) -> Tensor:
    """Compute the probability density of an angle, relative to that of a random direction."""
    return (-0.5 * (angle / sigma).square()).exp() * (2 / (sigma * math.sqrt(2 * math.pi)))


def _rate_by_exos(
    directions: Tensor, exos: Sequence[CameraPath], step: float
) -> Tensor:  # [N, 3] -> [N]
    rating = directions.new_zeros(len(directions))
    for right, down, forward, weight in _camera_axes(exos):
        level_rating = sum(
            share * _angle_density((directions @ right).asin(), math.hypot(sigma, step / 2))
            for share, sigma in EXO_LEVEL
        )
        pitch = (directions @ forward).clamp(-1, 1).asin()
        above_mask = directions @ down < 0
        pitch_rating = (1 - OVERHEAD) * _angle_density(
            pitch - EXO_PITCH[0], EXO_PITCH[1]
        ) + OVERHEAD
        rating = rating + weight * (level_rating * pitch_rating * above_mask + ANY_ROLL_SHARE).log()
    return rating


def _camera_axes(exos: Sequence[CameraPath]) -> Iterator[tuple[Tensor, Tensor, Tensor, float]]:
    """Yield right, down and forward axes of each camera in some frames, with a weight per frame."""
    for exo in exos:
        w2c = exo.w2c if exo.lens is None else exo.upright_w2c
        frames = sample_frames(len(w2c), DEPTH_FRAMES)
        for right, down, forward in w2c[frames, :, :3]:
            yield right, down, forward, 1 / len(frames)


def _rate_by_head(directions: Tensor, ego: CameraPath) -> Tensor:  # [N, 3] -> [N]
    poses = ego.upright_w2c[sample_frames(len(ego.w2c), 24), :, :3]
    times_s = ego.frames.times_s
    seconds = float(times_s[-1] - times_s[0])
    independent_looks = 1 + min(seconds / GAZE_S, len(poses) - 1)
    roll = (directions @ poses[:, 0].T).clamp(-1, 1).asin()
    pitch = (directions @ poses[:, 2].T).clamp(-1, 1).asin().mean(-1)
    mean_roll = roll.mean(-1)
    roll_variance = roll.var(-1, correction=0)
    steadiness = (
        -0.5 * (independent_looks - 1) * (roll_variance / HEAD_ROLL[1] ** 2 - 1).clamp_min(0)
    ).exp()
    level_rating = _angle_density(
        mean_roll, math.hypot(HEAD_ROLL[0], HEAD_ROLL[1] / math.sqrt(independent_looks))
    )
    above_mask = directions @ poses[:, 1].mean(0) < 0
    upright_rating = (
        level_rating
        * steadiness
        * _angle_density(pitch - HEAD_PITCH[0], HEAD_PITCH[1])
        * above_mask
    )
    return ((1 - LYING_SHARE) * upright_rating + LYING_SHARE).log()


def _rate_by_surfaces(
    directions: Tensor,  # [N, 3]
    planes: Sequence[Plane],
    camera_forward: Tensor,  # [3] of the camera that saw them
    step: float,
) -> Tensor:  # [N]
    """Rate candidate up directions by how well a camera's planes are level or vertical."""
    if not planes:
        return directions.new_zeros(len(directions))
    normals = torch.stack([plane.normal for plane in planes]).to(directions)  # [P, 3]
    plane_sigmas = normals.new_tensor([plane.sigma for plane in planes])
    plane_shares = normals.new_tensor([plane.share for plane in planes])
    certainty = LARGE_PLANE_CERTAINTY * plane_shares / (plane_shares + SMALL_PLANE_SHARE)
    ratings = []
    for share, slant, slant_step in _possible_slants():
        straight_normals = torch.nn.functional.normalize(normals - slant * camera_forward, dim=1)
        cosine = (directions @ straight_normals.T).clamp(-1, 1)  # [N, P]
        sigma = (plane_sigmas.square() + (step / 2) ** 2 + (slant_step / 2) ** 2).sqrt()
        level_density = (-(1 - cosine.abs()) / sigma**2).exp() * (2 / sigma**2)
        standing_density = _angle_density(cosine.asin(), sigma) * (1 - FLOOR - CEILING)
        facing = torch.where(cosine > 0, FLOOR, CEILING)
        densities = certainty * (facing * level_density + standing_density) + 1 - certainty
        ratings.append(math.log(share) + densities.log().sum(1))
    return torch.stack(ratings).logsumexp(0)


@cache
def _possible_slants() -> tuple[tuple[float, float, float], ...]:
    """List by how much wrong depth may have tilted a depth map's surfaces, with a probability for
    each tilt."""
    grid = torch.linspace(-5, 5, SLANTS, dtype=torch.float64)
    scale = 3 * max(sigma for _, sigma in SLANT) / math.sinh(5)
    slants = scale * grid.sinh()
    slant_widths = scale * grid.cosh() * (10 / (SLANTS - 1))
    density = sum(
        share / sigma * (-0.5 * (slants / sigma).square()).exp() for share, sigma in SLANT
    )
    shares = density * slant_widths / (density * slant_widths).sum()
    return tuple(zip(shares.tolist(), slants.tolist(), slant_widths.tolist(), strict=True))


@frozen
class Plane:
    """Direction of surface normals that many pixels of a depth map share."""

    normal: Tensor  # [3] unit, world, towards the camera
    sigma: float  # of that direction along each axis, radians
    share: float  # of all surface


def _find_planes(depth: DepthVideo) -> list[Plane]:
    """Find the directions that most of a depth map's surfaces face: floor and tables, each wall."""
    normals = [torch.zeros(0, 3, dtype=torch.float64)]
    areas = [torch.zeros(0, dtype=torch.float64)]
    width, height = depth.exo.camera.stored_size
    step = max(1, width // (PATCHES * PATCH_PX))
    columns = torch.arange(step // 2, width, step)
    rows = torch.arange(step // 2, height, step)
    rays = depth.exo.camera.depth_rays()[rows][:, columns].double()
    for frame in sample_frames(len(depth.depth_m), DEPTH_FRAMES):
        depth_values = depth.depth_m[frame][rows][:, columns].double()
        if depth.dynamic is not None:
            depth_values = depth_values.masked_fill(
                depth.dynamic[frame][rows][:, columns], math.nan
            )
        normal, area = _fit_patches(rays, depth_values)
        if len(normal) < MIN_SHARE * depth_values.numel() / PATCH_PX**2:
            continue
        normals.append(normal @ depth.exo.at(frame)[:, :3])
        areas.append(area / area.sum().clamp_min(1e-9))
    normal, area = torch.cat(normals), torch.cat(areas)
    area = area / area.sum().clamp_min(1e-9)
    planes = []
    while float(area.sum()) > MIN_SHARE:
        candidate_normals = normal[area.argsort(descending=True)[:: max(1, len(area) // 64)]]
        votes = (-(1 - candidate_normals @ normal.T) / math.radians(SAME_DEG) ** 2).exp() @ area
        mean_normal = candidate_normals[int(votes.argmax())]
        width = math.radians(SAME_DEG)
        for _ in range(6):
            square_angles = 2 * (1 - normal @ mean_normal).clamp_min(0)
            weight = area * (-0.5 * square_angles / width**2).exp()
            mean_normal = (weight[:, None] * normal).sum(0)
            mean_normal = mean_normal / mean_normal.norm()
            spread = float((weight * square_angles).sum() / weight.sum()) ** 0.5
            width = min(max(1.5 * spread, math.radians(1.0)), math.radians(SAME_DEG))
        plane_mask = normal @ mean_normal > math.cos(max(3 * width, math.radians(SAME_DEG)))
        share = float((area * plane_mask).sum())
        if share < MIN_SHARE:
            break
        surface_count = max(1.0, SURFACES * share)
        sigma = math.sqrt(spread**2 / surface_count + math.radians(MIN_DEG) ** 2)
        planes.append(Plane(normal=mean_normal, sigma=sigma, share=share))
        area = area.masked_fill(plane_mask, 0.0)
    return planes


def _fit_patches(rays: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:  # [H, W, 3], [H, W]
    """Fit planes to patches of a depth map, and return normals and areas of the flat patches.

    Inverse depth of a plane is linear in the rays to z = 1.
    """
    count = PATCH_PX**2

    def blocks(values: Tensor) -> Tensor:  # [H, W, C] -> [P, 16, C]
        height, width = (size // PATCH_PX * PATCH_PX for size in values.shape[:2])
        cropped_values = values[:height, :width].reshape(
            height // PATCH_PX, PATCH_PX, width // PATCH_PX, PATCH_PX, -1
        )
        return cropped_values.transpose(1, 2).reshape(-1, count, values.shape[-1])

    rays_by_patch = blocks(rays)
    inverse_depth = blocks(1 / depth[..., None])
    complete_mask = (inverse_depth.isfinite() & (inverse_depth > 0)).all(1)[
        :, 0
    ] & rays_by_patch.isfinite().all(-1).all(-1)
    rays_by_patch, inverse_depth = rays_by_patch[complete_mask], inverse_depth[complete_mask]
    if not len(rays_by_patch):
        return rays_by_patch.new_zeros(0, 3), rays_by_patch.new_zeros(0)
    plane = torch.linalg.lstsq(rays_by_patch, inverse_depth, driver="gelsd").solution
    residuals = (rays_by_patch @ plane - inverse_depth).norm(dim=1) / inverse_depth.norm(dim=1)
    normals = -plane[..., 0] / plane[..., 0].norm(dim=-1, keepdim=True)
    facing = -(normals * rays_by_patch.mean(1)).sum(-1) / rays_by_patch.mean(1).norm(dim=-1)
    flat_mask = (residuals[:, 0] < FLAT_RESIDUAL) & (facing > 0.1)
    patch_areas = (1 / inverse_depth.mean(1)[:, 0]).square() / facing.clamp_min(0.1)
    normals, patch_areas = normals[flat_mask], patch_areas[flat_mask]
    if len(patch_areas):
        patch_areas = patch_areas.clamp(max=float(patch_areas.quantile(0.8)))
    return normals, patch_areas
