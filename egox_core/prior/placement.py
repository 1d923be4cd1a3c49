"""Check where the ego camera is, from the exo camera's view, before a prior is drawn.

Files of other programs lead to a wrong place without an error: camera-to-world poses, other axes,
other units. A head that can't be where it is, or hardly, is told in words, together with readings
of the files under which it would be right: each is tried against the same measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..cameras import CameraPath, camera_centre, compose, invert, transform
from ..errors import EgoXInputError
from ..frame_store import sample_frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind
from ..scene import ego_in_scene
from ..types import CameraTrajectory, PointCloud
from .options import PriorOptions

FRAMES = 3
"""Frames that are looked at: what is wrong in one is in all."""
EXO_HEIGHT, EGO_SIDE = 48, 16
"""px of the thinned depth maps, and of the ego picture in which coverage is counted."""
HEAD_M = 0.2
"""Metres around the head's line of sight within which the surface is its own. The ring from twice
to four times that is what stands around it."""
NO_COVERAGE, LOW_COVERAGE = 0.005, 0.1
"""Share of the ego picture that is no coverage, and that is less than a hidden head leaves
(``benchmarks/results/constants.md``)."""
TOO_FAR = 2.0
"""Distance to the nearest surface, over the farthest that exo sees: 0.1 at most where it is
right."""
RATIO = 2.0
"""The head's depth over that of the surface that exo sees there, or the inverse: the least that a
unit or half a lens makes (``benchmarks/results/constants.md``)."""
ESTIMATE_RATIO = 1.4
"""The same ratio, as a network's scale and a wearer's height leave it open."""
SCALE_OFF = math.sqrt(ESTIMATE_RATIO * RATIO)
"""A ratio from which on a factor is named: midway between the two."""
PLAIN = 8.0
"""Up to which a factor that fits is the simplest reading of a depth: feet, or a lens, are taken for
no file's unit."""
TOO_NEAR, STANDS_OUT = 0.05, 0.3
"""A ratio that is none for any surface, and how far (logarithm) a head stands out of what is around
it (``benchmarks/results/constants.md``)."""
OWN_M, BODY_M, NO_BODY_M = 0.25, 1.0, 0.5
"""Metres from the eyes from which on the wearer's body is rated, up to which it is his own, and
within which some of it must be, as shoulders are (``benchmarks/results/constants.md``)."""
BODY_STEP_M = 0.12
"""Metres of depth between neighbouring px of the thinned picture at which one body ends."""
LEAST_BODY = 4
"""px of the thinned picture that a mask must have of a body."""
MAX_MISFIT, MARGIN = 1.0, 1.5
"""Misfit up to which a reading is named, and by how much it must be better than the files as they
are: a sensor is named turned from a tilt of 60 degrees on, and a neck bends by 45."""
POSES = ("ego", "exo")
SATURATED_M = 999.0
"""Aligned depth ends at 1000 m: from here on it tells nothing."""
SMALL_UNIT = "depth in millimetres or a smaller unit: scale it by 0.001, or by that unit in metres"
EXO_MISSING = "the exo camera's pose, which is missing: give its camera_extrinsics"


Change = Callable[[Tensor], Tensor]


@frozen
class SeenHead:
    """Poses of the wearer's head and of one exo camera in a few frames, with thinned depth maps."""

    exo: CameraPath  # of F frames, as ego
    rays: Tensor  # [N, 3] float32 to z = 1, NaN where the lens sees nothing
    size: tuple[int, int]  # height and width of the thinned picture: N = H * W
    depth_m: Tensor  # [F, N] float32, NaN invalid
    body: Tensor  # [F, N] bool, of the mask of what moves: of all people
    ego: CameraPath  # in the same world

    def read(self, changes: Mapping[str, Change]) -> SeenHead:
        """Copy this sample with changed poses or depth, to test another interpretation of the
        files."""
        head = self
        for key, change in changes.items():
            old_value = getattr(self, key)
            new_value = (
                replace(old_value, w2c=change(old_value.w2c)) if key in POSES else change(old_value)
            )
            head = replace(head, **{key: new_value})
        return head


