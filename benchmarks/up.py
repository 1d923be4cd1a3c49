"""Measure the errors of the estimated up direction on synthetic takes, and whether they are within
the stated uncertainty.

    python3 run.py bench up [--first-seed 0] [--clips 40] [--save]

To be run again after a change of ``egox_core/trajectory/gravity.py``, with seeds that nobody has
seen. Cameras stand near the floor, on a tripod or under the ceiling, pitched evenly from -60 to 60
degrees and rolled by 5 (standard deviation, 10 at most). Heads are rolled by 6 degrees in the mean
and 4 within. A network's depth is bent, too: inverse depth is shifted by a tenth of its median
(standard deviation), which slants every surface, and by half of it where nothing can be told by
surfaces, as in one of five real takes. Worlds are z up, y up and the first camera's in turn. The
last columns are of all clips in the first camera's, where no axis helps, and the last row is of all
clips. Without surfaces only both cameras are known.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras import CameraPath, camera_centre, compose, invert, look_at, transform
from egox_core.trajectory import Up, find_up
from egox_core.types import DepthVideo
from lab.drawn import DepthErrors, SyntheticSpec, add_depth_errors
from lab.drawn.layout import draw_layout
from lab.drawn.take import render_layout

GROUPS = {
    "upright, exact depth": ("usual", "exact"),
    "upright, a network's depth": ("usual", "network"),
    "upright, depth of no use": ("usual", "useless"),
    "upright, no surfaces": ("usual", "none"),
    "bent or climbing, a network's depth": ("bent", "network"),
    "lying, a network's depth": ("lying", "network"),
    "lying, no surfaces": ("lying", "none"),
}
DEPTH_BENDS = {"network": 0.1, "useless": 0.5}
EXO_PLACES = ("usual",) * 6 + ("low",) * 3 + ("ceiling",)
PITCH_RANGE_DEG, ROLL_DEG = (-60.0, 60.0), (5.0, 10.0)
EGO_ROLL_DEG = (6.0, 4.0)
Z_UP_FROM_Y_UP = [[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]
LEAST_FLOOR_SHARE, MOST_FLOOR_DISTANCE_M = 0.05, 0.02
"""Share of the exo picture that is floor where one is seen, and how far off its height a point
is."""


@dataclass(frozen=True)
class Clip:
    """Cameras, depth and true up direction of a synthetic clip."""

    exo: CameraPath
    ego: CameraPath
    depths: list[DepthVideo]
    up: Tensor  # [3] the true answer
    sees_floor: bool

    def to_world(self, world_from_room: Tensor) -> "Clip":  # [3, 4]
        """Transform the clip's cameras and up direction to another world coordinate system."""
        room_from_world = invert(world_from_room)
        exo_path, ego_path = (
            replace(path, w2c=compose(path.w2c, room_from_world)) for path in (self.exo, self.ego)
        )
        return replace(
            self,
            exo=exo_path,
            ego=ego_path,
            depths=[replace(depth, exo=exo_path) for depth in self.depths],
            up=world_from_room[:, :3] @ self.up,
        )


def draw_clip(group: str, seed: int) -> Clip:
    """Draw a synthetic clip of one group of test cases, in world coordinates with z up."""
    rng = np.random.default_rng([seed, list(GROUPS).index(group)])
    posture, depth_kind = GROUPS[group]
    if posture == "bent":
        posture = str(rng.choice(("bent", "climbing")))
    take_spec = SyntheticSpec(
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
        exo_place=str(rng.choice(EXO_PLACES)),
    )
    scene_layout = draw_layout(take_spec)
    exo_path = turn_exo(rng, scene_layout.scene.exos[0])
    take = render_layout(
        replace(scene_layout, scene=replace(scene_layout.scene, exos=(exo_path,))), take_spec
    )
    points = take.exo.camera.depth_rays() * take.exo_depth_m[0, ..., None]
    points = transform(invert(take.exo.w2c[0]).float(), points)
    depth_video = take.depth_video()
    if depth_kind in DEPTH_BENDS:
        depth_video = add_depth_errors(
            depth_video, DepthErrors(bend=DEPTH_BENDS[depth_kind]), seed=seed
        )
    return Clip(
        exo=take.exo,
        ego=roll_ego(rng, take.ego.upright),
        depths=[] if depth_kind == "none" else [depth_video],
        up=torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64),
        sees_floor=float((points[..., 2].abs() < MOST_FLOOR_DISTANCE_M).double().mean())
        > LEAST_FLOOR_SHARE,
    )


