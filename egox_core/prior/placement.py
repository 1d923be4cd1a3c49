"""The head as the exo cameras see it, judged before a prior is drawn.

Files of other programs lead to a wrong place without an error: camera-to-world poses, other axes,
other units. A head that can't be where it is, or hardly, is told in words, together with readings of
the files under which it would be right: each is tried against the same measurements."""

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
"""Metres around the head's line of sight within which the surface is its own; the ring from twice to
four times that is what stands around it."""
NOTHING, LITTLE = 0.005, 0.1
"""Share of the ego picture that is no coverage, and little. Drawn takes have 0.2 or more."""
TOO_FAR = 2.0
"""Distance to the nearest surface, over the farthest that exo sees: 0.1 at most where it is right."""
RATIO = 2.0
"""The head's depth over that of the surface that exo sees there, or the inverse. Right takes have 0.9
to 1.2 if drawn and 0.8 to 1.5 if estimated."""
TOO_NEAR, STANDS_OUT = 0.05, 0.2
"""A ratio that is none for any surface; how far (logarithm) a head stands out of what is around it: a
smaller ratio without that is a path through a place where exo sees nobody."""
UPSIDE_DOWN = -0.2
"""Cosine between the down axes of both cameras: 0.5 or more where it is right."""
ON_ITS_SIDE, FLAT = math.radians(50), 0.4
"""Roll of the head against the exo camera: 40 degrees at most where it is right, as that looks down
on it; not measured in a head that looks straight down."""
LOOKS_UP, EXO_DOWN = 0.1, 0.5
"""Sine of the gaze above the exo picture's horizon: hands are looked at from above. A head that looks
away from an exo camera pitched by 30 degrees seems to look up by as much."""
FITS, ALIKE, MOST = 1.5, 0.5, 3.0
"""Misfit up to which a reading is named; by how much the second may be worse; most of one kind."""
POSES = ("ego", "exo")
SATURATED_M = 999.0
"""Aligned depth ends at 1000 m: of millimetres nothing is left to be measured."""
MILLIMETRES = "depth in millimetres: scale it by 0.001"
EXO_MISSING = "the exo camera's pose, which is missing: give its camera_extrinsics"


Change = Callable[[Tensor], Tensor]


@frozen
class SeenHead:
    """Head and one exo camera in a few frames, its picture thinned."""

    exo: CameraPath  # of F frames, as ego
    rays: Tensor  # [N, 3] float32 to z = 1, NaN where the lens sees nothing
    depth_m: Tensor  # [F, N] float32, NaN invalid
    ego: CameraPath  # in the same world

    def read(self, changes: Mapping[str, Change]) -> SeenHead:
        """The same under another reading of the files."""
        values = {key: getattr(self, key) for key in changes}
        return replace(
            self,
            **{
                key: replace(old, w2c=changes[key](old.w2c)) if key in POSES else changes[key](old)
                for key, old in values.items()
            },
        )


class Placement(NamedTuple):
    """Measurements of the head in the exo pictures; medians over frames and cameras."""

    inside: float  # share of the frames with the head in the picture, of the best camera
    ratio: float  # its z depth over that of the surface there; NaN: never in a picture
    stands_out: float  # logarithm of the depth around over that of the surface; NaN as above
    covered: float  # share of the ego picture
    far: float  # distance to the nearest surface over the farthest depth
    upright: float  # cosine between the down axes of both cameras
    roll: float  # of the ego picture against exo's, radians, 0...π
    looks_up: float  # beyond what the exo camera's own pitch explains

    def words(self) -> tuple[list[str], bool]:
        """Name all that is odd about the place; True where the head can't be there."""
        least = 1 / RATIO if self.stands_out > STANDS_OUT else TOO_NEAR
        odd = {
            f"it sees {100 * self.covered:.1f} % of its picture": self.covered < LITTLE,
            f"no surface is nearer than {self.far:.1f} times what exo sees": self.far > TOO_FAR,
            "it is outside the exo picture, or behind that camera": self.inside < 0.5,
            f"its depth is {self.ratio:.2g} times that of the surface exo sees there": self.ratio
            < least
            or self.ratio > RATIO,
            "it is upside down": self.upright < UPSIDE_DOWN,
            "its picture lies on its side": self.upright >= UPSIDE_DOWN and self.roll > ON_ITS_SIDE,
            "it looks up, away from what it could work on": self.looks_up > LOOKS_UP,
        }
        impossible = self.covered < NOTHING or self.far > TOO_FAR
        return [word for word, holds in odd.items() if holds], impossible

    @property
    def misfit(self) -> float:
        """Distance from what right takes have, 0 where nothing is odd."""
        excess = (  # NaN is none
            (4, 1 - self.inside),
            (2, abs(math.log(self.ratio)) - 0.25),
            (2, 0.3 - self.stands_out),
            (3, 0.3 - self.upright),
            (3, self.roll - 0.8 * ON_ITS_SIDE),
            (6, self.looks_up),
            (2, math.log(LITTLE / max(self.covered, NOTHING))),
        )
        return sum(weight * min(max(0.0, value), MOST) for weight, value in excess)