class Placement(NamedTuple):
    """Measurements of the head in the exo pictures, as medians over frames and cameras."""

    inside: float  # share of the frames with the head in the picture, of the best camera
    ratio: float  # its z depth over that of the surface there; NaN: never in a picture
    stands_out: float  # logarithm of the depth around over that of the surface; NaN as above
    covered: float  # share of the ego picture
    far: float  # distance to the nearest surface over the farthest depth
    body_m: float  # from the eyes to the nearest masked surface; NaN: no mask
    below: float  # of the wearer's body in the head's own axes: sine downwards, less that sidewards

    def words(self) -> list[str]:
        """Describe all measurements that are impossible, whatever the posture and the camera's
        place."""
        is_depth_odd = self.ratio < (1 / RATIO if self.stands_out > STANDS_OUT else TOO_NEAR)
        # Something nearer may hide the head, unless a body is seen elsewhere or hardly anything is.
        is_depth_odd |= self.ratio > RATIO and (self.bodiless_m > 0 or self.covered < LOW_COVERAGE)
        faults = {
            f"no surface is nearer than {self.far:.1f} times what exo sees": self.far > TOO_FAR,
            f"its depth is {self.ratio:.2g} times that of the surface exo sees there": is_depth_odd
            and not self.body_m < NO_BODY_M,
            f"the nearest body is {self.body_m:.1f} m off": self.bodiless_m > 0,
            "the wearer's body is above its eyes or beside them": self.below < 0,
        }
        return [word for word, applies in faults.items() if applies]

    @property
    def bodiless_m(self) -> float:
        """Metres by which the wearer's body is too far from the eyes, for a head that exo sees."""
        return self.body_m - NO_BODY_M if self.inside >= 0.5 else 0.0

    @property
    def misfit(self) -> float:
        """Deviation from the measurements of correct takes, 0 if nothing is odd."""
        excess = (  # NaN is none
            (2, 1 - self.inside),
            (2, abs(math.log(self.ratio)) - math.log(ESTIMATE_RATIO)),
            (2, STANDS_OUT - self.stands_out),
            (4, self.bodiless_m),
            (4, -self.below),
            (2, math.log(max(self.far, 1e-9) / TOO_FAR)),
        )
        return sum(weight * max(0.0, value) for weight, value in excess)


def check_placement(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    *,
    draw_anyway: bool = False,
    progress: Progress = no_progress,
) -> tuple[Remark, ...]:
    """Warn of a head whose place is unlikely, as seen from exo.

    Args:
        draw_anyway: warn of what can't be, too, in place of refusing it.

    Raises:
        EgoXInputError: a head from which nothing of the scene is seen, or that is far from all of
            it; poses that don't fit the scene.
    """
    heads = seen_heads(scene, ego_in_scene(scene, trajectory))
    if not heads:
        return ()
    placement = measure(heads)
    faults = placement.words()
    if faults and abs(math.log(placement.ratio)) <= math.log(SCALE_OFF):
        # Estimated depth may be off by as much: if that is all, nothing is known to be wrong.
        scaled_heads = [head.read({"depth_m": scale_by(placement.ratio)}) for head in heads]
        faults = faults if measure(scaled_heads).words() else []
    sees_nothing = placement.covered < NO_COVERAGE
    is_place_usual = placement.inside >= 0.5 or placement.body_m < NO_BODY_M
    if is_place_usual and not faults and not sees_nothing:
        return ()
    alternatives = _alternatives(heads, placement, progress)
    if faults and "take" not in (scene.exo.world, trajectory.ego.world):
        alternatives = [*alternatives[:1], EXO_MISSING]
    if not faults and not alternatives:
        black_text = "exo sees nothing of what the wearer looks at: the prior will be nearly black"
        return (Remark(f"warning: {black_text}", RemarkKind.WARNING),) if sees_nothing else ()
    if sees_nothing:
        faults.append("it sees nothing of what exo sees")
    description = ", ".join(faults) or "it is outside the exo picture, or behind that camera"
    advice = "it would be right with " + "; if the prior is still wrong then, with ".join(
        alternatives
    )
    is_far_off = sees_nothing or placement.far > TOO_FAR
    if is_far_off and alternatives and not draw_anyway:
        raise EgoXInputError(
            "place of the ego camera",
            got=description,
            expected="a head that exo sees, or nearly",
            fix=f"{advice}; draw_anyway draws it as it is",
        )
    verb = "can't" if sees_nothing and alternatives else "hardly can"
    warning_text = f"warning: the ego camera {verb} be where it is: {description}"
    # Another place is unusual, and may be right, and so may be the axes.
    is_unit_named = any("scale" in reading for reading in alternatives)
    remark_kind = (
        RemarkKind.IMPOSSIBLE_PLACE
        if sees_nothing or is_unit_named
        else RemarkKind.STRANGE_PLACE
        if alternatives or is_far_off
        else RemarkKind.WARNING
    )
    return (Remark(f"{warning_text}; {advice}" if alternatives else warning_text, remark_kind),)


