"""Measure the errors of the estimated up direction on drawn takes, and whether they are within the
stated uncertainty.

    python3 run.py bench up [--first-seed 0] [--clips 40] [--save]

To be run again after a change of ``egox_core/trajectory/gravity.py``, with seeds that nobody has
seen. Exo is pitched evenly within 60 degrees and rolled by 5 (standard deviation), heads are rolled
by 6 in the mean and 4 within. A network's depth is bent: inverse depth is shifted by a tenth of its
median, and by half of it where surfaces tell nothing, as in one of five real takes. Worlds are z
up, y up and the first camera's in turn. "Own world" is the first camera's, where no axis helps.
Worlds "as arrays" have cameras alone, and every fourth is pitched by 15 degrees."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras import CameraPath, camera_centre, compose, invert, look_at, transform
from egox_core.trajectory import find_up
from egox_core.types import DepthVideo
from lab.drawn import DepthErrors, SyntheticSpec, add_depth_errors
from lab.drawn.layout import draw_layout
from lab.drawn.take import render_layout

ARRAYS = "as arrays"
EXACT, NETWORK = DepthErrors(low_frequency=0, bleed_px=0, flicker=0), DepthErrors(bend=0.1)
GROUPS = {
    "upright, exact depth": (("usual",), EXACT),
    "upright, a network's depth": (("usual",), NETWORK),
    "upright, depth of no use": (("usual",), DepthErrors(bend=0.5)),
    "upright, no surfaces": (("usual",), None),
    "bent or climbing, a network's depth": (("bent", "climbing"), NETWORK),
    "lying, a network's depth": (("lying",), NETWORK),
    "lying, no surfaces": (("lying",), None),
    ARRAYS: (("usual", "usual", "usual", "usual", "bent", "climbing", "lying"), None),
}
"""Postures of each group, and the errors of its depth. None: there is no depth."""
SMALL = SyntheticSpec(
    texture="plain", exo_width=128, exo_height=80, ego_size=16, frames=9, fps=3.0, edge_samples=1
)
EXO_PLACES = ("usual",) * 6 + ("low",) * 3 + ("ceiling",)
PITCH_DEG, ROLL_DEG, EGO_ROLL_DEG = 60.0, (5.0, 10.0), (6.0, 4.0)
Z_UP, Y_UP, PITCHED = (
    torch.cat((torch.from_numpy(turn.as_matrix()), torch.zeros(3, 1)), 1)
    for turn in Rotation.from_euler("x", [[0], [-90], [15]], degrees=True)
)
LEAST_FLOOR_SHARE, MOST_FLOOR_DISTANCE_M = 0.05, 0.02
"""Share of the exo picture that is floor where one is seen, and how far off a point of it is."""


class Clip(NamedTuple):
    """Hold cameras and depth of a drawn clip, in a room whose z axis is up."""

    exo: CameraPath
    ego: CameraPath
    depths: list[DepthVideo]
    name: str  # of its row

    def error(self, world_from_room: Tensor) -> tuple[float, float, float]:  # [3, 4]
        """Estimate up in a world: its error and stated angle in degrees, and 1 if it is known."""
        room_from_world = invert(world_from_room)
        exo, ego = (replace(x, w2c=compose(x.w2c, room_from_world)) for x in (self.exo, self.ego))
        up = find_up([exo], ego, [replace(depth, exo=exo) for depth in self.depths])
        cosine = float(up.direction @ world_from_room[:, 2])
        return math.degrees(math.acos(np.clip(cosine, -1, 1))), up.within_deg, float(up.known)


def draw_clip(group: str, seed: int) -> Clip:
    """Draw a clip of one group."""
    rng = np.random.default_rng([seed, list(GROUPS).index(group)])
    postures, depth_errors = GROUPS[group]
    drawn: dict[str, Any] = {"turning_deg": float(rng.choice((0, 40)))}
    drawn |= {"posture": str(rng.choice(postures)), "exo_place": str(rng.choice(EXO_PLACES))}
    spec = replace(SMALL, seed=seed, wearer="drawn", **drawn)
    layout = draw_layout(spec)
    exo = turn_exo(rng, layout.scene.exos[0])
    ego = roll_ego(rng, layout.scene.ego.upright)
    if depth_errors is None:
        return Clip(exo, ego, [], group)
    take = render_layout(replace(layout, scene=replace(layout.scene, exos=(exo,))), spec)
    points = take.exo.camera.depth_rays() * take.exo_depth_m[0, ..., None]
    heights_m = transform(invert(take.exo.w2c[0]).float(), points)[..., 2]
    depth = add_depth_errors(take.depth_video(), depth_errors, seed=seed)
    is_floor_seen = (heights_m.abs() < MOST_FLOOR_DISTANCE_M).float().mean() > LEAST_FLOOR_SHARE
    return Clip(take.exo, ego, [depth], f"{group}, {'floor' if is_floor_seen else 'no floor'} seen")


def turn_exo(rng: np.random.Generator, exo: CameraPath) -> CameraPath:
    """Turn the exo camera in its place to any pitch and roll."""
    position, direction = camera_centre(exo.w2c[0]), exo.w2c[0, 2, :3]
    pitch = math.radians(rng.uniform(-PITCH_DEG, PITCH_DEG))
    level_direction = direction[:2] / direction[:2].norm() * math.cos(pitch)
    target = position + torch.cat((level_direction, torch.tensor([math.sin(pitch)])))
    roll_deg = float(np.clip(rng.normal() * ROLL_DEG[0], -ROLL_DEG[1], ROLL_DEG[1]))
    return replace(exo, w2c=look_at(position, target, (0, 0, 1), roll_deg).expand_as(exo.w2c))


def roll_ego(rng: np.random.Generator, ego: CameraPath) -> CameraPath:
    """Roll an upright camera path by an angle that varies over time, as a head does."""
    knots_deg = rng.normal() * EGO_ROLL_DEG[0] + rng.normal(size=60) * EGO_ROLL_DEG[1]
    rolls_deg = np.interp(ego.frames.times_s, np.arange(60), knots_deg)
    rolls = Rotation.from_euler("z", rolls_deg[:, None], degrees=True).as_matrix()
    return replace(ego, w2c=torch.from_numpy(rolls) @ ego.w2c)


def figures(errors: list[tuple[float, float, float]], suffix: str = "") -> dict[str, float]:
    """Compute errors and how well the stated uncertainty covers them."""
    angle_deg, stated_deg, known = np.array(errors).T
    return {
        f"median{suffix}": float(np.median(angle_deg)),
        f"95th{suffix}": float(np.quantile(angle_deg, 0.95)),
        f"stated{suffix}": float(np.median(stated_deg)),
        f"inside{suffix}": float((angle_deg <= stated_deg).mean()),
        f"known{suffix}": float(known.mean()),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=40, help="of each group")
    args = parser.parse_args(arguments)
    errors, own_errors = {}, {}
    for group in GROUPS:
        for number in range(args.clips):
            clip = draw_clip(group, args.first_seed + number)
            worlds = (Z_UP, Y_UP, clip.exo.w2c[0], *([PITCHED] if group == ARRAYS else []))
            errors.setdefault(clip.name, []).append(clip.error(worlds[number % len(worlds)]))
            own_errors.setdefault(clip.name, []).append(clip.error(clip.exo.w2c[0]))
    for table in (errors, own_errors):
        table["all"] = [error for row in table.values() for error in row]
    rows = {
        name: {"clips": len(row)} | figures(row) | figures(own_errors[name], ", own world")
        for name, row in errors.items()
    }
    lines = ["| group | " + " | ".join(rows["all"]) + " |", "|---" * (len(rows["all"]) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{x:.2f}" for x in row.values()) + " |")
    result = {"first_seed": args.first_seed, "clips": args.clips, "degrees": rows}
    return finish("up", result, args, "\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
