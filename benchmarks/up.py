"""Where up is, on drawn takes: errors, and whether they are inside the stated uncertainty.

    python3 run.py bench up [--first-seed 0] [--clips 40] [--save]

To be run again after a change of ``egox_core/trajectory/gravity.py``, with seeds that nobody has seen.
Cameras stand near the floor, on a tripod or under the ceiling, tilted by 5 degrees (standard deviation);
heads are rolled by 6 degrees in the mean and 4 within. A network's depth is bent, too: inverse depth is
shifted by a tenth of its median (standard deviation), which slants every surface. Worlds are z up, y up
and the first camera's in turn; the last columns are of the first camera's alone, where no axis helps.
Without surfaces only both cameras are known.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras import CameraPath, compose, invert
from egox_core.trajectory import Up, find_up
from egox_core.types import DepthVideo
from lab.drawn import DepthErrors, SyntheticSpec, make_take, with_errors

GROUPS = {
    "upright, exact depth": ("usual", "exact"),
    "upright, a network's depth": ("usual", "network"),
    "upright, no surfaces": ("usual", "none"),
    "bent or climbing, a network's depth": ("bent", "network"),
    "lying, a network's depth": ("lying", "network"),
    "lying, no surfaces": ("lying", "none"),
}
PLACES = ("usual",) * 6 + ("low",) * 3 + ("ceiling",)
ROLLED_DEG = (6.0, 4.0)
Z_FROM_Y = [[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]
Clip = tuple[CameraPath, CameraPath, list[DepthVideo], Tensor]


def draw_clip(group: str, seed: int) -> Clip:
    """Draw (exo, ego, depths, upward direction [3] of its world) of a group."""
    rng = np.random.default_rng([seed, list(GROUPS).index(group)])
    posture, depth_kind = GROUPS[group]
    if posture == "bent":
        posture = str(rng.choice(("bent", "climbing")))
    take = make_take(
        SyntheticSpec(
            seed=seed,
            frames=9,
            fps=3.0,
            exo_width=128,
            exo_height=80,
            ego_size=16,
            edge_samples=1,
            texture="plain",
            wearer="drawn",
            turning_deg=float(rng.choice((0, 40))),
            posture=posture,
            exo_place=str(rng.choice(PLACES)),
            exo_roll_deg=5.0,
        )
    )
    world_from_room = (
        torch.eye(3, 4, dtype=torch.float64),
        torch.tensor(Z_FROM_Y, dtype=torch.float64),
        take.exo.w2c[0],
    )[seed % 3]
    exo, ego = (
        replace(path, w2c=compose(path.w2c, invert(world_from_room)))
        for path in (take.exo, _rolled(rng, take.ego.upright))
    )
    depth = replace(take.depth_video(), exo=exo)
    if depth_kind == "network":
        depth = with_errors(depth, DepthErrors(bend=0.1), seed=seed)
    return exo, ego, [] if depth_kind == "none" else [depth], world_from_room[:, 2]


def _rolled(rng: np.random.Generator, ego: CameraPath) -> CameraPath:
    """Roll an upright path as a head does, by an angle that wanders from second to second."""
    times_s, knots_s = ego.frames.times_s, np.arange(0.0, 60.0)
    roll = rng.normal() * ROLLED_DEG[0] + np.interp(
        times_s, knots_s, rng.normal(size=len(knots_s)) * ROLLED_DEG[1]
    )
    cosine, sine = (torch.from_numpy(f(np.radians(roll))) for f in (np.cos, np.sin))
    turn = torch.zeros(len(ego.w2c), 3, 3, dtype=torch.float64)
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = cosine, -sine, sine, cosine
    turn[:, 2, 2] = 1
    return replace(ego, w2c=turn @ ego.w2c)


def off_deg(up: Up, truth: Tensor) -> float:
    """Measure the angle between an answer and the truth."""
    return math.degrees(math.acos(max(-1.0, min(1.0, float(up.direction @ truth)))))


def row(clips: list[Clip]) -> dict[str, float]:
    """Compute the figures of a group."""
    answers = [(find_up([exo], ego, depths), truth) for exo, ego, depths, truth in clips]
    off = np.array([off_deg(up, truth) for up, truth in answers])
    within = np.array([up.within_deg for up, _ in answers])
    up_known = np.array([up.known for up, _ in answers])
    in_own_world = np.arange(len(clips)) % 3 == 2
    return {
        "median": float(np.median(off)),
        "95th": float(np.quantile(off, 0.95)),
        "stated": float(np.median(within)),
        "inside": float((off <= within).mean()),
        "inside or not known": float(((off <= within) | ~up_known).mean()),
        "known": float(up_known.mean()),
        "median, own world": float(np.median(off[in_own_world])),
        "95th, own world": float(np.quantile(off[in_own_world], 0.95)),
        "stated, own world": float(np.median(within[in_own_world])),
        "inside, own world": float((off <= within)[in_own_world].mean()),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=40, help="of each group")
    args = parser.parse_args(arguments)
    first = 3 * math.ceil(args.first_seed / 3)
    rows = {
        group: row([draw_clip(group, seed) for seed in range(first, first + args.clips)])
        for group in GROUPS
    }
    result = {"first_seed": first, "clips": args.clips, "degrees": rows}
    return finish("up", result, args, table(rows))


def table(rows: dict[str, dict[str, float]]) -> str:
    """Format the figures for people."""
    names = list(next(iter(rows.values())))
    lines = ["| group | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for group, figures in rows.items():
        lines.append(f"| {group} | " + " | ".join(f"{x:.2f}" for x in figures.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
