"""Measure how drawn rooms' videos are turned against their path, and turn them back.

    python3 run.py bench turned --seed N [--rooms 32] [--straightened 24] [--videos FILE ...]

For whoever changes ``egox_core/metrics``: N is a seed that nobody has seen. Four rooms after each
other have one texture. *exact*: the true video, its path turned by up to 3 degrees. *look*: by 3 to
22, the video with a model's tint, vignette, blur of 2 px and 10 % of another room. *wrong*: another
room's video, and the drawn one of each FILE of the authors. *straightened*: the video drawn from
heads turned by 5 to 22 degrees, whose PSNR within .9 of the disk is compared before and after it
is turned back as measured and as it truly was turned.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from benchmarks.real_outputs import read_parts
from benchmarks.support.model_look import with_look
from benchmarks.support.record import bench_parser, finish
from egox_core.metrics import ClipTurn, PathViews, straighten_picture
from egox_core.scene import build_scene
from egox_core.types import PointCloud
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.drawn.shading import crease_neighbours
from lab.drawn.views import Renderer

TEXTURES = ("plain", "papered", "detailed", "soft")
SIDE, FRAMES, CLIP_S = 224, 9, 2.45
DISK = 200 / 224
BINS_DEG = (5, 10, 15, 20, 22)


def draw_room(seed: int, number: int) -> tuple[SyntheticTake, PointCloud]:
    spec = SyntheticSpec(
        seed=seed + number,
        frames=FRAMES,
        fps=FRAMES / CLIP_S,
        exo_width=392,
        exo_height=SIDE,
        ego_size=SIDE,
        texture=TEXTURES[number // 4 % len(TEXTURES)],  # each with each of BINS_DEG
    )
    take = make_take(spec)
    return take, build_scene(take.exo_frames(), take.depth_video())


def random_turn(rng: np.random.Generator, least_deg: float, most_deg: float) -> ClipTurn:
    """Draw a turn about any axis, seldom about the line of sight."""
    axis = rng.normal(size=3) * (1, 1, 0.6)
    vector = axis / np.linalg.norm(axis) * rng.uniform(least_deg, most_deg)
    return replace(ClipTurn.unjudged(""), turn_deg=torch.from_numpy(vector), interval_deg=0.0)


def measure(kind: str, turn: ClipTurn, views: PathViews, video: Tensor) -> dict:
    found = views.clip_turn(video)
    off = Rotation.from_matrix((found.rotation.T @ turn.rotation).numpy()).magnitude()
    off_deg, interval_deg = float(np.degrees(off)), found.interval_deg
    row = {"kind": kind, "true_deg": turn.angle_deg, "judged": found.judged, "score": found.score}
    print(*row.values(), f"{off_deg:.2f} {interval_deg:.2f}", file=sys.stderr, flush=True)
    return row | {"off_deg": off_deg, "interval_deg": interval_deg}


def straighten(take: SyntheticTake, scene: PointCloud, other: Tensor, turn: ClipTurn, rng) -> dict:
    """Turn a video of turned heads back, and compute what that gains."""
    truth, shown, camera = take.ego_frames(), turn.correct_path(take.trajectory()), take.ego.camera
    drawn_scene = replace(take.scene, ego=shown.ego)
    creases = crease_neighbours(drawn_scene)
    renderer = Renderer(drawn_scene, shown.ego, creases, take.spec.edge_samples)
    levels = renderer.render_full(list(range(FRAMES)), drawn_scene.indices(head=False)).rgb
    drawn = with_look(levels.reshape(truth.shape).clamp(0, 1), other, rng)
    views = PathViews.of(scene, take.trajectory())
    found = views.clip_turn(drawn)
    straight, best = (straighten_picture(drawn, known, camera)[0] for known in (found, turn))
    again = straighten_picture(straight, views.clip_turn(straight), camera)[0]
    disk_mask = camera.axis_distance_px() < DISK * SIDE / 2
    before, after, possible = (
        float(-10 * (video - truth)[:, disk_mask].square().mean((1, 2)).log10().mean())
        for video in (drawn, straight, best)
    )
    row = {"true_deg": turn.angle_deg, "found_deg": found.angle_deg, "equal": again is straight}
    row |= {"gain_db": after - before, "possible_db": possible - before}
    print(*row.values(), file=sys.stderr, flush=True)
    return row


def table(rows: list[dict], straightened: list[dict]) -> str:
    def values(part: list[dict], *names: str) -> list[np.ndarray]:
        return [np.array([row[name] for row in part]) for name in names]

    lines = []
    for kind in ("exact", "look") if rows else ():
        judged = [row for row in rows if row["kind"] == kind and row["judged"]]
        off, interval = values(judged, "off_deg", "interval_deg")
        lines.append(
            f"{kind}: {len(judged)} of {sum(row['kind'] == kind for row in rows)} judged, off by "
            f"{np.quantile(off, (0.5, 0.9, 1)).round(2)} degrees (median, 90 %, worst); the "
            f"interval holds in {(off <= interval).sum()}, half-width {np.median(interval):.2f}"
        )
    wrong = [row for row in rows if row["kind"].startswith("wrong")]
    named = [row["kind"] for row in wrong if row["judged"]]
    lines.append(f"wrong pairs: {len(named)} of {len(wrong)} judged {'; '.join(named)}")
    bins = zip(BINS_DEG, BINS_DEG[1:], strict=False) if straightened else ()
    for least, most in bins:
        part = [row for row in straightened if least <= row["true_deg"] < most]
        gain, possible, equal = values(part, "gain_db", "possible_db", "equal")
        lines.append(
            f"{least} to {most} degrees: {gain.mean():+.2f} dB of {possible.mean():+.2f}, worst "
            f"{gain.min():+.2f}; turned once more: equal in {equal.sum()} of {len(part)}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rooms", type=int, default=32)
    parser.add_argument("--straightened", type=int, default=24)
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    args = parser.parse_args(arguments)
    rng, rows, straightened = np.random.default_rng(args.seed), [], []
    wrong_videos = {file.stem: read_parts(file, 6)[1] for file in args.videos}
    other = draw_room(args.seed, -1)[0].ego_frames()
    for number in range(max(args.rooms, args.straightened)):
        take, scene = draw_room(args.seed, number)
        video, path = take.ego_frames(), take.trajectory()
        if number < args.rooms:
            for kind, least, most in (("exact", 0, 3), ("look", 3, 22), ("look", 3, 22)):
                turn = random_turn(rng, least, most)
                shown = video if kind == "exact" else with_look(video, other, rng)
                turned_path = replace(turn, turn_deg=-turn.turn_deg).correct_path(path)
                views = PathViews.of(scene, turned_path)
                rows.append(measure(kind, turn, views, shown))
            views = PathViews.of(scene, path)
            for name, shown in {"room": other, **wrong_videos}.items():
                rows.append(measure(f"wrong {name}", random_turn(rng, 0, 0), views, shown))
        if number < args.straightened:
            turn = random_turn(rng, *BINS_DEG[number % 4 : number % 4 + 2])
            straightened.append(straighten(take, scene, other, turn, rng))
        other = video
    result = {"seed": args.seed, "rows": rows, "straightened": straightened}
    return finish("turned", result, args, table(rows, straightened))


if __name__ == "__main__":
    raise SystemExit(main())