def _alternatives(heads: Sequence[SeenHead], placement: Placement, progress: Progress) -> list[str]:
    """Describe the two readings of the files that fit best, of those that fit much better than the
    given one."""
    if float(heads[0].depth_m.nanmedian()) >= SATURATED_M:
        known_heads = [head.read({"depth_m": drop_saturated}) for head in heads]
        if math.isnan(measure(known_heads).ratio):
            return [SMALL_UNIT]
    readings = list(READINGS)
    if math.log(SCALE_OFF) < abs(math.log(placement.ratio)) < math.log(PLAIN):
        name = f"depth in another unit or of another lens: scale it by {placement.ratio:.2g}"
        readings.append((name, {"depth_m": scale_by(placement.ratio)}))
    fits = {}
    for index, (name, changes) in enumerate(readings):
        progress(index, len(readings), "readings of poses and depth")
        changed_heads = [head.read(changes) for head in heads]
        changed_placement = measure(changed_heads)
        if math.isnan(changed_placement.stands_out):  # nothing is seen around the head
            continue
        # Of readings that fit alike, the one whose head is nearest to the surface there is the
        # best.
        gap = abs(math.log(changed_placement.ratio))
        if name == INVERSE:  # disparity has no scale but that which puts the head at its surface
            scaling = {"depth_m": scale_by(changed_placement.ratio)}
            changed_placement = measure([head.read(scaling) for head in changed_heads])
        fits[name] = changed_placement.misfit, gap
    limit = min(MAX_MISFIT, placement.misfit - MARGIN)
    names = sorted((name for name in fits if fits[name][0] <= limit), key=fits.__getitem__)
    if names and names[0].startswith("depth"):
        return names[:1]
    # Poses of one camera or of both may fit alike.
    return [name for name in names if not name.startswith("depth")][:2]


def seen_heads(
    scene: PointCloud,
    # The ego camera in its own world.
    ego: CameraPath,
) -> list[SeenHead]:
    """Collect poses and thinned depth of a few frames, for each exo camera with known depth."""
    frames = sample_frames(scene.frame_count, FRAMES)
    heads = []
    for part in scene.parts or (scene,):
        if part.sight is None:
            continue
        depth = part.sight.depth
        width, height = depth.exo.camera.stored_size
        size = (EXO_HEIGHT, round(EXO_HEIGHT * width / height))
        camera = depth.exo.camera.rescale(*size[::-1])
        rays = camera.depth_rays()
        no_motion = torch.zeros(1).expand(depth.depth_m.shape)
        moving = no_motion if depth.dynamic is None else depth.dynamic
        depth_samples, body_mask = (
            torch.nn.functional.interpolate(
                values[frames][None].float(), size, mode="nearest-exact"
            )[0]
            for values in (depth.depth_m, moving)
        )
        heads.append(
            SeenHead(
                exo=CameraPath(
                    lens=camera,
                    w2c=torch.stack([part.exo.at(t) for t in frames]),
                    world=part.exo.world,
                ),
                rays=rays.flatten(0, 1),
                size=size,
                depth_m=(depth_samples * rays[..., 2]).flatten(1),
                body=body_mask.flatten(1).bool(),
                ego=ego.resized(EGO_SIDE, EGO_SIDE).select(torch.tensor(frames)),
            )
        )
    return heads


