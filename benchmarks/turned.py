"""Measure how drawn rooms' videos are turned against their path, and turn them back.

    python3 run.py bench turned --seed N [--rooms 16] [--straightened 20] [--videos FILE ...]

For whoever changes ``egox_core/metrics``: N is a seed that nobody has seen. Rooms have four
textures in turn. *exact*: the true video, its path turned by up to 3 degrees. *look*: by 3 to 20,
the video with a model's tint, vignette, blur of 2 px and 10 % of another room. *wrong*: videos of
other rooms, and the ego view (rightmost square) of each FILE. *straightened*: the video drawn
from heads turned by 5 to 10 degrees, whose PSNR within .9 of the disk is compared before and after
it is turned back as measured and as it truly was turned.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras import CameraModel
from egox_core.metrics import ClipTurn, PathViews, straighten_picture
from egox_core.scene import build_scene
from egox_core.types import CameraTrajectory, PointCloud
from egox_core.video import decode_frames, probe_video, resize_picture
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.drawn.shading import crease_neighbours
from lab.drawn.views import Renderer

TEXTURES = ("plain", "papered", "detailed", "soft")
SIDE = 224
CLIP_S = 2.45  # of 49 frames
OFF_AND_INTERVAL = ("off_deg", "interval_deg")
DISK = 200 / 224
WRONG_ROOMS, PINHOLE_DEG = 10, 75.0


class Room(NamedTuple):
    """Drawn room that videos are compared with."""

    seed: int
    take: SyntheticTake
    scene: PointCloud


def draw_room(seed: int, number: int, frames: int) -> Room:
    spec = SyntheticSpec(
        seed=seed + number,
        frames=frames,
        fps=frames / CLIP_S,
        exo_width=392,
        exo_height=SIDE,
        ego_size=SIDE,
        texture=TEXTURES[number % len(TEXTURES)],
    )
    take = make_take(spec)
    return Room(seed + number, take, build_scene(take.exo_frames(), take.depth_video()))


def random_turn(rng: np.random.Generator, least_deg: float, most_deg: float) -> ClipTurn:
    """Draw a turn about any axis, seldom about the line of sight."""
    axis = rng.normal(size=3) * (1, 1, 0.6)
    vector = axis / np.linalg.norm(axis) * rng.uniform(least_deg, most_deg)
    return replace(ClipTurn.unjudged(""), turn_deg=torch.from_numpy(vector), interval_deg=0.0)


def turned_back(path: CameraTrajectory, turn: ClipTurn) -> CameraTrajectory:
    """Turn a path so that the video of the former path is turned against it."""
    return replace(turn, turn_deg=-turn.turn_deg).correct_path(path)


def with_look(video: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Give a video the tint, vignette and blur of a model, and 10 % of another room."""
    side = video.shape[1]
    down, right = np.mgrid[:side, :side] / (side - 1) * 2 - 1
    invented_mask = np.zeros((side, side), np.float32)
    while invented_mask.mean() < 0.1:
        centre, radius = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.1, 0.25)
        invented_mask[np.hypot(right - centre[0], down - centre[1]) < radius] = 1
    share = cv2.GaussianBlur(invented_mask, (0, 0), 3.0)[..., None]
    gains = np.array([1.02, 1.05, 1.12]) * rng.uniform(0.95, 1.05, 3)
    vignette = 1 - 0.35 * np.clip(np.hypot(right, down), 0, 1)[..., None] ** 2
    frames = [
        cv2.GaussianBlur(frame * (1 - share) + invented * share, (0, 0), 2.0)
        for frame, invented in zip(video.numpy(), other.numpy(), strict=True)
    ]
    looked = np.stack(frames) * gains * vignette + np.array([0.0, 0.02, 0.06])
    return torch.from_numpy(looked.clip(0, 1)).float()


def read_views(files: list[Path], count: int) -> Iterator[tuple[str, Tensor]]:
    """Read some frames of the rightmost square of videos."""
    for file in files:
        info = probe_video(file)
        numbers = np.linspace(0, info.frame_count - 1, count).round().astype(int).tolist()
        pictures = (picture for _, picture in decode_frames(file, info, sorted(set(numbers))))
        squares = [resize_picture(p[:, -p.shape[0] :], SIDE, SIDE) for p in pictures]
        squares += squares[-1:] * (count - len(squares))
        yield file.stem, torch.from_numpy(np.stack(squares)).float() / 255