def turn_exo(rng: np.random.Generator, exo: CameraPath) -> CameraPath:
    """Rotate the exo camera in place to a random pitch and roll."""
    camera_position, viewing_direction = camera_centre(exo.w2c[0]), exo.w2c[0, 2, :3]
    pitch_rad, roll_deg = np.radians(rng.uniform(*PITCH_RANGE_DEG)), rng.normal() * ROLL_DEG[0]
    level_direction = viewing_direction[:2] / viewing_direction[:2].norm() * math.cos(pitch_rad)
    aim_point = camera_position + torch.cat((level_direction, torch.tensor([math.sin(pitch_rad)])))
    roll_deg = float(np.clip(roll_deg, -ROLL_DEG[1], ROLL_DEG[1]))
    return replace(
        exo, w2c=look_at(camera_position, aim_point, (0.0, 0.0, 1.0), roll_deg).expand_as(exo.w2c)
    )


def roll_ego(rng: np.random.Generator, ego: CameraPath) -> CameraPath:
    """Roll an upright camera path by an angle that varies over time, as a head does."""
    times_s, knot_times_s = ego.frames.times_s, np.arange(0.0, 60.0)
    roll_deg = rng.normal() * EGO_ROLL_DEG[0] + np.interp(
        times_s, knot_times_s, rng.normal(size=len(knot_times_s)) * EGO_ROLL_DEG[1]
    )
    cosine, sine = (torch.from_numpy(f(np.radians(roll_deg))) for f in (np.cos, np.sin))
    roll_matrices = torch.zeros(len(ego.w2c), 3, 3, dtype=torch.float64)
    (
        roll_matrices[:, 0, 0],
        roll_matrices[:, 0, 1],
        roll_matrices[:, 1, 0],
        roll_matrices[:, 1, 1],
    ) = cosine, -sine, sine, cosine
    roll_matrices[:, 2, 2] = 1
    return replace(ego, w2c=roll_matrices @ ego.w2c)


def angle_deg(up: Up, true_direction: Tensor) -> float:
    """Measure the angle in degrees between an estimated up direction and the true one."""
    return math.degrees(math.acos(max(-1.0, min(1.0, float(up.direction @ true_direction)))))


@dataclass(frozen=True)
class Answer:
    """Error and stated uncertainty of one estimated up direction, in degrees."""

    angle_deg: float
    stated_deg: float
    known: bool


def find_answer(clip: Clip) -> Answer:
    """Estimate a clip's up direction and compare it with the true one."""
    up = find_up([clip.exo], clip.ego, clip.depths)
    return Answer(angle_deg(up, clip.up), up.within_deg, up.known)


def world_of_clip(number: int, clip: Clip) -> Tensor:  # [3, 4] from the room
    """Choose a clip's world in turn: z up, y up, the first camera's."""
    z_up = torch.eye(3, 4, dtype=torch.float64)
    y_up = torch.tensor(Z_UP_FROM_Y_UP, dtype=torch.float64)
    return (z_up, y_up, clip.exo.w2c[0])[number % 3]


def figures(answers: list[Answer], suffix: str) -> dict[str, float]:
    """Compute errors and how well the stated uncertainty covers them."""
    angles_deg = np.array([answer.angle_deg for answer in answers])
    stated_deg = np.array([answer.stated_deg for answer in answers])
    up_known = np.array([answer.known for answer in answers])
    named_figures = {
        "median": np.median(angles_deg),
        "95th": np.quantile(angles_deg, 0.95),
        "stated": np.median(stated_deg),
        "inside": (angles_deg <= stated_deg).mean(),
        "inside or not known": ((angles_deg <= stated_deg) | ~up_known).mean(),
        "known": up_known.mean(),
    }
    return {f"{name}{suffix}": float(value) for name, value in named_figures.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=40, help="of each group")
    args = parser.parse_args(arguments)
    answers: dict[str, list[tuple[Answer, Answer]]] = {}
    for group_name in GROUPS:
        for number in range(args.clips):
            clip = draw_clip(group_name, args.first_seed + number)
            own_world_clip = clip.to_world(clip.exo.w2c[0])
            answer_pair = (
                find_answer(clip.to_world(world_of_clip(number, clip))),
                find_answer(own_world_clip),
            )
            floor_name = "floor seen" if clip.sees_floor else "no floor seen"
            answers.setdefault(f"{group_name}, {floor_name}", []).append(answer_pair)
    answers["all"] = [answer_pair for group in list(answers.values()) for answer_pair in group]
    rows = {
        group_name: {"clips": len(pairs)}
        | figures([answer for answer, _ in pairs], "")
        | figures([own_answer for _, own_answer in pairs], ", own world")
        for group_name, pairs in answers.items()
    }
    result = {"first_seed": args.first_seed, "clips": args.clips, "degrees": rows}
    return finish("up", result, args, table(rows))


def table(rows: dict[str, dict[str, float]]) -> str:
    """Format the errors as a Markdown table."""
    column_names = list(next(iter(rows.values())))
    lines = ["| group | " + " | ".join(column_names) + " |", "|---" * (len(column_names) + 1) + "|"]
    for group_name, row in rows.items():
        lines.append(f"| {group_name} | " + " | ".join(f"{x:.2f}" for x in row.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