def check_placement(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    *,
    draw_anyway: bool = False,
    progress: Progress = no_progress,
) -> tuple[Remark, ...]:
    """Warnings about a head that hardly is where it is, seen from exo.

    Args:
        draw_anyway: warn of what can't be, too, in place of refusing it.

    Raises:
        EgoXInputError: a head from which nothing of the scene is seen, or that is far from all of
            it; poses that don't fit the scene.
    """
    heads = seen_heads(scene, ego_in_scene(scene, trajectory))
    if not heads:
        return ()
    words, impossible = measure(heads).words()
    if not words:
        return ()
    misfits = {}
    for done, (name, changes) in enumerate(READINGS.items()):
        progress(done, len(READINGS), "readings of poses and depth")
        misfits[name] = measure([seen.read(changes) for seen in heads]).misfit
    if float(heads[0].depth_m.nanmedian()) > SATURATED_M:
        misfits[MILLIMETRES] = 0.0
    best = sorted(misfits, key=misfits.__getitem__)
    most = min(FITS, misfits[best[0]] + ALIKE)
    fitting = [
        name  # units that are hardly apart can't be told apart
        for place, name in enumerate(best)
        if misfits[name] <= most and (place < 2 or {name, best[0]} <= DEPTH_UNITS.keys())
    ]
    if "take" not in (scene.exo.world, trajectory.ego.world):
        fitting = [*fitting[:1], EXO_MISSING]
    got = ", ".join(words)
    fix = f"it would be right with {', or '.join(fitting or ['other poses or depth'])}"
    if impossible and not draw_anyway:
        raise EgoXInputError(
            "place of the ego camera",
            got=got,
            expected="a head that exo sees, or nearly",
            fix=f"{fix}; draw_anyway draws it as it is",
        )
    how = "can't" if impossible else "hardly can"
    said = f"warning: the ego camera {how} be where it is: {got}; {fix}"
    return (Remark(said, RemarkKind.STRANGE_PLACE),)


def seen_heads(
    scene: PointCloud,
    # The ego camera in its own world.
    ego: CameraPath,
) -> list[SeenHead]:
    """Poses and thinned depth of a few frames, for each exo camera whose depth is known."""
    frames, heads = sample_frames(scene.frame_count, FRAMES), []
    for part in scene.parts or (scene,):
        if part.sight is None:
            continue
        depth = part.sight.depth
        width, height = depth.exo.camera.stored_size
        size = (EXO_HEIGHT, round(EXO_HEIGHT * width / height))
        camera = depth.exo.camera.rescale(*size[::-1])
        rays = camera.depth_rays()
        maps = torch.nn.functional.interpolate(
            depth.depth_m[frames][None].float(), size, mode="nearest-exact"
        )[0]
        heads.append(
            SeenHead(
                exo=CameraPath(
                    lens=camera,
                    w2c=torch.stack([part.exo.at(t) for t in frames]),
                    world=part.exo.world,
                ),
                rays=rays.flatten(0, 1),
                depth_m=(maps * rays[..., 2]).flatten(1),
                ego=ego.resized(EGO_SIDE, EGO_SIDE).of(torch.tensor(frames)),
            )
        )
    return heads