def judge(rooms: list[Room], rng: np.random.Generator, files: list[Path]) -> list[dict]:
    """Measure exact, looked and wrong videos of rooms."""
    rows = []

    def measure(
        room: Room, kind: str, turn: ClipTurn, video: Tensor, views: PathViews | None = None
    ) -> None:
        path = turned_back(room.take.trajectory(), turn)
        found = (views or PathViews.of(room.scene, path)).clip_turn(video)
        off = Rotation.from_matrix((found.rotation.T @ turn.rotation).numpy()).magnitude()
        row = {
            "room": room.seed,
            "kind": kind,
            "true_deg": turn.angle_deg,
            "judged": found.judged,
            "off_deg": float(np.degrees(off)),
            "interval_deg": found.interval_deg,
            "score": found.score,
        }
        rows.append(row)
        print(*(f"{v:.2f}" if isinstance(v, float) else v for v in row.values()), file=sys.stderr)

    for number, room in enumerate(rooms):
        video, other = (rooms[(number + k) % len(rooms)].take.ego_frames() for k in (0, 1))
        measure(room, "exact", random_turn(rng, 0, 3), video)
        for _ in range(2):
            measure(room, "look", random_turn(rng, 3, 20), with_look(video, other, rng))
    nothing = random_turn(rng, 0, 0)
    for number, room in enumerate(rooms[:WRONG_ROOMS]):
        views = PathViews.of(room.scene, room.take.trajectory())
        measure(room, "wrong", nothing, rooms[(number + 1) % len(rooms)].take.ego_frames(), views)
        for name, video in read_views(files, len(room.take.ego_rgb)):
            measure(room, f"wrong {name}", nothing, video, views)
    return rows


def disk_psnr(video: Tensor, truth: Tensor, camera: CameraModel) -> float:
    side = min(camera.stored_size)
    disk_mask = camera.axis_distance_px() < DISK * side / 2
    errors = (video - truth)[:, disk_mask].square().mean((1, 2))
    return float(-10 * errors.log10().mean())


def straighten(room: Room, other: Room, rng: np.random.Generator) -> dict[str, float]:
    """Turn a video of turned heads back, and compute what that gains."""
    turn, truth = random_turn(rng, 5, 10), room.take.ego_frames()
    shown = turn.correct_path(room.take.trajectory())
    scene = replace(room.take.scene, ego=shown.ego)
    renderer = Renderer(scene, shown.ego, crease_neighbours(scene), room.take.spec.edge_samples)
    levels = renderer.render_full(list(range(len(truth))), scene.indices(head=False)).rgb
    drawn = with_look(levels.reshape(truth.shape).clamp(0, 1), other.take.ego_frames(), rng)
    found = PathViews.of(room.scene, room.take.trajectory()).clip_turn(drawn)
    row = {"room": room.seed, "true_deg": turn.angle_deg, "found_deg": found.angle_deg}
    ego_camera = room.take.ego.camera
    for name, target in (("", None), ("pinhole ", ego_camera.as_pinhole(PINHOLE_DEG))):
        compared = target or ego_camera
        rows = [
            straighten_picture(drawn, known, ego_camera, target=target)[0]
            for known in (ClipTurn.unmeasured(), found, turn)
        ]
        true_view = straighten_picture(truth, ClipTurn.unmeasured(), ego_camera, target=target)[0]
        before, after, best = (disk_psnr(video, true_view, compared) for video in rows)
        row |= {f"{name}gain_db": after - before, f"{name}best_db": best - before}
    print(*(f"{value:.2f}" for value in row.values()), file=sys.stderr)
    return row


def table(rows: list[dict], straightened: list[dict]) -> str:
    """Say in lines what was measured, each beside what it should be."""
    lines = []
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in ("exact", "look")}
    for kind, of_kind in kinds.items():
        judged = [row for row in of_kind if row["judged"]]
        if not judged:
            continue
        off, interval = (np.array([row[key] for row in judged]) for key in OFF_AND_INTERVAL)
        limits = np.maximum(4, 0.2 * np.array([row["true_deg"] for row in judged]))
        lines.append(
            f"{kind}: {len(judged)} of {len(of_kind)} judged; off by {np.median(off):.2f} degrees "
            f"(median), {np.quantile(off, 0.9):.2f} (90 %), {off.max():.2f} (worst), "
            f"{int((off > limits).sum())} wrong; the interval holds in "
            f"{int((off <= interval).sum())}, half-width {np.median(interval):.2f} (median)"
        )
    wrong = [row for row in rows if row["kind"].startswith("wrong")]
    named = [f"{row['kind']} in {row['room']}" for row in wrong if row["judged"]]
    lines.append(f"wrong pairs: {len(named)} of {len(wrong)} judged {'; '.join(named)}")
    for name in ("", "pinhole ") if straightened else ():
        gain, best = (
            np.array([row[f"{name}{key}"] for row in straightened])
            for key in ("gain_db", "best_db")
        )
        lines.append(
            f"{name}straightened: {gain.mean():+.2f} dB of {best.mean():+.2f} by the true turn "
            f"({gain.sum() / best.sum():.2f}), worst {gain.min():+.2f}, changed "
            f"{int((gain != 0).sum())} of {len(gain)}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--rooms", type=int, default=16)
    parser.add_argument("--straightened", type=int, default=20)
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    args = parser.parse_args(arguments)
    rng = np.random.default_rng(args.seed)
    count = max(args.rooms, args.straightened + 1)
    rooms = [draw_room(args.seed, number, args.frames) for number in range(count)]
    rows = judge(rooms[: args.rooms], rng, args.videos)
    straightened = [straighten(*rooms[k : k + 2], rng) for k in range(args.straightened)]
    result = {"seed": args.seed, "rows": rows, "straightened": straightened}
    return finish("turned", result, args, table(rows, straightened))


if __name__ == "__main__":
    raise SystemExit(main())