def measure(heads: Sequence[SeenHead]) -> Placement:
    """Measure the place of the head relative to what exo sees."""
    ego_cells = torch.zeros(len(heads[0].ego.w2c), EGO_SIDE**2)
    measurements = []
    for head in heads:
        ego, exo, rays, depth = head.ego.upright, head.exo, head.rays, head.depth_m
        # Share of the ego picture
        points = transform(compose(ego.w2c, invert(exo.w2c)).float(), rays * depth[..., None])
        distance = points.norm(dim=-1)
        _, cells_hit, is_visible = ego.camera.look_up(points)
        is_visible &= distance < PriorOptions().far_m
        ego_cells.scatter_reduce_(1, cells_hit, is_visible.float(), "amax")
        # The surface at the head, and around
        head_position = transform(exo.w2c, camera_centre(ego.w2c)[:, None]).float()  # [F, 1, 3]
        head_z = head_position[..., 2]
        inside = exo.camera.look_up(head_position)[2]
        lateral_m = (rays * head_z[..., None] - head_position)[..., :2].norm(dim=-1)
        radius = (1.5 * head_z / exo.camera.fy).clamp_min(HEAD_M)
        head_depth = depth.masked_fill((lateral_m > radius) | ~inside, torch.nan)
        surface_depth = head_depth.nanquantile(0.1, 1, keepdim=True)
        ring_depth = depth.masked_fill(
            (lateral_m < 2 * radius) | (lateral_m > 4 * radius), torch.nan
        )
        # The nearest body, and the middle of what exo sees of the wearer's own
        is_body = own_body(
            head.body & depth.isfinite(),
            depth,
            points,
            (lateral_m <= radius) & inside,
            head.size,
        )
        body_m = distance.where(is_body, math.inf).amin(1, keepdim=True)
        body_m = body_m.where(is_body.sum(1, keepdim=True) >= LEAST_BODY, torch.nan)
        is_own = is_body & (distance > OWN_M) & (distance < BODY_M)
        area = depth.square().where(is_own, 0.0)[..., None]
        middle = (area * points.nan_to_num()).sum(1, keepdim=True)
        below = (middle[..., 1] - middle[..., 0].abs()) / middle.norm(dim=-1)
        # A nearer exo camera may see arms alone.
        exo_m = (camera_centre(exo.w2c) - camera_centre(ego.w2c)).norm(dim=-1)[:, None]
        is_reliable = (is_own.sum(1, keepdim=True) >= LEAST_BODY) & (exo_m > BODY_M)
        measurements.append(
            (
                inside,
                head_z / surface_depth,
                ring_depth.nanquantile(0.5, 1, keepdim=True) / surface_depth,
                distance.nan_to_num(math.inf).amin(1, keepdim=True) / depth.nanquantile(0.95),
                body_m,
                below.where(is_reliable, torch.nan),
            )
        )
    inside, ratio, stands_out, far, body_m, below = map(
        torch.stack, zip(*measurements, strict=True)
    )
    medians = (
        inside.double().mean((1, 2)).max(),
        ratio.nanmedian(),
        stands_out.nanmedian().log(),
        ego_cells.mean(),
        far.amin(0).median(),
        body_m.nanmedian(),
        below.nanmedian(),
    )
    return Placement(*map(float, medians))