def measure(heads: Sequence[SeenHead]) -> Placement:
    """Measure where the head is."""
    cells, rows = torch.zeros(len(heads[0].ego.w2c), EGO_SIDE**2), []
    for seen_head in heads:
        ego, poses = seen_head.ego.camera, seen_head.ego.w2c
        rays, depth, exo = seen_head.rays, seen_head.depth_m, seen_head.exo
        # Share of the ego picture
        seen = transform(compose(poses, invert(exo.w2c)).float(), rays * depth[..., None])
        distance, (_, cell, shown) = seen.norm(dim=-1), ego.look_up(seen)
        shown &= distance < PriorOptions().far_m
        cells.scatter_reduce_(1, cell, shown.float(), "amax")
        # The surface at the head, and around
        head = transform(exo.w2c, camera_centre(poses)[:, None]).float()  # [F, 1, 3]
        z = head[..., 2]
        inside = exo.camera.look_up(head)[2]
        off = (rays * z[..., None] - head)[..., :2].norm(dim=-1)
        reach = (1.5 * z / exo.camera.fy).clamp_min(HEAD_M)
        own = depth.masked_fill((off > reach) | ~inside, torch.nan)
        surface = own.nanquantile(0.1, 1, keepdim=True)
        ring = depth.masked_fill((off < 2 * reach) | (off > 4 * reach), torch.nan)
        rows.append(
            (
                inside,
                z / surface,
                ring.nanquantile(0.5, 1, keepdim=True) / surface,
                distance.nan_to_num(math.inf).amin(1, keepdim=True) / depth.nanquantile(0.95),
                compose(seen_head.ego.upright_w2c, invert(exo.upright_w2c))[:, None, :, :3],
            )
        )
    inside, ratio, out, far, axes = map(torch.stack, zip(*rows, strict=True))
    right, upright, gaze = axes[..., 0, 1], axes[..., 1, 1], axes[..., 2, :]
    roll = torch.atan2(right.abs(), upright) * (right.hypot(upright) > FLAT)
    measured = (
        inside.double().mean((1, 2)).max(),
        ratio.nanmedian(),
        out.nanmedian().log(),
        cells.mean(),
        far.amin(0).median(),
        upright.mean(),
        roll.mean(),
        (-gaze[..., 1] - EXO_DOWN * gaze[..., 2].clamp_min(0)).mean(),
    )
    return Placement(*map(float, measured))


def flipped(w2c: Tensor) -> Tensor:
    """Poses in OpenGL's axes as ours, or the other way round."""
    return w2c * w2c.new_tensor([[1.0], [-1.0], [-1.0]])


def rolled(quarters: int) -> Change:
    """Poses about the optical axis, as of a sensor that is turned in its housing."""
    c, s = ((0.0, 1.0), (0.0, -1.0))[quarters < 0]
    return lambda w2c: w2c.new_tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ w2c


def scaled(factor: float | tuple[float, ...]) -> Change:
    """Depth, or with one factor for each column poses, in another unit."""
    return lambda values: values * values.new_tensor(factor)


AXES: Mapping[str, Change] = {
    "that are camera-to-world: invert them": invert,
    "in OpenGL's axes: negate rows y and z of each w2c": flipped,
    "in OpenGL's axes and camera-to-world: invert them, then negate rows y and z": lambda w2c: (
        flipped(invert(w2c))
    ),
}
UNITS = (
    ("millimetres", 0.001),
    ("centimetres", 0.01),
    # A PNG's units are read as millimetres, other files' as metres.
    ("1/256 m", 1000 / 256),
    ("1/256 m", 1 / 256),
    ("1/4000 m", 0.25),
    ("1/4000 m", 0.00025),
    ("1/5000 m", 0.2),
    ("1/5000 m", 0.0002),
)
DEPTH_UNITS: Mapping[str, Mapping[str, Change]] = {
    f"depth in {unit}: scale it by {factor:g}": {"depth_m": scaled(factor)}
    for unit, factor in UNITS
}
READINGS: Mapping[str, Mapping[str, Change]] = {
    "depth that is inverse (1/m): give one over it": {"depth_m": torch.reciprocal},
    "depth that is disparity: give it as video depth, together with a metric one": {
        "depth_m": lambda d: 2 / (d / d.nanquantile(0.95) + 0.2)  # 1.7 to 10 m
    },
    **{
        f"{prefix}poses {words}": dict.fromkeys(whose, change)
        for words, change in AXES.items()
        for prefix, whose in (("", POSES), ("ego ", POSES[:1]), ("exo ", POSES[1:]))
    },
    **{
        f"ego poses of an upright picture with the lens of a turned sensor, or the reverse: choose "
        f"the camera that they are of (they are turned by {90 * quarters} degrees)": {
            "ego": rolled(quarters)
        }
        for quarters in (1, -1)
    },
    **DEPTH_UNITS,
    **{
        f"poses in {unit}: scale their t by {factor:g}": dict.fromkeys(
            POSES, scaled((1, 1, 1, factor))
        )
        for unit, factor in UNITS[:2]
    },
}