def own_body(
    body: Tensor,  # [F, N] bool, of all people
    depth_m: Tensor,  # [F, N]
    points: Tensor,  # [F, N, 3] metres from the eyes
    at_head: Tensor,  # [F, N] bool, around the head's line of sight
    size: tuple[int, int],  # height, width
) -> Tensor:  # [F, N] bool
    """Select the wearer's own body in a mask of all people, or all of them where none is at the
    head.

    It is what can be reached over its surface from the point nearest to the eyes, and each smaller
    part that borders on that, such as an arm whose shoulder the trunk hides. Frames stand alone:
    over time, people who touch once would be one body.
    """
    from scipy.sparse import coo_array  # half of torch's time
    from scipy.sparse.csgraph import connected_components, dijkstra

    pixels = torch.arange(body.shape[1]).unflatten(0, size)
    neighbours = (
        (pixels[:, :-1], pixels[:, 1:]),
        (pixels[:-1], pixels[1:]),
        (pixels[:-1, :-1], pixels[1:, 1:]),
        (pixels[1:, :-1], pixels[:-1, 1:]),
    )
    pairs = torch.stack(
        [torch.cat([p.flatten() for p in side]) for side in zip(*neighbours, strict=True)]
    )
    own_masks = []
    for frame_body, frame_depth, frame_points, is_at_head in zip(
        body, depth_m, points, at_head, strict=True
    ):
        eye_distance = frame_points.norm(dim=-1).where(frame_body & is_at_head, math.inf)
        nearest = int(eye_distance.argmin())
        if not eye_distance[nearest] < math.inf:
            own_masks.append(frame_body)
            continue
        body_pairs = pairs[:, frame_body[pairs].all(0)]
        is_linked = frame_depth[body_pairs].diff(dim=0)[0].abs() < BODY_STEP_M
        linked = body_pairs[:, is_linked]
        lengths = frame_points[linked].diff(dim=0)[0].norm(dim=-1)
        graph = coo_array((lengths.numpy(), tuple(linked.numpy())), shape=(body.shape[1],) * 2)
        path_m = dijkstra(graph, directed=False, indices=nearest, limit=BODY_M)
        own_mask = frame_body & torch.from_numpy(path_m < math.inf)
        if own_mask.sum() < LEAST_BODY:
            own_masks.append(frame_body)
            continue
        parts = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
        border = body_pairs[:, own_mask[body_pairs].any(0) & ~is_linked]
        is_own_part = torch.bincount(parts) < own_mask.sum()
        is_own_part &= torch.zeros_like(is_own_part).index_fill(0, parts[border].flatten(), True)
        own_masks.append(own_mask | is_own_part[parts])
    return torch.stack(own_masks)


def flip_camera_axes(w2c: Tensor) -> Tensor:
    """Convert poses between OpenGL's and OpenCV's camera axes."""
    return w2c * w2c.new_tensor([[1.0], [-1.0], [-1.0]])


def roll_by(quarters: int) -> Change:
    """Return a function that rotates poses by quarter turns about the optical axis."""
    cosine, sine = ((0.0, 1.0), (0.0, -1.0))[quarters < 0]
    return lambda w2c: w2c.new_tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ w2c


def drop_saturated(depth_m: Tensor) -> Tensor:
    """Replace depth that ends at the farthest distance by NaN."""
    return depth_m.masked_fill(depth_m >= SATURATED_M, torch.nan)


def scale_by(factor: float | tuple[float, ...]) -> Change:
    """Return a function that scales depth by a factor, or poses by a factor per column."""
    return lambda values: values * values.new_tensor(factor)


AXES: Mapping[str, Change] = {
    "that are camera-to-world: invert them": invert,
    "in OpenGL's axes: negate rows y and z of each w2c": flip_camera_axes,
    "in OpenGL's axes and camera-to-world: invert them, then negate rows y and z": lambda w2c: (
        flip_camera_axes(invert(w2c))
    ),
}
UNITS = (
    ("millimetres", 0.001),
    ("centimetres", 0.01),
    ("1/256 m", 1 / 256),
)
INVERSE = (
    "depth that is inverse or disparity: give one over it if it is in 1/m, or else give it as "
    "video depth, together with a metric one"
)
READINGS: tuple[tuple[str, Mapping[str, Change]], ...] = (
    (INVERSE, {"depth_m": lambda d: 1 / (d / d.nanquantile(0.95) + 0.1)}),  # farthest / nearest: 11
    *(
        (f"{prefix}poses {words}", dict.fromkeys(whose, change))
        for words, change in AXES.items()
        for prefix, whose in (("", POSES), ("ego ", POSES[:1]), ("exo ", POSES[1:]))
    ),
    *(
        (
            "ego poses of an upright picture with the lens of a turned sensor, or the reverse: "
            f"choose the camera that they are of (they are turned by {90 * quarters} degrees)",
            {"ego": roll_by(quarters)},
        )
        for quarters in (1, -1)
    ),
    *(
        (f"depth in {unit}: scale it by {factor:g}", {"depth_m": scale_by(factor)})
        for unit, factor in UNITS
    ),
    *(
        (
            f"poses in {unit}: scale their t by {factor:g}",
            dict.fromkeys(POSES, scale_by((1, 1, 1, factor))),
        )
        for unit, factor in UNITS[:2]
    ),
)
